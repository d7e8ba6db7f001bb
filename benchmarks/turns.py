"""Contenders timed in turns, so that what slows the machine slows all of them alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

from pytest_benchmark.fixture import BenchmarkFixture


def in_turns(
    benchmark: BenchmarkFixture,
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    warm_up_rounds: int = 0,
) -> dict[str, float]:
    """Median over rounds of each contender's time over the first one's.

    In each round every contender is called once, in random order, and tells its own time in s.
    """
    rng = random.Random(0)
    base, *others = contenders
    ratios: dict[str, list[float]] = {name: [] for name in others}

    def round_() -> None:
        times_s = {name: contenders[name]() for name in rng.sample(list(contenders), len(contenders))}
        for name in others:
            ratios[name].append(times_s[name] / times_s[base])

    benchmark.pedantic(round_, rounds=rounds, warmup_rounds=warm_up_rounds)
    medians = {name: statistics.median(found[warm_up_rounds:]) for name, found in ratios.items()}
    benchmark.extra_info["ratios"] = medians
    print(f"\n{benchmark.name}: " + ", ".join(f"{name} {found:.3f}" for name, found in medians.items()))
    return medians


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """`work` as a contender."""

    def call() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return call
