"""Whether a gate can be trusted here: how often it stops what has not changed, and finds what is 10 % slower.

Every measurement is made in a process of its own, as those of a run are, and judged by the product's own
rule. `make proof-gate`; `docs/measuring.md` and the README have the figures of a real run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.compare import Shift, gate_word
from bench.nouns.comparison import GateWord, Threshold
from bench.nouns.measurement import Measurement
from bench.statistics import pooled, quotient, share_interval
from bench.workers import call_apart, start_server
from benchmarks.deeper import deep_artifacts, short_rows
from benchmarks.duel import duel

DECISIONS, AT_ONCE = 300, 2
ALLOWED = Threshold(metric="speedup", amount=0.05)
MEASURED: dict[str, list[Measurement]] = {}


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Measurement]:
    """Measures the named artifact against dense."""
    layers = {"dense": 0, "copy": 0, "+10 %": 1}
    folders = deep_artifacts(tmp_path_factory.mktemp("artifacts"), short_rows(320), layers, depth=10)
    context = start_server()

    return lambda name, seed: call_apart(context, duel, folders["dense"], folders[name], seed)


def decision(before: list[Measurement], after: Measurement) -> GateWord:
    """What a gate of 5 % says of a speed-up, beside an earlier one where there is one."""
    word, _ = gate_word("speedup", Shift(*quotient([after], before)), ALLOWED)
    return word


def say(benchmark: BenchmarkFixture, words: Counter[GateWord], count: int) -> None:
    """Print the decisions."""
    low, high = share_interval(words["fails"], count)
    found = f"{words['fails']} of {count} [{low:.1%}, {high:.1%}]"
    benchmark.extra_info.update(words=dict(words), stopped=found)
    steal = psutil.cpu_times_percent().steal
    print(f"\n{benchmark.name}: {dict(words)}, stopped {found}, steal {steal:.1f} %")


@pytest.mark.parametrize(("name", "least", "most"), [("copy", 0, 3), ("+10 %", 270, DECISIONS)])
def test_two_artifacts(
    benchmark: BenchmarkFixture, measure: Callable[[str, int], Measurement], name: str, least: int, most: int
) -> None:
    """As `bench gate` does: measured in turns, and once more before it fails. Two decisions at a time."""

    def decide(seed: int) -> tuple[Measurement, GateWord]:
        first = measure(name, seed)
        word = decision([], first)
        if word == "fails":
            word = decision([], pooled(first, measure(name, DECISIONS + seed)))
        return first, word

    def all_of_them() -> list[tuple[Measurement, GateWord]]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(decide, range(DECISIONS)))

    psutil.cpu_times_percent()
    made = benchmark.pedantic(all_of_them, rounds=1)
    MEASURED[name] = [first for first, _ in made]
    words = Counter(word for _, word in made)
    say(benchmark, words, DECISIONS)
    assert least <= words["fails"] <= most


@pytest.mark.parametrize(
    ("name", "count", "least", "most"), [("copy", DECISIONS // 2, 0, 2), ("+10 %", DECISIONS, 270, DECISIONS)]
)
def test_two_runs(benchmark: BenchmarkFixture, name: str, count: int, least: int, most: int) -> None:
    """As `bench compare` does: a speed-up beside one of another time, both kept, nothing measured again.

    Of the measurements above, none on two sides of one test; minutes lie between the sides.
    """
    if len(MEASURED) < 2:
        pytest.skip("judges what the tests above have measured")
    earlier, later = MEASURED["copy"][:count], MEASURED[name][-count:]
    words = Counter(decision([before], after) for before, after in zip(earlier, later, strict=True))
    benchmark.pedantic(lambda: decision([earlier[0]], later[0]))
    say(benchmark, words, count)
    assert least <= words["fails"] <= most
