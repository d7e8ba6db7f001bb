"""Intervals and verdicts: laws that hold for any samples, known values, and simulated coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from bench.nouns.verdict import AccuracyVerdict
from bench.statistics import (
    accuracy_kept,
    confusion,
    holm,
    macro_f1,
    macro_f1_interval,
    median_interval,
    quantile_interval,
    ratio,
    rows_to_tell,
    share_interval,
)

ONE_SIDED = float(stats.norm.ppf(0.95))

times = st.floats(1e-4, 10.0)
pairs = st.lists(st.tuples(times, times), min_size=2, max_size=25)
few = settings(max_examples=25, deadline=None)


@few
@given(pairs)
def test_a_ratio_and_its_inverse_have_inverse_intervals(samples: list[tuple[float, float]]) -> None:
    one, other = zip(*samples, strict=True)
    value, (low, high), _ = ratio(one, other)
    inverse, (inverse_low, inverse_high), _ = ratio(other, one)
    assert inverse == pytest.approx(1 / value)
    assert (inverse_low, inverse_high) == pytest.approx((1 / high, 1 / low))


@few
@given(pairs, st.floats(0.1, 10))
def test_a_variant_slower_by_a_factor_has_its_ratio_divided(
    samples: list[tuple[float, float]], factor: float
) -> None:
    one, other = zip(*samples, strict=True)
    value, interval, rounds = ratio(one, other)
    scaled, scaled_interval, scaled_rounds = ratio(one, [factor * x for x in other])
    assert scaled == pytest.approx(value / factor)
    assert scaled_interval == pytest.approx((interval[0] / factor, interval[1] / factor))
    assert scaled_rounds == pytest.approx([x / factor for x in rounds])


@few
@given(pairs)
def test_a_ratio_is_the_median_of_the_rounds_within_its_interval(samples: list[tuple[float, float]]) -> None:
    one, other = zip(*samples, strict=True)
    value, (low, high), rounds = ratio(one, other)
    assert rounds == pytest.approx([x / y for x, y in samples])
    assert value == pytest.approx(math.exp(float(np.median(np.log(rounds)))))
    assert low <= value * (1 + 1e-12)
    assert value <= high * (1 + 1e-12)


@few
@given(st.lists(times, min_size=1, max_size=30))
def test_an_interval_holds_the_sample_median_and_lies_within_the_samples(samples: list[float]) -> None:
    low, high = median_interval(samples)
    assert min(samples) <= low <= float(np.median(samples)) <= high <= max(samples)
    assert (low, high) == median_interval(samples)


def test_the_median_interval_covers_the_median() -> None:
    rng = np.random.default_rng(1)
    draws = [median_interval(rng.lognormal(0, 0.3, 20).tolist()) for _ in range(200)]
    assert np.mean([low <= 1 <= high for low, high in draws]) >= 0.9


def test_a_quantile_interval_lies_where_the_quantile_does() -> None:
    samples = np.random.default_rng(1).normal(10, 1, 500).tolist()
    low, high = quantile_interval(samples, 0.95)
    assert low < 10 + float(stats.norm.ppf(0.95)) < high
    assert high - low < 0.6


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"),
    [(0, 10, 0.0, 0.277533), (81, 263, 0.255289, 0.366207), (15, 148, 0.062387, 0.160536)],
)
def test_wilson_as_published(hits: int, rows: int, low: float, high: float) -> None:
    """81/263 and 15/148 are the examples of Newcombe, Statistics in Medicine 17, 1998, method 3."""
    assert share_interval(hits, rows) == pytest.approx((low, high), abs=1e-4)


@few
@given(st.integers(1, 5000), st.data())
def test_wilson_by_its_formula(rows: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, rows))
    z, share = float(stats.norm.ppf(0.975)), hits / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows**2)) / (1 + z * z / rows)
    assert share_interval(hits, rows) == pytest.approx((centre - half, centre + half), abs=1e-9)


def slow_macro_f1(labels: Sequence[int], predicted: Sequence[int]) -> float:
    """From precision and recall, a class at a time."""
    found = []
    for kind in set(labels):
        true_positives = sum(a == b == kind for a, b in zip(labels, predicted, strict=True))
        precision = true_positives / max(1, list(predicted).count(kind))
        recall = true_positives / list(labels).count(kind)
        found.append(2 * precision * recall / (precision + recall) if true_positives else 0.0)
    return sum(found) / len(found)


outcomes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@few
@given(outcomes)
def test_macro_f1_against_precision_and_recall(rows: list[tuple[int, int]]) -> None:
    labels, predicted = zip(*rows, strict=True)
    counts = confusion(labels, predicted, 5)
    assert counts.sum() == len(rows)
    assert counts[labels[0], predicted[0]] >= 1
    assert float(macro_f1(counts)) == pytest.approx(slow_macro_f1(labels, predicted))


@few
@given(outcomes)
def test_macro_f1_lies_in_its_interval(rows: list[tuple[int, int]]) -> None:
    labels, predicted = zip(*rows, strict=True)
    counts = confusion(labels, predicted, 5)
    low, high = macro_f1_interval(counts)
    assert 0 <= low <= float(macro_f1(counts)) <= high <= 1 + 1e-12


def judge(rows: int, gained: int, lost: int, margin: float = 0.01) -> AccuracyVerdict:
    """The verdict where the variant wins `gained` rows that dense missed, and misses `lost` that it had."""
    dense = [False] * gained + [True] * (rows - gained)
    variant = [True] * (rows - lost) + [False] * lost
    return accuracy_kept(dense, variant, margin)


@pytest.mark.parametrize(
    ("rows", "gained", "lost", "word"),
    [
        (10_000, 100, 100, "kept"),
        (10_000, 300, 0, "kept"),
        (10_000, 0, 300, "lost"),
        (10_000, 50, 150, "inconclusive"),
        (300, 8, 8, "underpowered"),
        (50, 0, 0, "underpowered"),
        (1_000, 0, 0, "kept"),
    ],
)
def test_the_word_follows_from_the_counts(rows: int, gained: int, lost: int, word: str) -> None:
    verdict = judge(rows, gained, lost)
    assert verdict.word == word
    assert verdict.rows == rows
    assert verdict.difference == pytest.approx((gained - lost) / rows)
    assert verdict.low < verdict.difference < verdict.high
    assert (verdict.rows_needed is not None) == (word == "underpowered")
    assert "\n" not in verdict.reason


def test_the_rows_needed_at_five_percent_discordance() -> None:
    assert rows_to_tell(0.05, 0.01, ONE_SIDED) == 3092


@pytest.mark.parametrize(("rows", "gained", "lost"), [(300, 8, 8), (50, 0, 0), (10, 0, 1)])
def test_with_the_rows_needed_it_would_be_told(rows: int, gained: int, lost: int) -> None:
    needed = judge(rows, gained, lost).rows_needed
    assert needed is not None
    assert needed > rows
    half = round((gained + lost) / rows * needed / 2)
    assert judge(needed, half, half).word == "kept"


def test_four_in_five_unchanged_variants_are_kept_at_the_rows_needed() -> None:
    rng = np.random.default_rng(2)
    rows = rows_to_tell(0.05, 0.01, ONE_SIDED)
    kept = [judge(rows, *cells).word == "kept" for cells in simulate(rng, rows, 0.05, 0.0, 400)]
    assert 0.74 <= np.mean(kept) <= 0.86


hit_lists = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300)


@few
@given(hit_lists)
def test_changing_sides_turns_the_interval_around(rows: list[tuple[bool, bool]]) -> None:
    dense, variant = zip(*rows, strict=True)
    one, other = accuracy_kept(dense, variant, 0.02), accuracy_kept(variant, dense, 0.02)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))


@few
@given(hit_lists, st.floats(0.001, 0.2), st.floats(1.01, 10))
def test_a_wider_margin_is_easier_to_keep(
    rows: list[tuple[bool, bool]], margin: float, factor: float
) -> None:
    dense, variant = zip(*rows, strict=True)
    narrow, wide = (accuracy_kept(dense, variant, m).word for m in (margin, margin * factor))
    assert narrow != "kept" or wide == "kept"
    assert wide != "lost" or narrow == "lost"


@few
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_rejects_no_more_than_each_alone_and_no_less_than_bonferroni(p_values: list[float]) -> None:
    fallen = holm(p_values)
    for p, falls in zip(p_values, fallen, strict=True):
        assert not falls or p <= 0.05
        assert falls or p > 0.05 / len(p_values)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]


@few
@given(hit_lists, st.floats(0.001, 0.2))
def test_the_p_value_agrees_with_the_word(rows: list[tuple[bool, bool]], margin: float) -> None:
    dense, variant = zip(*rows, strict=True)
    verdict = accuracy_kept(dense, variant, margin)
    if abs(verdict.p_value - 0.05) > 1e-9:
        assert (verdict.p_value < 0.05) == (verdict.word == "kept")


def simulate(
    rng: np.random.Generator, rows: int, discordance: float, difference: float, trials: int
) -> NDArray[np.int64]:
    """(gained, lost) of `trials` test sets."""
    gained, lost = (discordance + difference) / 2, (discordance - difference) / 2
    return rng.multinomial(rows, [gained, lost, 1 - gained - lost], trials)[:, :2]


@pytest.mark.parametrize("rows", [500, 1000, 2000, 4000])
@pytest.mark.parametrize("discordance", [0.02, 0.05, 0.10])
@pytest.mark.parametrize("difference", [-0.01, 0.0])
def test_each_bound_covers_the_difference_as_often_as_it_says(
    rows: int, discordance: float, difference: float
) -> None:
    rng = np.random.default_rng(3)
    gained, lost = simulate(rng, rows, discordance, difference, 4000).T
    sample = judge(rows, int(gained[0]), int(lost[0]))
    b, c, n = gained + 0.5, lost + 0.5, rows + 2
    spread = ONE_SIDED * np.sqrt(b + c - (b - c) ** 2 / n) / n
    low, high = (b - c) / n - spread, (b - c) / n + spread
    assert (sample.low, sample.high) == pytest.approx((low[0], high[0]))
    assert (low <= difference).mean() >= 0.92
    assert (high >= difference).mean() >= 0.92
