"""Memory and energy of one variant, in a process of its own, never while anything is timed."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import compressors
from bench.encoding import batches, encode
from bench.meters.energy import energy_findings, open_energy_meter
from bench.meters.findings import Findings
from bench.meters.memory import MemoryWindow
from bench.meters.subject import Subject, synchronise
from bench.protocol import PROTOCOLS
from bench.steps.common import prepare_process
from bench.steps.request import Request
from bench.tasks.stored import read_task
from bench.training import Progress
from compressors.artifact import ARTIFACT, load_tokenizer

WIDEST_BATCHES = 10


def measure_footprint(request: Request, folder: Path, progress: Progress) -> Findings:
    """Peak memory of loading the artifact and classifying the longest rows; energy of all for a while.

    Rows are encoded before the memory window opens, and batched one at a time within it, so that the peak
    is the model's and does not grow with the test set.
    """
    prepare_process(request)
    task = read_task(request.task)
    assert request.artifact is not None
    progress("memory", 0, 2)
    place = request.artifact / ARTIFACT
    tokenizer = load_tokenizer(str(place))
    rows = encode(tokenizer, task.test, request.max_length)
    widest = sorted(rows, key=lambda row: -len(row["input_ids"]))[: WIDEST_BATCHES * request.batch_size]
    window = MemoryWindow(request.device)
    model = compressors.load(place, request.device)
    subject = Subject(request.variant, place, model, request.device, tokenizer.pad_token_id, rows)
    for batch in batches(widest, request.batch_size, subject.pad_token, request.device):
        subject(batch)
    synchronise(request.device)
    findings = window.close()
    progress("energy", 1, 2)
    feed = subject.batches(request.batch_size)
    meter = open_energy_meter(request.device)
    window_s = max(PROTOCOLS[request.budget].energy_window_s, meter.shortest_window_s)
    classified, started = 0, time.perf_counter()
    meter.begin()
    for batch in itertools.cycle(feed):
        subject(batch)
        classified += len(batch["input_ids"])
        if time.perf_counter() - started >= window_s:
            break
    energy = meter.end()
    return findings.add(energy_findings("inference_energy_per_sample", energy, units=classified))
