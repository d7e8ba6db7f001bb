"""A task on disk, as the workers read it, and the hash that stands for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from bench.nouns.task import Example, Task, TaskSummary

SPLITS = ("train", "validation", "test")


def fingerprint(task: Task) -> str:
    """A hash of what the task asks: rows, labels and model name; not of its description."""
    digest = hashlib.sha256()
    for value in (task.labels, task.model, task.fine_tune):
        digest.update(json.dumps(value).encode())
    for split in SPLITS:
        for line in lines(getattr(task, split)):
            digest.update(line.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def lines(rows: Iterable[Example]) -> Iterable[str]:
    """One line of JSON a row."""
    return (json.dumps([row.text, row.label, row.pair], ensure_ascii=False) + "\n" for row in rows)


def summary(task: Task) -> TaskSummary:
    """What the run document keeps of the task."""
    return TaskSummary(
        name=task.name,
        description=task.description,
        demonstration=task.demonstration,
        model=task.model,
        labels=list(task.labels),
        rows={split: len(getattr(task, split)) for split in SPLITS},
        dropped=dict(task.dropped),
        notes=list(task.notes),
        fingerprint=fingerprint(task),
    )


def write_task(task: Task, folder: Path) -> None:
    """Write the task below `folder`, which exists."""
    head = {key: value for key, value in asdict(task).items() if key not in SPLITS}
    (folder / "task.json").write_text(json.dumps(head, ensure_ascii=False))
    for split in SPLITS:
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(lines(getattr(task, split)))


def read_task(folder: Path) -> Task:
    """The task that `write_task` wrote."""
    head = json.loads((folder / "task.json").read_text())
    head |= {name: tuple(head[name]) for name in ("labels", "notes")}
    for split in SPLITS:
        with (folder / f"{split}.jsonl").open(encoding="utf-8") as file:
            head[split] = tuple(Example(text, label, pair) for text, label, pair in map(json.loads, file))
    return Task(**head)
