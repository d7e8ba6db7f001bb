"""Intervals and verdicts, as pure functions of samples and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.nouns.verdict import AccuracyVerdict

RESAMPLES = 10_000
CONFIDENCE = 0.95
POWER = 0.8
SEED = 20_240_601

Interval = tuple[float, float]


def median_interval(samples: Sequence[float]) -> Interval:
    """95 % bootstrap interval of the median, percentile method, seeded."""
    return quantile_interval(samples, 0.5)


def quantile_interval(samples: Sequence[float], quantile: float) -> Interval:
    """95 % bootstrap interval of a quantile, percentile method, seeded."""
    values = np.asarray(samples, dtype=float)
    rng = np.random.default_rng(SEED)
    drawn = values[rng.integers(0, len(values), (RESAMPLES, len(values)))]
    return bounds(np.quantile(drawn, quantile, axis=1))


def ratio(anchor_s: Sequence[float], variant_s: Sequence[float]) -> tuple[float, Interval, tuple[float, ...]]:
    """Median of the rounds' ratios anchor / variant, its interval, and the ratios.

    The bootstrap runs over the rounds' log-ratios, so that a ratio and its inverse get the same interval.
    """
    logs = np.log(np.asarray(anchor_s)) - np.log(np.asarray(variant_s))
    low, high = median_interval(logs.tolist())
    value = math.exp(float(np.median(logs)))
    return value, (math.exp(low), math.exp(high)), tuple(np.exp(logs).tolist())


def bounds(draws: NDArray[np.float64]) -> Interval:
    """The middle 95 % of bootstrap draws."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


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


def accuracy_kept(dense_hits: Sequence[bool], variant_hits: Sequence[bool], margin: float) -> AccuracyVerdict:
    """Whether the variant loses less than `margin` of accuracy on the same rows, by non-inferiority.

    The bounds are Agresti and Min's adjusted Wald bounds for the difference of paired proportions
    (Statistics in Medicine 24, 2005), one-sided at 95 %.
    """
    dense, variant = np.asarray(dense_hits, dtype=bool), np.asarray(variant_hits, dtype=bool)
    rows = len(dense)
    gained, lost = int((variant & ~dense).sum()), int((dense & ~variant).sum())
    z = float(stats.norm.ppf(CONFIDENCE))
    b, c, n = gained + 0.5, lost + 0.5, rows + 2
    centre = (b - c) / n
    error = math.sqrt(b + c - (b - c) ** 2 / n) / n
    spread = z * error
    low, high = centre - spread, centre + spread
    difference = (gained - lost) / rows
    shown = f"{difference:+.2%} [{low:+.2%}, {high:+.2%}] against a margin of {margin:.2%}"
    if low > -margin:
        word, reason, rows_needed = "kept", f"the whole interval lies above the margin: {shown}", None
    elif high < -margin:
        word, reason, rows_needed = "lost", f"the whole interval lies below the margin: {shown}", None
    elif spread > margin:
        word, rows_needed = "underpowered", rows_to_tell((b + c) / n, margin, z)
        reason = f"{rows} rows cannot tell, about {rows_needed} would: {shown}"
    else:
        word, reason, rows_needed = "inconclusive", f"the interval holds the margin: {shown}", None
    return AccuracyVerdict.model_validate(
        {
            "word": word,
            "difference": difference,
            "low": low,
            "high": high,
            "margin": margin,
            "p_value": float(stats.norm.sf((centre + margin) / error)),
            "rows": rows,
            "rows_needed": rows_needed,
            "reason": reason,
        }
    )


def holm(p_values: Sequence[float]) -> list[bool]:
    """Which hypotheses fall at 5 % over all of them together, step by step (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    fallen = [False] * len(p_values)
    for rank, i in enumerate(order):
        if p_values[i] > (1 - CONFIDENCE) / (len(p_values) - rank):
            break
        fallen[i] = True
    return fallen


def rows_to_tell(discordance: float, margin: float, z: float) -> int:
    """Rows at which an unchanged variant is found to be kept four times in five.

    `discordance` is the share of rows where only one of the two is right, `z` the bound's normal quantile.
    """
    return math.ceil((z + float(stats.norm.ppf(POWER))) ** 2 * discordance / margin**2)
