"""The recommended variant: the fastest that keeps accuracy on validation rows, if the test rows agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.nouns.measurement import measured
from bench.nouns.run import Result
from bench.nouns.verdict import AccuracyVerdict
from bench.recommend import judge_accuracy, recommend, training_cautions
from bench.statistics import SPEED_MARGIN, Outcome, judge, speed_verdict
from tests.bench.meters.documents import run_of

KEPT, BARELY, LOST, UNSURE = 0, 12, 200, 18


def accuracy(dense_hits: list[bool], variant_hits: list[bool]) -> AccuracyVerdict:
    before, after = (
        [Outcome("b", "b" if hit else "a") for hit in hits] for hits in (dense_hits, variant_hits)
    )
    return judge(before, after, 0.01)


def row(name: str, speedup: float, half: float = 0.01, seed: int = 0, **lost: int) -> Result:
    """A measured variant that loses so many of 2,000 rows of each split."""
    metric = measured("speedup", speedup, "paired", (speedup - half, speedup + half))
    return Result(
        variant=name,
        seed=seed,
        status="ok",
        metrics={"speedup": metric},
        verdicts={"speedup": speed_verdict(metric, SPEED_MARGIN)},
        accuracy_kept={
            split: accuracy([True] * 2000, [True] * (2000 - rows) + [False] * rows)
            for split, rows in lost.items()
        },
    )


DENSE_ROW = Result(
    variant="dense", seed=0, status="ok", metrics={"speedup": measured("speedup", 1.0, "definition")}
)
FAILED = Result(variant="bmp75", seed=0, status="failed", reason="memory")


@pytest.mark.parametrize(
    ("rows", "expected"),
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
def test_which_variant_is_recommended(rows: list[Result], expected: str | None) -> None:
    run = run_of(DENSE_ROW, *rows, FAILED)
    run.results[-1].recommended = True
    recommend(run)
    assert [result.variant for result in run.results if result.recommended] == [expected] * bool(expected)


def recommended(*rows: Result) -> list[tuple[str, int]]:
    """Variant and seed of the rows that are marked."""
    run = run_of(DENSE_ROW, *rows)
    recommend(run)
    return [(result.variant, result.seed) for result in run.results if result.recommended]


def test_with_several_seeds_all_of_a_variants_rows_are_marked() -> None:
    rows = [row("a", 1.5, seed=seed, validation=KEPT, test=KEPT) for seed in (0, 1, 2)]
    assert recommended(*rows) == [("a", 0), ("a", 1), ("a", 2)]


def test_one_seed_that_is_slow_or_loses_accuracy_or_failed_rules_a_variant_out() -> None:
    good = row("a", 1.5, seed=0, validation=KEPT, test=KEPT)
    for bad in (
        row("a", 1.0, seed=1, validation=KEPT, test=KEPT),
        row("a", 1.5, seed=1, validation=LOST, test=KEPT),
        row("a", 1.5, seed=1, validation=KEPT, test=LOST),
        row("a", 1.5, seed=1, validation=KEPT, test=UNSURE),
        Result(variant="a", seed=1, status="failed", reason="memory"),
    ):
        assert recommended(good, bad) == []
        assert recommended(bad, good) == []


def test_variants_are_compared_by_their_slowest_seed() -> None:
    kept = {"validation": KEPT, "test": KEPT}
    even = [row("even", 1.5, seed=seed, **kept) for seed in (0, 1)]
    uneven = [row("uneven", 2.0, seed=0, **kept), row("uneven", 1.4, seed=1, **kept)]
    assert recommended(*uneven, *even) == [("even", 0), ("even", 1)]


def test_seeds_are_no_further_variants_to_adjust_for() -> None:
    """Twelve variants that barely keep accuracy are too many; twelve seeds of one are not."""
    seeds = [row("a", 1.5, seed=seed, validation=KEPT, test=BARELY) for seed in range(12)]
    assert len(recommended(*seeds)) == 12


Line = tuple[str, str, str, bool]


def predictions(file: Path, rows: list[Line]) -> Path:
    with file.open("w", encoding="utf-8") as opened:
        for split, label, predicted, seen in rows:
            line = {"split": split, "label": label, "predicted": predicted, "seen": seen}
            opened.write(json.dumps(line, ensure_ascii=False) + "\n")
    return file


def test_splits_are_judged_apart_from_the_predictions_on_disk(tmp_path: Path) -> None:
    validation, test = ("validation", "अ", "अ", False), ("test", "b", "b", False)
    wrong = ("validation", "अ", "b", False), ("test", "b", "अ", False)
    dense = predictions(tmp_path / "dense.jsonl", [validation] * 1000 + [test] * 2000)
    variant = predictions(
        tmp_path / "variant.jsonl",
        [validation] * 900 + [wrong[0]] * 100 + [test] * 1990 + [wrong[1]] * 10,
    )
    verdicts = judge_accuracy(dense, variant, 0.01)
    assert {split: verdict.word for split, verdict in verdicts.items()} == {
        "validation": "lost",
        "test": "kept",
    }
    assert verdicts["validation"].difference == pytest.approx(-0.1)
    assert verdicts["test"].difference == pytest.approx(-0.005)
    assert verdicts["test"].flip_rate == pytest.approx(0.005)


def test_without_validation_rows_there_is_no_validation_verdict(tmp_path: Path) -> None:
    same = predictions(tmp_path / "dense.jsonl", [("test", "a", "a", False)] * 300)
    assert judge_accuracy(same, same, 0.01).keys() == {"test"}


def test_unseen_rows_are_judged_apart_where_only_some_are(tmp_path: Path) -> None:
    seen, new = ("test", "b", "b", True), ("test", "b", "b", False)
    dense = predictions(tmp_path / "dense.jsonl", [seen, new] * 1000)
    variant = predictions(
        tmp_path / "variant.jsonl", [seen, ("test", "b", "a", False)] * 20 + [seen, new] * 980
    )
    verdicts = judge_accuracy(dense, variant, 0.01)
    assert verdicts["test"].rows == 2000
    assert (verdicts["test unseen"].rows, verdicts["test unseen"].lost) == (1000, 20)
    every = predictions(tmp_path / "every.jsonl", [seen] * 300)
    assert judge_accuracy(every, every, 0.01).keys() == {"test"}


def test_a_variant_better_than_dense_calls_for_the_control() -> None:
    gained = accuracy([True] * 1800 + [False] * 200, [True] * 1900 + [False] * 100)
    better = Result(variant="bmp50", seed=0, status="ok", accuracy_kept={"test": gained})
    control = Result(variant="ft", seed=0, status="ok", accuracy_kept={"test": gained})
    (caution,) = training_cautions(run_of(DENSE_ROW, better))
    assert caution.code == "further-training"
    assert "bmp50" in caution.text
    assert "add ft" in caution.remedy
    (shown,) = training_cautions(run_of(DENSE_ROW, better, control))
    assert "ft" in shown.text
    assert "gains 5.0 points" in shown.text
    assert "the row of ft" in shown.remedy
    no_gain = row("ft", 1.0, test=KEPT)
    assert not training_cautions(run_of(DENSE_ROW, better, no_gain))
    assert not training_cautions(run_of(DENSE_ROW, row("a", 1.5, test=KEPT)))
