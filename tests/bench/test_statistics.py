"""Intervals and verdicts: laws that hold for any samples, and known values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.nouns.measurement import Measurement, measured
from bench.nouns.verdict import AccuracyVerdict, SpeedVerdict
from bench.statistics import (
    SPEED_MARGIN,
    Interval,
    Outcome,
    bootstrap_interval,
    calibration_error,
    confusion,
    difference_bounds,
    holm,
    judge,
    macro_f1,
    macro_f1_interval,
    mcnemar_p_value,
    median_interval,
    pooled,
    quantile_interval,
    ratio,
    rows_to_tell,
    score,
    share_interval,
    sign_interval,
    speed_verdict,
)

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


def speedup(rounds: list[tuple[float, float]]) -> Measurement:
    value, interval, samples = ratio(*zip(*rounds, strict=True))
    return measured("speedup", value, "trial", interval, samples)


@few
@given(pairs, pairs)
def test_two_measurements_pooled_are_one_of_as_many_rounds_of_each(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    rounds = min(len(first), len(second))
    both = pooled(speedup(first), speedup(second))
    one = speedup([*first[-rounds:], *second[-rounds:]])
    assert both.value == pytest.approx(one.value)
    assert (both.ci_low, both.ci_high) == pytest.approx((one.ci_low, one.ci_high))
    assert len(both.samples) == 2 * rounds


def test_a_long_measurement_does_not_outvote_a_short_one() -> None:
    long = speedup([(0.93 + 0.0001 * i, 1.0) for i in range(-100, 100)])
    short = speedup([(1.0 + 0.0001 * i, 1.0) for i in range(-10, 10)])
    both = pooled(long, short)
    assert both.ci_low is not None
    assert both.ci_high is not None
    assert both.ci_low < 0.95 < both.ci_high


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
@given(st.lists(times, min_size=2, max_size=30))
def test_an_interval_holds_the_sample_median_and_lies_within_the_samples(samples: list[float]) -> None:
    for interval in (median_interval, sign_interval):
        low, high = interval(samples)
        assert min(samples) <= low <= float(np.median(samples)) <= high <= max(samples)


@pytest.mark.parametrize(
    ("count", "rank"), [(1, 1), (5, 1), (6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (50, 18)]
)
def test_the_sign_interval_ends_at_the_tabulated_ranks(count: int, rank: int) -> None:
    """The ranks of the sign test's table at 95 %, as in any textbook."""
    assert sign_interval(list(range(count, 0, -1))) == (rank, count + 1 - rank)


@given(st.integers(6, 400))
def test_the_sign_interval_is_the_narrowest_that_covers(count: int) -> None:
    low, _ = sign_interval(list(range(1, count + 1)))
    assert 2 * stats.binom.cdf(low - 1, count, 0.5) <= 0.05 < 2 * stats.binom.cdf(low, count, 0.5)


def test_drift_widens_the_interval_of_samples_in_time_and_their_order_does_not_matter_to_the_signs() -> None:
    drifting = np.linspace(1, 2, 100)
    shuffled = np.random.default_rng(1).permutation(drifting).tolist()
    widths = [high - low for low, high in map(median_interval, (drifting.tolist(), shuffled))]
    assert widths[0] > 2 * widths[1]
    assert sign_interval(drifting.tolist()) == sign_interval(shuffled)


def test_a_quantile_interval_lies_where_the_quantile_does() -> None:
    samples = np.random.default_rng(1).normal(10, 1, 500).tolist()
    low, high = quantile_interval(samples, 0.95)
    assert low < 10 + float(stats.norm.ppf(0.95)) < high
    assert high - low < 1


def verdict(low: float, high: float, margin: float = SPEED_MARGIN) -> SpeedVerdict:
    return speed_verdict(measured("speedup", math.sqrt(low * high), "test", (low, high)), margin)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.03, 1.05, "faster"),
        (1.02, 1.05, "inconclusive"),
        (0.95, 0.97, "slower"),
        (0.95, 1 / 1.02, "inconclusive"),
        (1 / 1.02, 1.02, "same"),
        (0.99, 1.01, "same"),
        (0.97, 1.01, "inconclusive"),
        (0.5, 2.0, "inconclusive"),
    ],
)
def test_a_speed_verdict_is_where_the_whole_interval_lies(low: float, high: float, word: str) -> None:
    found = verdict(low, high)
    assert found.word == word
    assert (found.low, found.high, found.margin) == (low, high, SPEED_MARGIN)
    assert f"{low:.3f} to {high:.3f}" in found.reason


def test_what_cannot_be_compared_says_why() -> None:
    plain = measured("speedup", 2.0, "definition")
    estimated = measured("speedup", 2.0, "a model", (1.9, 2.1), estimated=True)
    reasons = {"it was not measured": None, "it has no interval": plain, "it is estimated": estimated}
    for reason, measurement in reasons.items():
        found = speed_verdict(measurement, 0.02)
        assert (found.word, found.reason, found.ratio) == ("not comparable", reason, None)
        assert speed_verdict(measurement, 0.02, "other hardware").reason == "other hardware"
    assert (
        verdict(1.5, 1.6).reason
        == speed_verdict(measured("speedup", 1.55, "test", (1.5, 1.6)), 0.02, "other hardware").reason
    )


ratios = st.floats(0.2, 5.0)
intervals = st.tuples(ratios, ratios).map(lambda ends: (min(ends), max(ends)))
margins = st.floats(0.001, 0.5)
SWAPPED = {"faster": "slower", "slower": "faster"}


def far(interval: Interval, margin: float) -> bool:
    """Whether neither end lies on the margin but for rounding."""
    return all(abs(end * edge - 1) > 1e-9 for end in interval for edge in (1 + margin, 1 / (1 + margin)))


@few
@given(intervals, margins)
def test_changing_sides_swaps_faster_and_slower(interval: Interval, margin: float) -> None:
    low, high = interval
    word, mirrored = verdict(low, high, margin).word, verdict(1 / high, 1 / low, margin).word
    if far(interval, margin):
        assert mirrored == SWAPPED.get(word, word)


@few
@given(intervals, margins, st.floats(0, 1), st.floats(0, 1))
def test_a_narrower_interval_within_only_makes_it_surer(
    interval: Interval, margin: float, one: float, other: float
) -> None:
    """Read from the inner to the outer one: widening never turns a word but into `inconclusive`."""
    low, high = interval
    inner_low, inner_high = sorted(low + share * (high - low) for share in (one, other))
    outside, inside = verdict(low, high, margin).word, verdict(inner_low, inner_high, margin).word
    assert outside in (inside, "inconclusive")


@few
@given(intervals, margins, st.floats(1.01, 5))
def test_a_wider_margin_never_finds_a_difference_that_a_narrower_one_did_not(
    interval: Interval, margin: float, factor: float
) -> None:
    narrow, wide = (verdict(*interval, m).word for m in (margin, margin * factor))
    assert wide not in SWAPPED or narrow == wide
    assert narrow != "same" or wide == "same"


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


def slow_calibration_error(confidence: list[float], hits: list[bool], bins: int) -> float:
    """Bin by bin, from rows in the order of their confidence."""
    rows = sorted(zip(confidence, hits, strict=True), key=lambda row: row[0])
    edges = [len(rows) * i // bins for i in range(bins + 1)]
    total = 0.0
    for start, end in pairwise(edges):
        inside = rows[start:end]
        mean_confidence = sum(c for c, _ in inside) / len(inside)
        total += len(inside) * abs(mean_confidence - sum(hit for _, hit in inside) / len(inside))
    return total / len(rows)


@few
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_bin_by_bin(rows: list[tuple[float, bool]]) -> None:
    confidence, hits = map(list, zip(*rows, strict=True))
    value, (low, high) = calibration_error(confidence, hits)
    assert value == pytest.approx(slow_calibration_error(confidence, hits, min(15, len(rows))))
    assert 0 <= low <= value + 1e-12
    assert value <= high


def test_calibration_error_of_a_model_that_is_surer_than_right() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(40):
        confidence = rng.uniform(0.7, 1.0, 1500)
        hits = rng.random(1500) < confidence - 0.1
        _, (low, high) = calibration_error(confidence.tolist(), hits.tolist())
        covered += low <= 0.1 <= high
    assert covered / 40 >= 0.85


def outcomes_of(hits: Sequence[bool]) -> list[Outcome]:
    """Rows of one class, right where `hits` says so."""
    return [Outcome("b", "b" if hit else "a") for hit in hits]


def judged(rows: int, gained: int, lost: int, margin: float = 0.01) -> AccuracyVerdict:
    """The verdict where the variant wins `gained` rows that dense missed, and misses `lost` that it had."""
    dense = [False] * gained + [True] * (rows - gained)
    variant = [True] * (rows - lost) + [False] * lost
    return judge(outcomes_of(dense), outcomes_of(variant), margin)


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
    verdict = judged(rows, gained, lost)
    assert verdict.word == word
    assert verdict.rows == rows
    assert verdict.difference == pytest.approx((gained - lost) / rows)
    assert verdict.low < verdict.difference < verdict.high
    assert (verdict.rows_needed is not None) == (word == "underpowered")
    assert "\n" not in verdict.reason


def test_the_rows_needed_at_five_percent_discordance() -> None:
    assert rows_to_tell(0.05, 0.01) == 3092


@pytest.mark.parametrize(("rows", "gained", "lost"), [(300, 8, 8), (50, 0, 0), (10, 0, 1)])
def test_with_the_rows_needed_it_would_be_told(rows: int, gained: int, lost: int) -> None:
    needed = judged(rows, gained, lost).rows_needed
    assert needed is not None
    assert needed > rows
    half = round((gained + lost) / rows * needed / 2)
    assert judged(needed, half, half).word == "kept"


def test_four_in_five_unchanged_variants_are_kept_at_the_rows_needed() -> None:
    rng = np.random.default_rng(2)
    rows = rows_to_tell(0.05, 0.01)
    pairs = rng.multinomial(rows, [0.025, 0.025, 0.95], 1000)[:, :2].tolist()
    kept = [difference_bounds(gained, lost, rows)[0] > -0.01 for gained, lost in pairs]
    assert 0.76 <= np.mean(kept) <= 0.84


hit_lists = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300)


@few
@given(hit_lists)
def test_changing_sides_turns_the_interval_around(rows: list[tuple[bool, bool]]) -> None:
    dense, variant = map(outcomes_of, zip(*rows, strict=True))
    one, other = (
        judge(dense, variant, 0.02),
        judge(variant, dense, 0.02),
    )
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))


@few
@given(hit_lists, st.floats(0.001, 0.2), st.floats(1.01, 10))
def test_a_wider_margin_is_easier_to_keep(
    rows: list[tuple[bool, bool]], margin: float, factor: float
) -> None:
    dense, variant = map(outcomes_of, zip(*rows, strict=True))
    narrow, wide = (judge(dense, variant, m).word for m in (margin, margin * factor))
    assert narrow != "kept" or wide == "kept"
    assert wide != "lost" or narrow == "lost"


@few
@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.2))
def test_holm_lets_fall_what_falls_step_by_step(p_values: list[float], level: float) -> None:
    """As Holm wrote it down: from the smallest on, each at the level over the hypotheses still standing."""
    fallen = set()
    while standing := [i for i in range(len(p_values)) if i not in fallen]:
        smallest = min(standing, key=lambda i: p_values[i])
        if p_values[smallest] * len(standing) > level:
            break
        fallen.add(smallest)
    adjusted = holm(p_values)
    assert {i for i, p in enumerate(adjusted) if p <= level} == fallen
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@few
@given(hit_lists, st.floats(0.001, 0.2))
def test_the_p_value_agrees_with_the_word(rows: list[tuple[bool, bool]], margin: float) -> None:
    dense, variant = map(outcomes_of, zip(*rows, strict=True))
    verdict = judge(dense, variant, margin)
    if abs(verdict.p_value - 0.05) > 1e-9:
        assert (verdict.p_value < 0.05) == (verdict.word == "kept")


@few
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 500), st.floats(-0.9, 0.9))
def test_the_score_rests_on_the_likeliest_shares(
    gained: int, lost: int, same: int, difference: float
) -> None:
    """Tango's closed form against the greatest likelihood among shares with that difference."""
    rows = gained + lost + same
    # Close to the edges first of all, where the likeliest share lies if few rows or none differ.
    lowest, highest = max(0, -difference), (1 - difference) / 2
    steps = np.geomspace(1e-12, 0.5, 100_000) * (highest - lowest)
    shares = np.concatenate([lowest + steps, (highest - steps)[::-1]])
    counts = [(gained, shares + difference), (lost, shares), (same, 1 - difference - 2 * shares)]
    log_likelihood = sum(count * np.log(share) for count, share in counts if count)
    likeliest = shares[np.argmax(log_likelihood)]
    variance = rows * (2 * likeliest + difference - difference**2)
    expected = (gained - lost - rows * difference) / math.sqrt(variance)
    assert score(gained, lost, rows, difference) == pytest.approx(expected, rel=1e-2, abs=1e-2)


@pytest.mark.parametrize(
    ("lost", "rows", "margin"), [(14, 707, 0.01), (2, 201, 0.005), (10, 255, 0.02), (6, 33, 0.1)]
)
def test_the_roots_of_the_score_may_coincide(lost: int, rows: int, margin: float) -> None:
    """At -lost / (2 rows - lost), where no row is gained; rounding could make their distance no number."""
    assert margin == pytest.approx(lost / (2 * rows - lost))
    variance = rows * margin * (1 - margin)
    assert score(0, lost, rows, -margin) == pytest.approx((rows * margin - lost) / math.sqrt(variance))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 12), (40, 40), (0, 25)])
def test_the_bootstrap_of_counts_is_the_bootstrap_of_rows(gained: int, lost: int) -> None:
    differences = np.array([1] * gained + [-1] * lost + [0] * (1000 - gained - lost))
    low, high = bootstrap_interval(gained, lost, 1000)
    if gained + lost == 0:
        assert (low, high) == (0, 0)
        return
    found = stats.bootstrap(
        (differences,), np.mean, method="percentile", n_resamples=5000, batch=500, rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.0015)


def test_mcnemar_exact() -> None:
    """By hand: 2 of 10 or fewer, twice (1 + 10 + 45) / 1024."""
    assert mcnemar_p_value(2, 8) == mcnemar_p_value(8, 2) == pytest.approx(2 * 56 / 1024)
    assert mcnemar_p_value(0, 0) == mcnemar_p_value(5, 5) == 1


def test_what_changed_is_counted_class_by_class() -> None:
    names = ["अ", "b", "c"]
    dense = [Outcome(name, name) for name in names for _ in range(20)]
    variant = list(dense)
    variant[20:30] = [Outcome("b", "c")] * 10
    dense[40:43] = [Outcome("c", "b")] * 3
    variant[43] = Outcome("c", "b")
    # Wrong both times, in two ways: the prediction flips, the accuracy does not change.
    dense[0], variant[0] = Outcome("अ", "b"), Outcome("अ", "c")
    found = judge(dense, variant, 0.01)
    assert (found.gained, found.lost, found.rows) == (3, 11, 60)
    assert found.flip_rate == 15 / 60
    assert found.difference == pytest.approx(-8 / 60)
    assert found.bootstrap_low < found.difference < found.bootstrap_high
    assert found.mcnemar_p_value == pytest.approx(mcnemar_p_value(3, 11))
    changed = {change.label: change for change in found.classes}
    assert list(changed) == ["b", "c", "अ"]
    assert [(c.rows, c.dense_right, c.gained, c.lost) for c in found.classes] == [
        (20, 20, 0, 10),
        (20, 17, 3, 1),
        (20, 19, 0, 0),
    ]
    assert changed["b"].p_value == pytest.approx(3 * 2 / 1024)
    assert changed["c"].p_value == changed["अ"].p_value == 1


@few
@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 3), min_size=1, max_size=80))
def test_the_classes_sum_to_the_whole(rows: list[tuple[str, str, str]]) -> None:
    dense = [Outcome(label, predicted) for label, predicted, _ in rows]
    found = judge(dense, [Outcome(label, predicted) for label, _, predicted in rows], 0.01)
    assert sum(change.rows for change in found.classes) == found.rows
    assert sum(change.gained for change in found.classes) == found.gained
    assert sum(change.lost for change in found.classes) == found.lost
    assert (found.gained + found.lost) / found.rows <= found.flip_rate


def test_rows_of_another_file_are_refused() -> None:
    with pytest.raises(AssertionError, match="not the same rows"):
        judge([Outcome("a", "a")], [Outcome("b", "b")], 0.01)
