"""A text classification task: the model to compress and the rows to judge it by."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import field_validator

from bench.nouns.audit import DataAudit
from bench.nouns.document import Count, Document


@dataclass(frozen=True)
class Example:
    """One row. `label` indexes `Task.labels`; `pair` is the second text of a pair task.

    `seen` marks a row to be judged by whose text stands in the training file too.
    """

    text: str
    label: int
    pair: str | None = None
    seen: bool = False


@dataclass(frozen=True)
class Task:
    """Model, rows and label names; everything a run needs to know about the job.

    `model` is a checkpoint's path or hub id, or None: a small BERT and a WordPiece tokenizer are then
    trained on `train`. `fine_tune` says whether dense is fine-tuned first or used as it came. `label_map`
    gives a checkpoint's class names those of `labels`. `notes` are sentences for the user: what was
    guessed, dropped or split.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    model: str | None = None
    fine_tune: bool = True
    demonstration: bool = False
    label_map: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())
    dropped: dict[str, int] = field(default_factory=dict)
    audit: DataAudit = field(default_factory=DataAudit)


class TaskSummary(Document):
    """What a run document keeps of its task; `pairs` says whether its rows have a second text."""

    name: str
    description: str
    demonstration: bool
    model: str | None
    labels: list[str]
    pairs: bool = False
    rows: dict[str, Count]
    dropped: dict[str, Count]
    notes: list[str]
    audit: DataAudit

    @field_validator("rows")
    @classmethod
    def _check_rows(cls, rows: dict[str, int]) -> dict[str, int]:
        """What a classifier is judged by is always there."""
        if not rows.get("test"):
            raise ValueError("there are no test rows")
        return rows
