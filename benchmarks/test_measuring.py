"""Whether the measuring protocol holds here: false alarms, power, agreement, disturbance. `make proof`.

Each of them prints its figures; `docs/measuring.md` has those of a real run.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.benchmark import Timer

from bench.meters.feeds import headline
from bench.meters.rounds import (
    Contender,
    Slice,
    block_length,
    paired_rounds,
    time_block,
    times_of,
    warm_up,
)
from bench.meters.subject import Subject, load_subject
from bench.nouns.measurement import measured
from bench.protocol import PROTOCOLS
from bench.statistics import SPEED_MARGIN, ratio, share_interval, speed_verdict
from benchmarks.deeper import LAYERS, MAX_LENGTH, deep_artifacts, short_rows

TRIALS = 100
BATCH = 16
SECONDS = 6.0
PROTOCOL = replace(PROTOCOLS["standard"], min_time_s=0.0, max_time_s=SECONDS)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """Dense of 20 layers, a copy of it, one with half of them, and those with 5 % and 10 % more."""
    rows = short_rows(320)
    layers = {"dense": 0, "copy": 0, "+5 %": 1, "+10 %": 2, "half": -LAYERS // 2}
    folders = deep_artifacts(tmp_path_factory.mktemp("artifacts"), rows, layers)
    return {name: load_subject(name, folder, rows, MAX_LENGTH, "cpu") for name, folder in folders.items()}


class Bout:
    """Two subjects, warmed up, to be measured again and again."""

    def __init__(self, anchor: Subject, variant: Subject) -> None:
        feed = headline(variant, BATCH)
        self.slices: list[Slice] = feed.contents(variant)
        self.contenders = [Contender(each.name, feed.calls(each)) for each in (anchor, variant)]
        for contender in self.contenders:
            warm_up(contender, self.slices, "cpu", PROTOCOL)

    def paired(self, seed: int) -> tuple[float, float, float]:
        """The speed-up and its interval, by the protocol."""
        rounds, _ = paired_rounds(self.contenders, self.slices, "cpu", PROTOCOL, seed)
        anchor_s, variant_s = (times_of(rounds, each.name) for each in self.contenders)
        value, (low, high), _ = ratio(anchor_s, variant_s)
        self.count = len(anchor_s)
        return value, low, high

    def one_after_the_other(self) -> float:
        """The speed-up as it is commonly had: each alone, as many blocks as the rounds before, medians."""
        length = block_length(self.contenders, "cpu", PROTOCOL)
        medians_s = []
        for contender in self.contenders:
            calls = [contender.calls[i % len(contender.calls)] for i in range(self.count * length)]
            blocks = [calls[i : i + length] for i in range(0, len(calls), length)]
            medians_s.append(statistics.median(time_block(block, "cpu")[0] for block in blocks))
        return medians_s[0] / medians_s[1]


def word(interval: tuple[float, float, float]) -> str:
    """The verdict on a measured speed-up."""
    value, low, high = interval
    return speed_verdict(measured("speedup", value, "trial", (low, high)), SPEED_MARGIN).word


def say(benchmark: BenchmarkFixture, **figures: object) -> None:
    """Print figures, and keep them with the benchmark."""
    benchmark.extra_info.update(figures)
    stolen = psutil.cpu_times_percent().steal
    print(f"\n{benchmark.name}: {figures}, steal {stolen:.1f} %")


def with_interval(hits: int, trials: int) -> str:
    low, high = share_interval(hits, trials)
    return f"{hits} of {trials} [{low:.1%}, {high:.1%}]"


def test_a_model_against_itself_is_neither_faster_nor_slower(
    benchmark: BenchmarkFixture, subjects: dict[str, Subject]
) -> None:
    bout = Bout(subjects["dense"], subjects["copy"])
    words: Counter[str] = Counter()
    paired: list[float] = []
    alone: list[float] = []
    rounds: list[int] = []

    def trial() -> None:
        found = bout.paired(seed=len(paired))
        words[word(found)] += 1
        paired.append(abs(found[0] - 1))
        alone.append(abs(bout.one_after_the_other() - 1))
        rounds.append(bout.count)

    psutil.cpu_times_percent()
    benchmark.pedantic(trial, rounds=TRIALS)
    alarms = words["faster"] + words["slower"]
    say(
        benchmark,
        words=dict(words),
        false_alarms=with_interval(alarms, TRIALS),
        median_rounds=statistics.median(rounds),
        median_error_paired=f"{statistics.median(paired):.2%}, worst {max(paired):.1%}",
        median_error_one_after_the_other=f"{statistics.median(alone):.2%}, worst {max(alone):.1%}",
    )
    assert alarms <= 2


@pytest.mark.parametrize(("name", "least"), [("+5 %", 90), ("+10 %", 99)])
def test_added_work_is_found(
    benchmark: BenchmarkFixture, subjects: dict[str, Subject], name: str, least: int
) -> None:
    bout = Bout(subjects["dense"], subjects[name])
    words: Counter[str] = Counter()
    ratios: list[float] = []

    def trial() -> None:
        found = bout.paired(seed=len(ratios))
        words[word(found)] += 1
        ratios.append(found[0])

    psutil.cpu_times_percent()
    benchmark.pedantic(trial, rounds=TRIALS)
    times_s = benchmark.stats.stats.data
    say(
        benchmark,
        words=dict(words),
        found=with_interval(words["slower"], TRIALS),
        median_ratio=round(statistics.median(ratios), 4),
        seconds_a_trial=f"median {statistics.median(times_s):.1f}, most {max(times_s):.1f}",
    )
    assert words["slower"] >= least


def test_it_agrees_with_torchs_own_timer(benchmark: BenchmarkFixture, subjects: dict[str, Subject]) -> None:
    """The same calls, threads and inputs, in turns in random order."""
    bout = Bout(subjects["dense"], subjects["copy"])
    calls = bout.contenders[0].calls
    length = block_length(bout.contenders[:1], "cpu", PROTOCOL)
    rng = random.Random(0)
    ours: list[float] = []
    torchs: list[float] = []

    def by_torch(call: object) -> None:
        timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
        torchs.append(timer.timeit(length).median)

    def round_() -> None:
        call = rng.choice(calls)
        ways = [
            lambda: ours.append(time_block([call] * length, "cpu")[0] / length),
            lambda: by_torch(call),
        ]
        for way in rng.sample(ways, len(ways)):
            way()

    benchmark.pedantic(round_, rounds=200, warmup_rounds=5)
    value, (low, high), _ = ratio(ours, torchs)
    say(benchmark, ours_over_torchs=f"{value:.4f} [{low:.4f}, {high:.4f}]")
    assert abs(value - 1) < 0.02


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def test_a_busy_machine_does_not_move_the_ratio(
    benchmark: BenchmarkFixture, subjects: dict[str, Subject]
) -> None:
    bout = Bout(subjects["dense"], subjects["half"])
    alone: list[float] = []
    beside: list[float] = []

    def round_() -> None:
        alone.append(bout.paired(seed=len(alone))[0])
        with busy(1):
            beside.append(bout.paired(seed=len(alone))[0])

    benchmark.pedantic(round_, rounds=8)
    moved = statistics.median(beside) / statistics.median(alone) - 1
    say(benchmark, alone=spread(alone), beside_a_busy_process=spread(beside), moved=f"{moved:+.2%}")
    assert abs(moved) < 0.03


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
