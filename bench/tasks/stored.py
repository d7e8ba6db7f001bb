"""A task on disk, as the workers read it, and the hash that stands for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from bench.nouns.audit import DataAudit
from bench.nouns.task import Example, Task, TaskSummary

SPLITS = ("train", "validation", "test")


def fingerprint(task: Task) -> str:
    """A hash of what the task asks: rows, which are seen, labels, model and its classes; no description."""
    digest = hashlib.sha256()
    for value in (task.labels, task.model, task.fine_tune, task.label_map):
        digest.update(json.dumps(value).encode())
    for split in SPLITS:
        for line in lines(getattr(task, split)):
            digest.update(line.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def lines(rows: Iterable[Example]) -> Iterable[str]:
    """One line of JSON a row."""
    return (json.dumps([row.text, row.label, row.pair, row.seen], ensure_ascii=False) + "\n" for row in rows)


def summary(task: Task) -> TaskSummary:
    """What the run document keeps of the task."""
    return TaskSummary(
        name=task.name,
        description=task.description,
        demonstration=task.demonstration,
        model=task.model,
        labels=list(task.labels),
        pairs=any(row.pair is not None for row in task.test),
        rows={split: len(getattr(task, split)) for split in SPLITS},
        dropped=dict(task.dropped),
        notes=list(task.notes),
        audit=task.audit,
    )


def write_task(task: Task, folder: Path) -> None:
    """Write the task below `folder`, which exists."""
    head = {field.name: getattr(task, field.name) for field in fields(task) if field.name not in SPLITS}
    head["audit"] = task.audit.model_dump()
    (folder / "task.json").write_text(json.dumps(head, ensure_ascii=False), encoding="utf-8")
    for split in SPLITS:
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(lines(getattr(task, split)))


def read_task(folder: Path) -> Task:
    """The task that `write_task` wrote."""
    head = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    head |= {name: tuple(head[name]) for name in ("labels", "notes")}
    head["audit"] = DataAudit.model_validate(head["audit"])
    for split in SPLITS:
        with (folder / f"{split}.jsonl").open(encoding="utf-8") as file:
            head[split] = tuple(Example(*json.loads(line)) for line in file)
    return Task(**head)
