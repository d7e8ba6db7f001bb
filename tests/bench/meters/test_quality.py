"""Predictions in the task's rows and names, and the accuracy and F1 that follow from them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.errors import MeasuringError
from bench.meters.quality import Prediction, predict, quality
from bench.meters.subject import Subject, load_subject
from tests.bench.meters.conftest import LABELS, ROWS, Open, save_tiny

SEEN = [i % 4 == 0 for i in range(len(ROWS))]


def test_predictions_are_the_models_own_whatever_the_batches(subject: Open) -> None:
    tiny = subject("dense")
    labels = [LABELS[row.label] for row in ROWS]
    found, wall_time_s = predict(tiny, tiny.rows, labels, "test", 7, SEEN)
    single, _ = predict(tiny, tiny.rows, labels, "test", 1, SEEN)
    assert wall_time_s > 0
    assert [p.row for p in found] == list(range(len(ROWS)))
    assert [p.label for p in found] == labels
    assert {p.split for p in found} == {"test"}
    assert [p.as_dict()["seen"] for p in found] == SEEN
    assert [p.predicted for p in found] == [p.predicted for p in single]
    for prediction, row in list(zip(found, tiny.rows, strict=True))[:10]:
        with torch.no_grad():
            logits = tiny.model(**{key: torch.tensor([value]) for key, value in row.items()}).logits[0]
        assert prediction.predicted == LABELS[int(logits.argmax())]
        assert prediction.confidence == pytest.approx(float(logits.softmax(-1).max()), abs=1e-4)


def test_predictions_of_sorted_rows_stand_in_the_rows_own_order(subject: Open, sorting: Subject) -> None:
    labels = [LABELS[row.label] for row in ROWS]
    arrived, _ = predict(subject("dense"), sorting.rows, labels, "test", 4, SEEN)
    found, _ = predict(sorting, sorting.rows, labels, "test", 4, SEEN)
    assert [(p.row, p.label, p.predicted, p.seen) for p in found] == [
        (p.row, p.label, p.predicted, p.seen) for p in arrived
    ]
    assert [p.confidence for p in found] == pytest.approx([p.confidence for p in arrived], abs=1e-5)
    assert len({p.confidence for p in found}) > 5


def test_classes_in_another_order_change_no_prediction(subject: Open, tmp_path: Path) -> None:
    """A model that numbers the classes otherwise, its head's rows in that order, says the same names."""
    tiny = subject("dense")
    order = [2, 0, 1]
    folder = save_tiny(tmp_path / "artifact", tuple(LABELS[i] for i in order))
    other = load_subject("other", folder, ROWS, 32, "cpu")
    with torch.no_grad():
        tiny.model.classifier.bias.copy_(torch.tensor([0.1, -0.1, 0.05]))
        other.model.classifier.weight.copy_(tiny.model.classifier.weight[order])
        other.model.classifier.bias.copy_(tiny.model.classifier.bias[order])
    labels = [LABELS[row.label] for row in ROWS]
    mine, _ = predict(tiny, tiny.rows, labels, "test", 8, SEEN)
    theirs, _ = predict(other, other.rows, labels, "test", 8, SEEN)
    assert [p.predicted for p in mine] == [p.predicted for p in theirs]
    found = [quality(rows, LABELS, 1.0).metrics["accuracy"].value for rows in (mine, theirs)]
    assert found[0] == found[1]


@pytest.mark.usefixtures("asleep")
def test_what_a_new_shape_takes_to_compile_is_no_part_of_the_time(subject: Open) -> None:
    """As of the last rows, which fill no batch, where each shape is captured at its first call."""

    class Captured(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.config = tiny.model, tiny.model.config
            self.compile_time_s = 3.0

        def forward(self, **batch: torch.Tensor) -> object:
            if len(batch["input_ids"]) < 7:
                time.sleep(5.0)
                self.compile_time_s += 5.0
            time.sleep(0.1)
            return self.model(**batch)

    tiny = subject("dense")
    captured = replace(tiny, model=Captured())
    found, wall_time_s = predict(captured, tiny.rows, ["x"] * len(ROWS), "test", 7, SEEN)
    assert len(found) == len(ROWS) == 50
    assert wall_time_s == pytest.approx(8 * 0.1)


def test_no_rows_are_no_predictions(subject: Open) -> None:
    assert predict(subject("dense"), [], [], "validation", 8, []) == ([], 0.0)


def test_logits_that_are_no_numbers_are_no_predictions(subject: Open) -> None:
    tiny = subject("dense")
    with torch.no_grad():
        tiny.model.classifier.bias[1] = float("nan")
    with pytest.raises(
        MeasuringError, match=f"logits of {len(ROWS)} of {len(ROWS)} test rows are not finite"
    ):
        predict(tiny, tiny.rows, ["money"] * len(ROWS), "test", 8, SEEN)


def predictions(*pairs: tuple[str, str]) -> list[Prediction]:
    return [Prediction("test", row, *pair, 0.9, seen=False) for row, pair in enumerate(pairs)]


def test_accuracy_and_macro_f1_by_hand() -> None:
    # money: precision 2/3, recall 2/2; sport: 1/1, 1/2; travel: no row, so it counts in neither.
    rows = predictions(("money", "money"), ("money", "money"), ("sport", "sport"), ("sport", "money"))
    found = quality(rows, LABELS, 2.5).metrics
    assert found["accuracy"].value == 0.75
    assert found["macro_f1"].value == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["inference_wall_time"].value == 2.5
    low, high = found["accuracy"].ci_low, found["accuracy"].ci_high
    assert low == pytest.approx(0.3006, abs=1e-3)
    assert high == pytest.approx(0.9544, abs=1e-3)


def test_a_class_beyond_the_tasks_is_an_error_like_any_other() -> None:
    rows = predictions(("money", "money"), ("sport", "weather"))
    found = quality(rows, LABELS, 1.0).metrics
    assert found["accuracy"].value == 0.5
    assert found["macro_f1"].value == pytest.approx(0.5)


def test_accuracy_on_unseen_rows_is_given_where_some_are_seen() -> None:
    rows = [
        Prediction("test", 0, "money", "money", 0.9, seen=True),
        Prediction("test", 1, "money", "money", 0.9, seen=False),
        Prediction("test", 2, "sport", "money", 0.9, seen=False),
    ]
    found = quality(rows, LABELS, 1.0)
    assert found.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert found.metrics["accuracy_unseen"].value == 0.5
    assert "accuracy_unseen" not in found.unavailable


@pytest.mark.parametrize(("seen", "which"), [(False, "no"), (True, "every")])
def test_accuracy_on_unseen_rows_is_absent_where_it_would_say_nothing_new(seen: bool, which: str) -> None:
    found = quality([Prediction("test", 0, "money", "money", 0.9, seen)] * 3, LABELS, 1.0)
    assert "accuracy_unseen" not in found.metrics
    assert found.unavailable["accuracy_unseen"] == f"{which} test row stands in the training file"


def test_calibration_error_by_hand() -> None:
    # As many bins as rows: the mean of each row's gap between confidence and being right.
    rows = [
        Prediction("test", 0, "money", "money", 0.9, seen=False),
        Prediction("test", 1, "money", "sport", 0.6, seen=False),
        Prediction("test", 2, "sport", "sport", 0.8, seen=False),
    ]
    error = quality(rows, LABELS, 1.0).metrics["calibration_error"]
    assert error.value == pytest.approx((0.1 + 0.6 + 0.2) / 3)
    assert error.ci_low is not None
    assert error.ci_high is not None
    assert error.ci_low <= error.value <= error.ci_high
