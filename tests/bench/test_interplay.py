"""What parts give together: against products and rows whose outcome is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.interplay import add_interplay
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Result
from bench.nouns.verdict import Interplay
from bench.statistics import mean_interval, over_product, speed_verdict
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


positive = st.floats(0.1, 10)
reaches = st.floats(0.0, 0.5)


@given(st.lists(st.tuples(positive, reaches), min_size=2, max_size=4))
def test_the_ratio_lies_in_its_interval_which_is_no_narrower_than_any_ones(
    made: list[tuple[float, float]],
) -> None:
    whole, *parts = [ratio(value, reach) for value, reach in made]
    value, (low, high) = over_product(whole, parts)
    assert value == pytest.approx(whole.value / math.prod(part.value for part in parts))
    assert low <= value * (1 + 1e-9)
    assert value <= high * (1 + 1e-9)
    widest = 2 * math.log1p(max(reach for _, reach in made))
    assert math.log(high / low) >= widest - 1e-9


def test_rows_that_all_agree_are_no_certainty() -> None:
    import numpy as np

    mean, (low, high) = mean_interval(np.zeros(100, dtype=np.int64))
    assert mean == 0
    assert low < 0 < high
    assert high == pytest.approx(-low)
    assert high < 0.04
