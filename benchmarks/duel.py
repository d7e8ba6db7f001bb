"""One measurement of an artifact against another, by one thread of a process of its own, as in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from bench.meters.feeds import headline
from bench.meters.rounds import Contender, paired_rounds, times_of, warm_up
from bench.meters.subject import load_subject
from bench.nouns.measurement import Measurement, measured
from bench.protocol import PROTOCOLS
from bench.statistics import ratio
from bench.steps.common import prepare_process
from benchmarks.deeper import MAX_LENGTH, short_rows

BATCH = 16
PROTOCOL = replace(PROTOCOLS["quick"], min_rounds=20, max_rounds=200, min_time_s=0.0, max_time_s=4.0)


def duel(anchor: Path, variant: Path, seed: int) -> Measurement:
    """The speed-up of `variant` over `anchor`; `seed` orders the rounds."""
    prepare_process("cpu", seed)
    torch.set_num_threads(1)
    rows = short_rows(320)
    subjects = [
        load_subject(name, folder, rows, MAX_LENGTH, "cpu")
        for name, folder in (("anchor", anchor), ("variant", variant))
    ]
    feed = headline(subjects[-1], BATCH)
    slices = feed.contents(subjects[-1])
    contenders = [Contender(subject.name, feed.calls(subject)) for subject in subjects]
    for contender in contenders:
        warm_up(contender, slices, "cpu", PROTOCOL)
    rounds, _ = paired_rounds(contenders, slices, "cpu", PROTOCOL, seed)
    value, interval, samples = ratio(times_of(rounds, "anchor"), times_of(rounds, "variant"))
    return measured("speedup", value, "perf_counter, paired with anchor", interval, samples)
