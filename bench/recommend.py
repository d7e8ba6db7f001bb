"""Which variant to recommend: chosen on validation rows, judged on test rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bench.nouns.run import DENSE, Result, Run
from bench.nouns.verdict import AccuracyVerdict
from bench.statistics import accuracy_kept

SPLITS = ("validation", "test")
SPEED_MARGIN = 0.02


def judge_accuracy(dense: Path, variant: Path, margin: float) -> dict[str, AccuracyVerdict]:
    """Verdicts by split, from two files of predictions on the same rows."""
    verdicts = {}
    for split in SPLITS:
        dense_hits, variant_hits = hits(dense, split), hits(variant, split)
        if dense_hits:
            verdicts[split] = accuracy_kept(dense_hits, variant_hits, margin)
    return verdicts


def hits(predictions: Path, split: str) -> list[bool]:
    """Whether each row of the split was classified correctly, in row order."""
    return [line["label"] == line["predicted"] for line in read(predictions) if line["split"] == split]


def read(predictions: Path) -> Iterator[dict[str, str]]:
    """The lines of a file of predictions."""
    with predictions.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def recommend(run: Run) -> None:
    """Mark the fastest variant that keeps accuracy on the validation rows, if the test rows agree.

    Faster means that the whole interval of its speed-up lies above 1 and the margin. Without validation
    rows the test rows choose as well.
    """
    for result in run.results:
        result.recommended = False
    candidates = [result for result in run.results if result.status == "ok" and result.variant != DENSE]
    kept = [result for result in candidates if word(result, "validation") == "kept"]
    if not kept:
        return
    fastest = max(kept, key=lambda result: result.metrics["speedup"].value)
    speedup = fastest.metrics["speedup"]
    low = speedup.value if speedup.ci_low is None else speedup.ci_low
    fastest.recommended = low > 1 + SPEED_MARGIN and word(fastest, "test") == "kept"


def word(result: Result, split: str) -> str | None:
    """The verdict's word on a split; the test rows stand in where there are no validation rows."""
    verdict = result.accuracy_kept.get(split) or result.accuracy_kept.get("test")
    return verdict.word if verdict else None
