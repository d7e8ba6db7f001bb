"""What is wrong with the rows a classifier learns from and is judged by."""

from __future__ import annotations

from pydantic import Field

from bench.nouns.document import Count, Document


class SplitAudit(Document):
    """Counts of one split's rows; `classes` by label name.

    `duplicates` repeat an earlier row of the split, label included; `conflicting` have a text that
    stands in the split under another label too; `in_train` have a text that stands in the training file.
    """

    rows: Count
    duplicates: Count
    conflicting: Count
    in_train: Count = 0
    classes: dict[str, Count]


class DataAudit(Document):
    """The audit of every split, before anything was cleaned, and what `--deduplicate` then removed."""

    splits: dict[str, SplitAudit] = Field(default_factory=dict)
    removed: dict[str, Count] = Field(default_factory=dict)
