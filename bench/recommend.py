"""Which variant to recommend: chosen on validation rows, judged on test rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bench.errors import in_one_line
from bench.nouns.environment import Caution
from bench.nouns.run import DENSE, Result, Run
from bench.nouns.verdict import AccuracyVerdict, Choice
from bench.statistics import CONFIDENCE, Outcome, holm, judge, loss_p_value
from bench.training_speedup import CONTROL

MOST_TENTHS = 100


def judge_accuracy(dense: Path, variant: Path, margin: float) -> dict[str, AccuracyVerdict]:
    """Verdicts by split, from two files of predictions on the same rows."""
    before, after = read(dense), read(variant)
    return {split: judge(before[split], after[split], margin) for split in before}


def read(predictions: Path) -> dict[str, list[Outcome]]:
    """Outcomes by split, in row order; `test unseen` where some test rows stand in the training file."""
    splits: dict[str, list[Outcome]] = {}
    unseen = []
    with predictions.open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            outcome = Outcome(line["label"], line["predicted"])
            splits.setdefault(line["split"], []).append(outcome)
            if line["split"] == "test" and not line["seen"]:
                unseen.append(outcome)
    if 0 < len(unseen) < len(splits["test"]):
        splits["test unseen"] = unseen
    return splits


def flaw_of(predictions: Path, rows: Mapping[str, int]) -> str:
    """What keeps the file from being an answer to each row, empty where it is; `rows` by split."""
    try:
        found = read(predictions)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{predictions}: cannot be read ({in_one_line(error)})"
    for split in ("validation", "test"):
        there, wanted = len(found.get(split, [])), rows.get(split, 0)
        if there != wanted:
            return f"{predictions}: answers {there} of {wanted} {split} rows"
    return ""


def recommend(run: Run) -> None:
    """Mark the recommended variant; see `recommended`."""
    chosen = recommended(run, run.config.accuracy_margin)
    for result in run.results:
        result.recommended = result.variant == chosen


def choices(run: Run) -> list[Choice]:
    """What would be recommended for every loss of accuracy up to 10 points, in steps of a tenth."""
    found: list[Choice] = []
    for tenths in range(MOST_TENTHS + 1) if run.status == "complete" else ():
        variant = recommended(run, tenths / 1000)
        if not found or found[-1].variant != variant:
            found.append(Choice(margin=tenths / 1000, variant=variant))
    return found


def recommended(run: Run, margin: float) -> str | None:
    """The fastest variant that keeps accuracy: chosen on the validation rows, judged on the test rows.

    Those faster than dense that lose less than the margin on the validation rows are chosen; whether they
    keep accuracy is judged on the test rows, Holm-adjusted over all of them. Without validation rows all the
    faster ones are judged. With several seeds every one must hold, and the worst of them counts.
    """
    seeds: dict[str, list[Result]] = {}
    for result in run.results:
        if result.variant != DENSE:
            seeds.setdefault(result.variant, []).append(result)
    candidates = [rows for rows in seeds.values() if all(result.is_candidate(margin) for result in rows)]
    p_values = [max(p_value_of(row.accuracy_kept["test"], margin) for row in rows) for rows in candidates]
    adjusted = zip(candidates, holm(p_values), strict=True)
    kept = [rows for rows, p_value in adjusted if p_value <= 1 - CONFIDENCE]
    best = max(kept, key=slowest, default=None)
    return best[0].variant if best else None


def p_value_of(verdict: AccuracyVerdict, margin: float) -> float:
    """The verdict's p-value for another margin."""
    return loss_p_value(verdict.gained, verdict.lost, verdict.rows, margin)


def slowest(results: list[Result]) -> float:
    """The least speed-up of a variant's seeds."""
    return min(result.metrics["speedup"].value for result in results)


def training_cautions(run: Run) -> list[Caution]:
    """That dense could still gain by training, where ft shows it, or variants that beat dense suggest it."""
    better = {r.variant: v for r in run.results if (v := r.accuracy_kept.get("test")) and v.low > 0}
    if not better:
        return []
    if CONTROL in better:
        text = (
            f"ft, which is dense trained further, gains {100 * better[CONTROL].difference:.1f} points over "
            "it: accuracy kept is kept over a dense that was not trained out"
        )
        remedy = "compare variants with the row of ft, or start from a dense that is trained longer"
    elif CONTROL in run.config.variants:
        return []
    else:
        text = f"{next(iter(better))} is more accurate than dense, which further training may explain"
        remedy = "add ft to --variants, the same training with nothing compressed"
    return [Caution(code="further-training", text=text, remedy=remedy)]
