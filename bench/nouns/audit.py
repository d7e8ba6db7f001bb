"""What is wrong with the rows a classifier learns from and is judged by."""

from __future__ import annotations

from pydantic import Field

from bench.nouns.document import Document


class SplitAudit(Document):
    """Counts of one split's rows; `classes` by label name.

    `duplicates` repeat an earlier row of the split, label included; `conflicting` have a text that
    stands in the split under another label too; `in_train` have a text that stands in the training file.
    """

    rows: int
    duplicates: int
    conflicting: int
    in_train: int = 0
    classes: dict[str, int]


class DataAudit(Document):
    """The audit of every split, before anything was cleaned, and what `--deduplicate` then removed."""

    splits: dict[str, SplitAudit] = Field(default_factory=dict)
    removed: dict[str, int] = Field(default_factory=dict)
