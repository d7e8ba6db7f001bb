"""The recommended variant: the fastest that keeps accuracy on validation rows, if the test rows agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.nouns.measurement import measured
from bench.nouns.run import Result
from bench.recommend import judge_accuracy, recommend, training_warnings
from bench.statistics import accuracy_kept
from tests.bench.meters.documents import run_of

KEPT, BARELY, LOST, UNSURE = 0, 13, 200, 18


def row(name: str, speedup: float, half: float = 0.01, **lost: int) -> Result:
    """A measured variant that loses so many of 2,000 rows of each split."""
    verdicts = {
        split: accuracy_kept([True] * 2000, [True] * (2000 - rows) + [False] * rows, 0.01)
        for split, rows in lost.items()
    }
    metric = measured("speedup", speedup, "paired", (speedup - half, speedup + half))
    return Result(variant=name, seed=0, status="ok", metrics={"speedup": metric}, accuracy_kept=verdicts)


DENSE_ROW = Result(
    variant="dense", seed=0, status="ok", metrics={"speedup": measured("speedup", 1.0, "definition")}
)
FAILED = Result(variant="bmp75", seed=0, status="failed", reason="memory")


@pytest.mark.parametrize(
    ("rows", "recommended"),
    [
        ([row("a", 1.5, validation=KEPT, test=KEPT), row("b", 2.0, validation=KEPT, test=KEPT)], "b"),
        ([row("a", 1.5, validation=KEPT, test=KEPT), row("b", 2.0, validation=LOST, test=KEPT)], "a"),
        ([row("a", 1.5, validation=KEPT, test=KEPT), row("b", 2.0, validation=UNSURE, test=KEPT)], "b"),
        ([row("a", 1.5, validation=KEPT, test=KEPT), row("b", 2.0, validation=KEPT, test=LOST)], "a"),
        # Good enough alone, not among twelve that were tried.
        ([row("a", 1.5, validation=KEPT, test=BARELY)], "a"),
        ([row(f"a{i}", 1.5, validation=KEPT, test=BARELY) for i in range(12)], None),
        ([row("a", 1.5, validation=KEPT, test=UNSURE)], None),
        ([row("a", 1.5, validation=LOST, test=KEPT)], None),
        ([row("a", 0.8, validation=KEPT, test=KEPT)], None),
        ([row("a", 1.05, half=0.04, validation=KEPT, test=KEPT)], None),
        ([row("a", 1.05, half=0.02, validation=KEPT, test=KEPT)], "a"),
        ([row("a", 1.5, test=KEPT), row("b", 2.0, test=LOST)], "a"),
        ([row("a", 1.5)], None),
        ([], None),
    ],
    ids=[
        "the fastest that is kept",
        "lost on validation",
        "too few validation rows to be sure, enough test rows",
        "kept on validation, lost on test",
        "barely kept, alone",
        "barely kept, of twelve",
        "kept on validation, inconclusive on test",
        "kept on test alone",
        "slower than dense",
        "not surely faster than dense",
        "surely faster than dense",
        "no validation rows",
        "never judged",
        "nothing but dense",
    ],
)
def test_which_variant_is_recommended(rows: list[Result], recommended: str | None) -> None:
    run = run_of(DENSE_ROW, *rows, FAILED)
    run.results[-1].recommended = True
    recommend(run)
    assert [result.variant for result in run.results if result.recommended] == [recommended] * bool(
        recommended
    )


def predictions(file: Path, rows: list[tuple[str, str, str]]) -> Path:
    with file.open("w", encoding="utf-8") as opened:
        for split, label, predicted in rows:
            opened.write(json.dumps({"split": split, "label": label, "predicted": predicted}) + "\n")
    return file


def test_splits_are_judged_apart_from_the_predictions_on_disk(tmp_path: Path) -> None:
    dense = predictions(
        tmp_path / "dense.jsonl", [("validation", "अ", "अ")] * 1000 + [("test", "b", "b")] * 2000
    )
    variant = predictions(
        tmp_path / "variant.jsonl",
        [("validation", "अ", "अ")] * 900
        + [("validation", "अ", "b")] * 100
        + [("test", "b", "b")] * 1990
        + [("test", "b", "अ")] * 10,
    )
    verdicts = judge_accuracy(dense, variant, 0.01)
    assert {split: verdict.word for split, verdict in verdicts.items()} == {
        "validation": "lost",
        "test": "kept",
    }
    assert verdicts["validation"].difference == pytest.approx(-0.1)
    assert verdicts["test"].difference == pytest.approx(-0.005)


def test_without_validation_rows_there_is_no_validation_verdict(tmp_path: Path) -> None:
    same = predictions(tmp_path / "dense.jsonl", [("test", "a", "a")] * 300)
    assert judge_accuracy(same, same, 0.01).keys() == {"test"}


def test_a_variant_better_than_dense_calls_for_the_control() -> None:
    gained = accuracy_kept([True] * 1800 + [False] * 200, [True] * 1900 + [False] * 100, 0.01)
    better = Result(variant="bmp50", seed=0, status="ok", accuracy_kept={"test": gained})
    control = Result(variant="ft", seed=0, status="ok", accuracy_kept={"test": gained})
    assert "add ft" in training_warnings(run_of(DENSE_ROW, better))[0]
    assert not training_warnings(run_of(DENSE_ROW, better, control))
    assert not training_warnings(run_of(DENSE_ROW, row("a", 1.5, test=KEPT)))
