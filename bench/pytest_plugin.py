"""A pytest plugin: the fixture `bench_variant`, whose measurements show as pytest-benchmark's own.

pytest imports this module in every session where `bench` is installed, so all that is slow is imported in the
fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.nouns.run import Budget
    from bench.paired import PairedResult


@pytest.fixture
def bench_variant(benchmark: BenchmarkFixture) -> Callable[..., PairedResult]:
    """Measures one model against another: `bench_variant("artifacts/bmp50", over="artifacts/dense", rows=…)`.

    See `docs/pytest.md`. The test is skipped where pytest-benchmark is disabled, and fails in one line where
    something cannot be measured. One measurement a test, as pytest-benchmark has one entry a test.
    """

    def measure(
        variant: str | Path,
        *,
        over: str | Path,
        rows: str | Path | Sequence[str],
        budget: Budget = "quick",
        **settings: Any,
    ) -> PairedResult:
        __tracebackhide__ = True
        from bench.errors import BenchError
        from bench.paired import measure_paired

        claim(benchmark)
        try:
            result = measure_paired(variant, over, rows, budget=budget, **settings)
        except BenchError as error:
            pytest.fail(str(error), pytrace=False)
        record(benchmark, result, budget)
        benchmark.extra_info.update(summary(result), variant=str(variant), over=str(over), budget=budget)
        print(f"{variant} over {over}", *said(result), sep="\n")
        return result

    return measure


def claim(benchmark: BenchmarkFixture) -> None:
    """Mark pytest-benchmark's fixture as used; fails the test where it was, skips it where disabled."""
    __tracebackhide__ = True
    if benchmark._mode:
        pytest.fail("bench_variant: one measurement a test; use pytest.mark.parametrize", pytrace=False)
    benchmark._mode = "bench_variant(...)"
    if benchmark.disabled:
        pytest.skip("benchmarks are disabled, so there is nothing to judge")


def record(benchmark: BenchmarkFixture, result: PairedResult, budget: Budget) -> None:
    """Give pytest-benchmark the variant's times in the rounds that count, a block of a round by its texts.

    `pedantic` takes a fixed number of rounds and times calls in this process; here another process has timed
    a number that the interval's width decided. So what `pedantic` does with its times is done with these.
    """
    from bench.paired import VARIANT
    from bench.protocol import PROTOCOLS

    rounds, protocol = result.scenario.raw, PROTOCOLS[budget]
    assert rounds is not None
    [texts] = set(rounds.rows)
    stats = benchmark._make_stats(iterations=texts)
    for number, time_s in enumerate(rounds.times[VARIANT].values):
        if number not in rounds.discarded:
            stats.update(time_s)
    stats.options |= {
        "timer": "perf_counter",
        "disable_gc": False,
        "warmup": True,
        "min_rounds": protocol.min_rounds,
        "min_time": protocol.min_time_s,
        "max_time": protocol.max_time_s,
    }


def summary(result: PairedResult) -> dict[str, Any]:
    """What of the measurement goes into pytest-benchmark's JSON, as `extra_info`."""
    values = {"value", "ci_low", "ci_high"}
    return {
        "speedup": result.speedup.model_dump(include=values),
        "verdict": result.verdict.model_dump(),
        "throughput": result.throughput.model_dump(include=values),
        "accuracy": result.accuracy.model_dump(exclude={"classes"}) if result.accuracy else None,
        "notes": list(result.notes),
    }


def said(result: PairedResult) -> list[str]:
    """The verdicts and notes as lines, for the output that pytest shows of a failed test."""
    verdicts: list[tuple[str, str, str]] = [("speedup", result.verdict.word, result.verdict.reason)]
    if result.accuracy:
        verdicts.append(("accuracy", result.accuracy.word, result.accuracy.reason))
    return [*(f"{name} {word}: {reason}" for name, word, reason in verdicts), *result.notes]
