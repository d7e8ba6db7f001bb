"""A task on disk: what comes back, and which of its changes make it another task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.nouns.audit import DataAudit, SplitAudit
from bench.nouns.task import Example, Task
from bench.tasks.stored import fingerprint, read_task, summary, write_task

AUDIT = DataAudit(
    splits={"test": SplitAudit(rows=3, duplicates=1, conflicting=0, in_train=1, classes={"A": 1, "B": 2})},
    removed={"train: repeated": 4},
)
TASK = Task(
    name="some/task",
    description="two classes",
    labels=("A", "B"),
    train=(Example("एक\u2028दोन", 0), Example("b", 1)),
    validation=(Example("c", 1, "pair"),),
    test=(Example("b", 1, seen=True), Example("d", 0, pair="")),
    notes=("said",),
    dropped={"train: no text": 2},
    audit=AUDIT,
)


def test_a_task_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_task(TASK, tmp_path)
    assert read_task(tmp_path) == TASK


def test_the_run_document_keeps_the_audit() -> None:
    assert summary(TASK).audit == AUDIT


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("A", "C")},
        {"model": "some/model"},
        {"fine_tune": False},
        {"train": TASK.train[:1]},
        {"validation": (), "test": TASK.validation + TASK.test},
        {"test": (Example("b", 1), TASK.test[1])},
    ],
)
def test_what_is_trained_on_or_judged_by_is_in_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(replace(TASK, **change)) != fingerprint(TASK)


def test_what_is_only_said_is_not() -> None:
    assert fingerprint(replace(TASK, description="", notes=(), audit=DataAudit())) == fingerprint(TASK)
