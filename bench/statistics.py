"""Intervals and verdicts, as pure functions of samples and counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from bench.nouns.measurement import Measurement
from bench.nouns.verdict import (
    AccuracyVerdict,
    AccuracyWord,
    ClassChange,
    SpeedVerdict,
    SpeedWord,
)

RESAMPLES = 10_000
CONFIDENCE = 0.95
POWER = 0.8
SEED = 20_240_601
SECTIONS = 5
CALIBRATION_BINS = 15
SPEED_MARGIN = 0.02

Interval = tuple[float, float]
Side = Literal["above", "below", "within", "partly"]


class Outcome(NamedTuple):
    """What a row is and what it was taken for, by name."""

    label: str
    predicted: str

    @property
    def is_right(self) -> bool:
        """Whether it was classified correctly."""
        return self.label == self.predicted


def ratio(anchor_s: Sequence[float], variant_s: Sequence[float]) -> tuple[float, Interval, tuple[float, ...]]:
    """Median of the rounds' ratios anchor / variant, its 95 % interval, and the ratios.

    The interval is that of the log-ratios' median, so that a ratio and its inverse get the same one. It
    needs no independence in time: the contenders' order is drawn anew in each round, so which of them a
    disturbance hits is a fair coin, however the disturbances hang together. It does need disturbances to
    slow whatever runs by the same factor: those that cost all the same seconds draw a ratio towards 1.
    """
    logs = np.log(np.asarray(anchor_s)) - np.log(np.asarray(variant_s))
    low, high = sign_interval(logs.tolist())
    value = math.exp(float(np.median(logs)))
    return value, (math.exp(low), math.exp(high)), tuple(np.exp(logs).tolist())


def pooled(first: Measurement, second: Measurement) -> Measurement:
    """One ratio of two measurements' rounds, whose ratios are their samples; see `ratio`.

    As many rounds of each, the last ones: a disturbed measurement runs longer, and would outvote a calm one.
    """
    rounds = min(len(first.samples), len(second.samples))
    samples = (*first.samples[-rounds:], *second.samples[-rounds:])
    logs = np.log(np.asarray(samples))
    low, high = sign_interval(logs.tolist())
    return second.model_copy(
        update={
            "value": math.exp(float(np.median(logs))),
            "ci_low": math.exp(low),
            "ci_high": math.exp(high),
            "samples": samples,
        }
    )


def sign_interval(samples: Sequence[float]) -> Interval:
    """95 % interval of the median of samples that fall on either side of it as by a fair coin.

    The sign test's (Conover, Practical Nonparametric Statistics, 3.2), from one sample to another: exact
    whatever the samples' distribution. Fewer than 6 cannot give 95 %; their whole range is the interval
    then. Where measuring stops by the width, the bootstrap's holds the truth too seldom and an interpolated
    one only just often enough; Hodges and Lehmann's is wider under the stalls of a shared machine.
    """
    ordered, rank = sorted(samples), sign_rank(len(samples))
    return ordered[rank - 1], ordered[-rank]


@cache
def sign_rank(count: int) -> int:
    """Which of `count` ordered samples, from 1 and from either end, ends the sign test's interval."""
    return max(1, int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5)))


def median_interval(samples: Sequence[float]) -> Interval:
    """95 % interval of the median of samples taken one after the other; see `quantile_interval`."""
    return quantile_interval(samples, 0.5)


def quantile_interval(samples: Sequence[float], quantile: float) -> Interval:
    """95 % interval of a quantile of samples taken one after the other, at least 2.

    By sections: the spread of the quantile over consecutive fifths of the samples, with Student's t
    (Asmussen and Glynn, Stochastic Simulation, 2007, III.5). It sees the machine drift from one fifth to
    the next, which resampling single samples does not; slower drift it cannot see.
    """
    assert len(samples) > 1, "one sample has no interval"
    values = np.asarray(samples, dtype=float)
    count = min(SECTIONS, len(values))
    centre = float(np.quantile(values, quantile))
    parts = np.array([np.quantile(part, quantile) for part in np.array_split(values, count)])
    low, high = t_interval(centre, parts)
    return max(float(values.min()), low), min(float(values.max()), high)


def rate(counts: Sequence[float], times_s: Sequence[float]) -> tuple[float, Interval]:
    """What was done a second over all blocks, and its 95 % interval by sections; see `quantile_interval`.

    A quotient of sums, since blocks hold different amounts of work: the median block's rate would be that
    of the commonest length of row alone.
    """
    assert len(times_s) > 1, "one block has no interval"
    done, spent_s = np.asarray(counts, dtype=float), np.asarray(times_s, dtype=float)
    value, count = float(done.sum() / spent_s.sum()), min(SECTIONS, len(times_s))
    sections = zip(np.array_split(done, count), np.array_split(spent_s, count), strict=True)
    parts = np.array([part.sum() / part_s.sum() for part, part_s in sections])
    return value, t_interval(value, parts)


def t_interval(centre: float, parts: NDArray[np.float64]) -> Interval:
    """95 % interval around `centre` by how far the sections' values lie from it, with Student's t."""
    count = len(parts)
    error = math.sqrt(float(((parts - centre) ** 2).sum()) / (count - 1) / count)
    spread = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return centre - spread, centre + spread


def bounds(draws: NDArray[np.float64]) -> Interval:
    """The middle 95 % of bootstrap draws."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def speed_verdict(measurement: Measurement | None, margin: float, reason: str | None = None) -> SpeedVerdict:
    """What a ratio of times (above 1 is faster) says beyond `margin`, by where its whole interval lies.

    `reason` is why there is nothing to compare, where there is not; by default what is missing.
    """
    if measurement is None:
        return SpeedVerdict(word="not comparable", margin=margin, reason=reason or "it was not measured")
    if measurement.estimated:
        return SpeedVerdict(word="not comparable", margin=margin, reason=reason or "it is estimated")
    low, high = measurement.ci_low, measurement.ci_high
    if low is None or high is None:
        return SpeedVerdict(word="not comparable", margin=margin, reason=reason or "it has no interval")
    side, why = beside_margin(low, high, margin)
    words: dict[Side, SpeedWord] = {
        "above": "faster",
        "below": "slower",
        "within": "same",
        "partly": "inconclusive",
    }
    return SpeedVerdict(
        word=words[side], ratio=measurement.value, low=low, high=high, margin=margin, reason=why
    )


def beside_margin(low: float, high: float, margin: float) -> tuple[Side, str]:
    """Where the interval of a ratio lies, beside 1 with a `margin` to either side; and that in words."""
    return beside((low, high), (1 / (1 + margin), 1 + margin), "{:.3f}".format)


def beside(interval: Interval, limits: Interval, write: Callable[[float], str]) -> tuple[Side, str]:
    """Where an interval lies beside two limits; and that in words, numbers as `write` has them."""
    (low, high), (least, most) = interval, limits
    shown, within = f"{write(low)} to {write(high)}", f"{write(least)} to {write(most)}"
    if low > most:
        return "above", f"the whole interval, {shown}, lies above {write(most)}"
    if high < least:
        return "below", f"the whole interval, {shown}, lies below {write(least)}"
    if least <= low and high <= most:
        return "within", f"the whole interval, {shown}, lies within {within}"
    return "partly", f"the interval, {shown}, is partly within {within}"


def quotient(over: Sequence[Measurement], under: Sequence[Measurement]) -> tuple[float, Interval]:
    """The product of `over` by that of `under`, all positive, and its 95 % interval from their own intervals.

    On logarithms, by the method of variance estimates recovery (Zou and Donner, Statistics in Medicine,
    2008), which holds for quantities measured independently. One without an interval counts as exact.
    """
    value = math.prod(each.value for each in over) / math.prod(each.value for each in under)
    below, above = 0.0, 0.0
    for measurement, is_over in [*((each, True) for each in over), *((each, False) for each in under)]:
        low = measurement.value if measurement.ci_low is None else measurement.ci_low
        high = measurement.value if measurement.ci_high is None else measurement.ci_high
        down, up = math.log(measurement.value / low), math.log(high / measurement.value)
        below += (down if is_over else up) ** 2
        above += (up if is_over else down) ** 2
    return value, (value * math.exp(-math.sqrt(below)), value * math.exp(math.sqrt(above)))


def mean_interval(values: NDArray[np.int64]) -> tuple[float, Interval]:
    """The mean of a count a row, and its 95 % interval, Student's.

    The interval is of the rows and two more, one up and one down, as Agresti and Min (Biometrics, 2005) add
    for differences of paired shares: rows that all agree are no proof that none ever differs.
    """
    widened = np.append(values, [1, -1])
    reach = float(stats.sem(widened) * stats.t.ppf((1 + CONFIDENCE) / 2, len(widened) - 1))
    mean = float(values.mean())
    return mean, (mean - reach, mean + reach)


def share_interval(hits: int, rows: int) -> Interval:
    """Wilson's 95 % interval of a share (Wilson, 1927)."""
    interval = stats.binomtest(hits, rows).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def confusion(labels: Sequence[int], predicted: Sequence[int], classes: int) -> NDArray[np.int64]:
    """Counts by (label, predicted), shape (classes, classes)."""
    cells = np.asarray(labels) * classes + np.asarray(predicted)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def macro_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Unweighted mean F1 over classes that occur as a label; `counts` may carry leading dimensions."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    occurring = counts.sum(-1) > 0
    f1 = 2 * hits / np.maximum(1, counts.sum(-1) + counts.sum(-2))
    result: NDArray[np.float64] = (f1 * occurring).sum(-1) / np.maximum(1, occurring.sum(-1))
    return result


def macro_f1_interval(counts: NDArray[np.int64], resamples: int = 2_000) -> Interval:
    """95 % bootstrap interval of macro-F1 over rows, drawn as multinomial counts of the cells."""
    rows = int(counts.sum())
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(rows, counts.ravel() / rows, size=resamples)
    return bounds(macro_f1(drawn.reshape(-1, *counts.shape)))


def calibration_error(confidence: Sequence[float], hits: Sequence[bool]) -> tuple[float, Interval]:
    """Expected calibration error, and its 95 % interval over rows.

    Mean gap of confidence and accuracy over 15 bins (Naeini et al., AAAI 2015) of as many rows each
    (Nixon et al., CVPR workshops 2019). Chance alone makes gaps, and resampling adds as much again, so
    the interval is the bootstrap's reflected at the value ("basic"; Davison and Hinkley, 1997).
    """
    ordered = np.argsort(np.asarray(confidence), kind="stable")
    gaps = (np.asarray(confidence, dtype=float) - np.asarray(hits, dtype=float))[ordered]
    rows = len(gaps)
    bins = min(CALIBRATION_BINS, rows)
    starts = np.arange(bins) * rows // bins
    rng = np.random.default_rng(SEED)

    def error(chosen: NDArray[np.float64]) -> float:
        return float(np.abs(np.add.reduceat(chosen, starts)).sum() / rows)

    value = error(gaps)
    draws = [error(gaps[np.sort(rng.integers(0, rows, rows))]) for _ in range(1_000)]
    low, high = bounds(np.array(draws))
    return value, (max(0.0, 2 * value - high), max(value, 2 * value - low))


def judge(dense: Sequence[Outcome], variant: Sequence[Outcome], margin: float) -> AccuracyVerdict:
    """Whether the variant loses less than `margin` of dense's accuracy on the same rows, in the same order.

    Non-inferiority by Tango's score test for paired proportions (Statistics in Medicine 17, 1998), with
    its one-sided 95 % bounds. Of the tests in use it says "kept" wrongly least often where few rows differ.
    """
    rows = len(dense)
    assert [row.label for row in dense] == [row.label for row in variant], "not the same rows"
    gained, lost = changes(dense, variant)
    low, high = difference_bounds(gained, lost, rows)
    word, reason, rows_needed = accuracy_word(gained, lost, rows, (low, high), margin)
    bootstrap_low, bootstrap_high = bootstrap_interval(gained, lost, rows)
    flips = sum(one.predicted != other.predicted for one, other in zip(dense, variant, strict=True))
    return AccuracyVerdict(
        word=word,
        difference=(gained - lost) / rows,
        low=low,
        high=high,
        margin=margin,
        p_value=loss_p_value(gained, lost, rows, margin),
        rows=rows,
        rows_needed=rows_needed,
        gained=gained,
        lost=lost,
        mcnemar_p_value=mcnemar_p_value(gained, lost),
        bootstrap_low=bootstrap_low,
        bootstrap_high=bootstrap_high,
        flip_rate=flips / rows,
        classes=class_changes(dense, variant),
        reason=reason,
    )


def accuracy_word(
    gained: int, lost: int, rows: int, interval: Interval, margin: float
) -> tuple[AccuracyWord, str, int | None]:
    """The verdict's word, its reason, and the rows needed where these are too few."""
    low, high = interval
    shown = f"{(gained - lost) / rows:+.2%} [{low:+.2%}, {high:+.2%}] against a margin of {margin:.2%}"
    if low > -margin:
        return "kept", f"the whole interval lies above the margin: {shown}", None
    if high < -margin:
        return "lost", f"the whole interval lies below the margin: {shown}", None
    if high - low > 2 * margin:
        # Half a row more on either side: where no row differs, that does not prove that none would.
        needed = rows_to_tell((gained + lost + 1) / (rows + 2), margin)
        return "underpowered", f"{rows:,} rows cannot tell, about {needed:,} would: {shown}", needed
    return "inconclusive", f"the interval holds the margin: {shown}", None


def changes(dense: Sequence[Outcome], variant: Sequence[Outcome]) -> tuple[int, int]:
    """Rows that only the variant, and rows that only dense classifies correctly."""
    pairs = [(one.is_right, other.is_right) for one, other in zip(dense, variant, strict=True)]
    return pairs.count((False, True)), pairs.count((True, False))


def class_changes(dense: Sequence[Outcome], variant: Sequence[Outcome]) -> list[ClassChange]:
    """The changes label by label, in alphabetical order."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(dense):
        places.setdefault(row.label, []).append(place)
    labels = sorted(places)
    counts = [
        changes([dense[i] for i in places[label]], [variant[i] for i in places[label]]) for label in labels
    ]
    adjusted = holm([mcnemar_p_value(gained, lost) for gained, lost in counts])
    return [
        ClassChange(
            label=label,
            rows=len(places[label]),
            dense_right=sum(dense[i].is_right for i in places[label]),
            gained=gained,
            lost=lost,
            p_value=p_value,
        )
        for label, (gained, lost), p_value in zip(labels, counts, adjusted, strict=True)
    ]


def loss_p_value(gained: int, lost: int, rows: int, margin: float) -> float:
    """One-sided p-value of a loss of `margin` or more, by Tango's score test."""
    return float(stats.norm.sf(score(gained, lost, rows, -margin)))


def score(gained: int, lost: int, rows: int, difference: float) -> float:
    """Tango's score statistic of a true `difference` of accuracies, normal where that is the true one."""
    # The likeliest share of rows lost, given the difference, is the larger root of a quadratic equation.
    linear = (2 * rows - gained + lost) * difference - gained - lost
    constant = -lost * difference * (1 - difference)
    discriminant = max(0.0, linear**2 - 8 * rows * constant)  # rounding alone makes it negative
    share_lost = (math.sqrt(discriminant) - linear) / (4 * rows)
    variance = rows * (2 * share_lost + difference * (1 - difference))
    surplus = gained - lost - rows * difference
    return surplus / math.sqrt(variance) if variance > 0 else 0.0


def difference_bounds(gained: int, lost: int, rows: int) -> Interval:
    """One-sided 95 % bounds of the difference of accuracies: where `score` is just that surprising."""
    z, difference, end = float(stats.norm.ppf(CONFIDENCE)), (gained - lost) / rows, 1 - 1e-9

    def bound(surprise: float, edge: float) -> float:
        found = optimize.brentq(lambda x: score(gained, lost, rows, x) - surprise, edge, difference)
        return float(found)

    return (
        bound(z, -end) if difference > -end else -1.0,
        bound(-z, end) if difference < end else 1.0,
    )


def bootstrap_interval(gained: int, lost: int, rows: int) -> Interval:
    """95 % paired bootstrap interval of the difference of accuracies, percentile method, seeded.

    A resample of rows is a multinomial draw of the counts, so rows need not be drawn one by one.
    """
    shares = np.array([gained, lost, rows - gained - lost]) / rows
    drawn = np.random.default_rng(SEED).multinomial(rows, shares, size=RESAMPLES)
    return bounds((drawn[:, 0] - drawn[:, 1]) / rows)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Two-sided p-value that as many rows are gained as lost, exact (McNemar, 1947)."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being several, step by step (Holm, 1979)."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def rows_to_tell(discordance: float, margin: float) -> int:
    """Rows at which an unchanged variant is found to be kept four times in five.

    `discordance` is the share of rows where only one of the two is right.
    """
    quantiles = float(stats.norm.ppf(CONFIDENCE) + stats.norm.ppf(POWER))
    return math.ceil(quantiles**2 * discordance / margin**2)
