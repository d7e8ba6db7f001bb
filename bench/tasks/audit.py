"""What is wrong with the rows of a task: counted, said and, with `--deduplicate`, cleaned.

Two rows have the same text if their texts are equal in Unicode's normal form C (Unicode Standard
Annex 15) with every run of white space read as one space; case counts. Rows with a second text must
agree in both.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bench.nouns.audit import SplitAudit
from bench.nouns.task import Example

Rows = tuple[Example, ...]
TextKey = tuple[str, str | None]

# Rows to be judged by are dearer than rows to learn from: where a text stands in both, training gives way.
DEAREST_FIRST = ("test", "validation", "train")


def text_key(row: Example) -> TextKey:
    """What rows of the same text have in common."""
    return _plain(row.text), None if row.pair is None else _plain(row.pair)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def mark_seen(rows: Iterable[Example], train: Iterable[Example]) -> Rows:
    """`rows`, each `seen` if its text stands in `train`."""
    texts = {text_key(row) for row in train}
    return tuple(replace(row, seen=text_key(row) in texts) for row in rows)


def audit_split(rows: Sequence[Example], labels: Sequence[str]) -> SplitAudit:
    """The audit of one split's rows, marked by `mark_seen` before; every one of `labels` is counted."""
    keys = [text_key(row) for row in rows]
    labels_of = _label_counts(keys, rows)
    sizes = Counter(row.label for row in rows)
    return SplitAudit(
        rows=len(rows),
        duplicates=len(rows) - labels_of.total(),
        conflicting=sum(labels_of[key] > 1 for key in keys),
        in_train=sum(row.seen for row in rows),
        classes={name: sizes[label] for label, name in enumerate(labels)},
    )


def _label_counts(keys: Iterable[TextKey], rows: Iterable[Example]) -> Counter[TextKey]:
    """How many different labels each text has."""
    return Counter(key for key, _ in {(key, row.label) for key, row in zip(keys, rows, strict=True)})


def audit_splits(parts: Mapping[str, Sequence[Example]], labels: Sequence[str]) -> dict[str, SplitAudit]:
    """The audit of every split that has rows."""
    return {part: audit_split(rows, labels) for part, rows in parts.items() if rows}


def audit_notes(splits: Mapping[str, SplitAudit]) -> list[str]:
    """A sentence for every count that is not 0, with its share and the remedy."""
    notes = []
    for part, audit in splits.items():
        judged_apart = part == "test" and audit.in_train < audit.rows
        beside = ", and accuracy is given on the others too" if judged_apart else ""
        counts = {
            "repeat an earlier row; --deduplicate keeps the first": audit.duplicates,
            "have a text that also has another label; --deduplicate drops them": audit.conflicting,
            f"stand in train too; --deduplicate trains without them{beside}": audit.in_train,
        }
        notes += [
            f"{part}: {count:,} of {audit.rows:,} rows ({count / audit.rows:.1%}) {what}"
            for what, count in counts.items()
            if count
        ]
    return notes


def deduplicate(parts: Mapping[str, Rows]) -> tuple[dict[str, Rows], dict[str, dict[str, int]]]:
    """`parts` with no text twice in all of them, and how many rows of each were removed for what.

    Of each split go the rows whose text has several labels there, those whose text a dearer split
    keeps, and all but the first of those that are left of a text. The order stays.
    """
    kept: dict[str, Rows] = {}
    removed: dict[str, dict[str, int]] = {}
    dearer: dict[TextKey, str] = {}
    for part in filter(parts.__contains__, DEAREST_FIRST):
        keys = [text_key(row) for row in parts[part]]
        labels_of = _label_counts(keys, parts[part])
        first: dict[TextKey, Example] = {}
        reasons: Counter[str] = Counter()
        for key, row in zip(keys, parts[part], strict=True):
            if labels_of[key] > 1:
                reasons["conflicting labels"] += 1
            elif key in dearer:
                reasons[f"text in {dearer[key]}"] += 1
            elif key in first:
                reasons["repeated"] += 1
            else:
                first[key] = row
        kept[part], removed[part] = tuple(first.values()), dict(reasons)
        dearer |= dict.fromkeys(first, part)
    return {part: kept[part] for part in parts}, {part: removed[part] for part in parts}
