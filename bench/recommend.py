"""Which variant to recommend: chosen on validation rows, judged on test rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bench.nouns.run import DENSE, Run
from bench.nouns.verdict import AccuracyVerdict
from bench.statistics import accuracy_kept, holm


def judge_accuracy(dense: Path, variant: Path, margin: float) -> dict[str, AccuracyVerdict]:
    """Verdicts by split, from two files of predictions on the same rows."""
    verdicts = {}
    for split in ("validation", "test"):
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
    """Mark the fastest variant that keeps accuracy: chosen on the validation rows, judged on the test rows.

    Those faster than dense that lose less than the margin on the validation rows are chosen; whether they
    keep accuracy is judged on the test rows, Holm-adjusted over all of them. Without validation rows the
    test rows choose as well.
    """
    for result in run.results:
        result.recommended = False
    candidates = [result for result in run.results if result.variant != DENSE and result.is_candidate]
    confirmed = holm([result.accuracy_kept["test"].p_value for result in candidates])
    kept = [result for result, holds in zip(candidates, confirmed, strict=True) if holds]
    if kept:
        max(kept, key=lambda result: result.metrics["speedup"].value).recommended = True


def training_warnings(run: Run) -> list[str]:
    """Where variants beat dense, that they were trained further, unless the run shows what that gives."""
    better = [r for r in run.results if (v := r.accuracy_kept.get("test")) and v.low > 0]
    if not better or any(result.variant == "ft" for result in run.results):
        return []
    return [
        f"{better[0].variant} is more accurate than dense, which further training may explain: add ft to "
        "--variants, the same training with nothing compressed"
    ]
