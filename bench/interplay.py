"""What the parts of a combined variant give together, beside what each of them gives alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.nouns.measurement import Measurement
from bench.nouns.run import DENSE, Result, Run
from bench.nouns.verdict import Interplay, InterplayWord
from bench.recommend import read
from bench.statistics import Side, beside_margin, mean_interval, quotient

WORDS: dict[Side, InterplayWord] = {
    "above": "reinforce",
    "below": "interfere",
    "within": "multiply",
    "partly": "inconclusive",
}


def add_interplay(run: Run, predictions: Callable[[Result], Path]) -> None:
    """Put `interplay` into every measured combination whose parts were all measured alone at its seed.

    `predictions` says where a result's lie.
    """
    measured = {(row.variant, row.seed): row for row in run.results if row.status == "ok"}
    for result in measured.values():
        alone = [measured.get((part, result.seed)) for part in result.parts]
        dense = measured.get((DENSE, result.seed))
        if len(alone) > 1 and dense and all(alone):
            parts = [row for row in alone if row]
            result.interplay = interplay(result, parts, dense, predictions)


def interplay(
    result: Result, parts: Sequence[Result], dense: Result, predictions: Callable[[Result], Path]
) -> Interplay | None:
    """How one combination compares with its parts; None where a speedup has no interval, or their batches or
    machines differ.

    The margin of one speed-up allows for what shifts a process as a whole, which no interval within it shows.
    Here as many processes as there are speed-ups were each shifted by themselves; such shifts add as their
    squares do, on logarithms.
    """
    rows = (result, *parts)
    speedups, settings = [speedup(row) for row in rows], {(row.batch_size, row.machine) for row in rows}
    if any(found is None for found in speedups) or len(settings) > 1:
        return None
    whole, *alone = [found for found in speedups if found]
    ratio, (low, high) = quotient([whole], alone)
    margin = (1 + result.verdicts["speedup"].margin) ** math.sqrt(len(speedups)) - 1
    side, reason = beside_margin(low, high, margin)
    together, without, *singly = [right(predictions(row)) for row in (result, dense, *parts)]
    beyond = together + (len(parts) - 1) * without - np.sum(singly, axis=0)
    points, (points_low, points_high) = mean_interval(beyond)
    return Interplay(
        word=WORDS[side],
        alone={row.variant: row.metrics["speedup"].value for row in parts},
        ratio=ratio,
        low=low,
        high=high,
        margin=margin,
        points=points,
        points_low=points_low,
        points_high=points_high,
        reason=reason,
    )


def speedup(result: Result) -> Measurement | None:
    """The speedup over dense that a verdict rests on, or None."""
    verdict = result.verdicts.get("speedup")
    return result.metrics["speedup"] if verdict and verdict.ratio is not None else None


def right(predictions: Path) -> NDArray[np.int64]:
    """1 for each test row that was classified correctly, 0 for each other."""
    return np.array([int(outcome.is_right) for outcome in read(predictions)["test"]])
