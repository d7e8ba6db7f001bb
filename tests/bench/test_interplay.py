"""What parts give together: against products and rows whose outcome is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import statistics
from bench.interplay import add_interplay, interplay
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Result
from bench.nouns.verdict import Interplay
from bench.statistics import mean_interval, quotient, speed_verdict
from tests.bench.meters.documents import run_of

RIGHT_ROWS = {"dense": 90, "a": 88, "b": 85, "c": 90, "a+b": 80, "a+b+c": 79}


def ratio(value: float, reach: float = 0.01) -> Measurement:
    return measured("speedup", value, "paired", (value / (1 + reach), value * (1 + reach)))


def row(variant: str, speedup: Measurement, seed: int = 0, status: str = "ok") -> Result:
    return Result.model_validate(
        {
            "variant": variant,
            "parts": [] if variant == "dense" else variant.split("+"),
            "seed": seed,
            "status": status,
            "metrics": {"speedup": speedup},
            "verdicts": {} if variant == "dense" else {"speedup": speed_verdict(speedup, 0.02)},
        }
    )


def together(tmp_path: Path, *rows: Result) -> dict[str, Interplay]:
    """The interplay of each row that has one; of 100 test rows the last ones are wrong."""
    for found in rows:
        lines = [
            {"split": "test", "label": "x", "predicted": "x" if i < right else "y", "seen": False}
            for right in [RIGHT_ROWS.get(found.variant, 90)]
            for i in range(100)
        ]
        text = "\n".join(map(json.dumps, lines)) + "\n"
        (tmp_path / f"{found.variant}.{found.seed}").write_text(text)
    run = run_of(*rows)
    add_interplay(run, lambda result: tmp_path / f"{result.variant}.{result.seed}")
    return {result.variant: result.interplay for result in run.results if result.interplay}


def test_two_parts_that_multiply(tmp_path: Path) -> None:
    found = together(
        tmp_path,
        row("dense", ratio(1.0)),
        row("a", ratio(1.5, 0.001)),
        row("b", ratio(2.0, 0.001)),
        row("a+b", ratio(3.0, 0.001)),
    )
    assert found.keys() == {"a+b"}
    pair = found["a+b"]
    assert pair.alone == {"a": 1.5, "b": 2.0}
    assert pair.word == "multiply"
    assert pair.ratio == pytest.approx(1)
    assert pair.points == pytest.approx((80 - 90 - (88 - 90) - (85 - 90)) / 100)
    assert pair.points_low < pair.points < pair.points_high


@pytest.mark.parametrize(
    ("measured_ratio", "word"), [(2.4, "interfere"), (3.6, "reinforce"), (3.06, "inconclusive")]
)
def test_the_word_says_on_which_side_of_the_product_it_lies(
    tmp_path: Path, measured_ratio: float, word: str
) -> None:
    rows = [("dense", 1.0), ("a", 1.5), ("b", 2.0), ("a+b", measured_ratio)]
    found = together(tmp_path, *(row(name, ratio(value)) for name, value in rows))
    assert found["a+b"].word == word


def test_three_parts_are_compared_with_the_product_of_all(tmp_path: Path) -> None:
    rows = [("dense", 1.0), ("a", 1.5), ("b", 2.0), ("c", 0.5), ("a+b", 3.0), ("a+b+c", 1.5)]
    found = together(tmp_path, *(row(name, ratio(value)) for name, value in rows))
    assert found["a+b+c"].ratio == pytest.approx(1)
    assert found["a+b+c"].points == pytest.approx((79 - 88 - 85 - 90 + 2 * 90) / 100)


def test_without_a_part_alone_nothing_is_said(tmp_path: Path) -> None:
    pair, a = row("a+b", ratio(3.0)), row("a", ratio(1.5))
    dense, b = row("dense", ratio(1.0)), row("b", ratio(2.0))
    failed = row("b", ratio(2.0), status="failed")
    other_seed = row("b", ratio(2.0), seed=1)
    assert not together(tmp_path, dense, a, pair)
    assert not together(tmp_path, dense, a, failed, pair)
    assert not together(tmp_path, dense, a, other_seed, pair)
    assert together(tmp_path, dense, a, b, pair)


def test_a_speedup_without_an_interval_gives_no_comparison(tmp_path: Path) -> None:
    bare = measured("speedup", 2.0, "paired")
    rows = [row("dense", ratio(1.0)), row("a", ratio(1.5)), row("b", bare), row("a+b", ratio(3.0))]
    assert not together(tmp_path, *rows)


def test_rows_of_unlike_machines_are_not_compared(tmp_path: Path) -> None:
    rows = [
        row(*each)
        for each in (("dense", ratio(1.0)), ("a", ratio(1.5)), ("b", ratio(2.0)), ("a+b", ratio(3.0)))
    ]
    assert together(tmp_path, *rows)
    for found in rows[1:]:
        found.interplay, found.machine = None, "ab"
    assert together(tmp_path, *rows), "all on one machine, though it is not the run's"
    rows[1].interplay, rows[1].machine = None, None
    rows[-1].interplay = None
    assert not together(tmp_path, *rows)


positive = st.floats(0.1, 10)
reaches = st.floats(0.0, 0.5)


@given(st.lists(st.tuples(positive, reaches), min_size=2, max_size=4))
def test_the_ratio_lies_in_its_interval_which_is_no_narrower_than_any_ones(
    made: list[tuple[float, float]],
) -> None:
    whole, *parts = [ratio(value, reach) for value, reach in made]
    value, (low, high) = quotient([whole], parts)
    assert value == pytest.approx(whole.value / math.prod(part.value for part in parts))
    assert low <= value * (1 + 1e-9)
    assert value <= high * (1 + 1e-9)
    widest = 2 * math.log1p(max(reach for _, reach in made))
    assert math.log(high / low) >= widest - 1e-9


def test_rows_that_all_agree_are_no_certainty() -> None:
    mean, (low, high) = mean_interval(np.zeros(100, dtype=np.int64))
    assert mean == 0
    assert low < 0 < high
    assert high == pytest.approx(-low)
    assert high < 0.04


def drawn(rng: np.random.Generator, truth: float, shift: float = 0.0, noise: float = 0.03) -> Measurement:
    """A speed-up as a process measures it: 20 rounds with log-normal noise, all of them shifted alike.

    `shift` is the standard deviation over processes; it and `noise` are those of logarithms.
    """
    anchor_s = rng.lognormal(math.log(truth) + rng.normal(0, shift), noise, 20)
    value, interval, _ = statistics.ratio(anchor_s.tolist(), rng.lognormal(0, noise, 20).tolist())
    return measured("speedup", value, "paired", interval)


@pytest.mark.parametrize("truths", [(1.5, 2.0), (1.5, 2.0, 0.7)])
def test_the_interval_of_a_ratio_over_a_product_holds_the_truth(truths: tuple[float, ...]) -> None:
    rng, trials, held = np.random.default_rng(1), 1000, 0
    for _ in range(trials):
        whole = drawn(rng, 0.9 * math.prod(truths))
        _, (low, high) = quotient([whole], [drawn(rng, truth) for truth in truths])
        held += low <= 0.9 <= high
    assert held / trials >= 0.93


@pytest.mark.parametrize("truths", [(1.5, 2.0), (1.5, 2.0, 0.7)])
def test_what_multiplies_is_seldom_said_not_to(tmp_path: Path, truths: tuple[float, ...]) -> None:
    """Processes are shifted so far that one in twenty speed-ups lies beyond the margin of its own verdict."""
    rng, trials, alarms = np.random.default_rng(2), 400, 0
    shift = math.log(1.02) / 1.96
    predictions = tmp_path / "predictions"
    predictions.write_text(json.dumps({"split": "test", "label": "x", "predicted": "x", "seen": False}))
    dense, names = row("dense", ratio(1.0)), "abc"[: len(truths)]
    for _ in range(trials):
        parts = [
            row(name, drawn(rng, truth, shift, 0.001)) for name, truth in zip(names, truths, strict=True)
        ]
        whole = row("+".join(names), drawn(rng, math.prod(truths), shift, 0.001))
        found = interplay(whole, parts, dense, lambda _: predictions)
        assert found is not None
        alarms += found.word in ("interfere", "reinforce")
    assert alarms / trials <= 0.05


@pytest.mark.parametrize("flips", [(0.02, 0.03, 0.04), (0.1, 0.15, 0.2)])
def test_the_interval_of_points_holds_the_truth(flips: tuple[float, ...]) -> None:
    """Of dense's right rows each contender gets a share wrong, of its wrong ones as large a share right."""
    rng, trials, rows, right = np.random.default_rng(3), 1000, 300, 0.85
    # In truth a contender gains (1 - 2 right) x flip over dense.
    truth = (1 - 2 * right) * (flips[0] - flips[1] - flips[2])
    held = 0
    for _ in range(trials):
        dense = (rng.random(rows) < right).astype(np.int64)
        whole, a, b = (np.where(rng.random(rows) < flip, 1 - dense, dense) for flip in flips)
        _, (low, high) = mean_interval(whole + dense - a - b)
        held += low <= truth <= high
    assert held / trials >= 0.93
