"""What the audit counts, what it says, and that cleaning leaves nothing for it to count."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.audit import SplitAudit
from bench.nouns.task import Example
from bench.tasks.audit import Rows, audit_notes, audit_split, audit_splits, deduplicate, mark_seen, text_key

LABELS = ("A", "B", "C")
SPELLINGS = (
    "rosé",
    "rose\u0301",
    " rosé ",
    "ros é",
    "Rosé",
    "a b",
    "a  b",
    "a\tb",
    "a\u00a0b\n",
    "नव",
    "न व",
)
rows_of_any_kind = st.lists(
    st.builds(
        Example, st.sampled_from(SPELLINGS), st.integers(0, 2), st.sampled_from((None, "", "x y", "x  y"))
    ),
    max_size=12,
).map(tuple)
parts_of_any_kind = st.fixed_dictionaries(dict.fromkeys(("train", "validation", "test"), rows_of_any_kind))


def rows(*described: str) -> Rows:
    """`"some words/A"` as a row of that text and label."""
    split = (row.rsplit("/", 1) for row in described)
    return tuple(Example(text, LABELS.index(label)) for text, label in split)


@pytest.mark.parametrize("spelling", ["rose\u0301 red", " ros\u00e9  red\n", "ros\u00e9\u00a0red"])
def test_composition_and_white_space_make_no_other_text(spelling: str) -> None:
    assert text_key(Example(spelling, 0)) == text_key(Example("ros\u00e9 red", 1))


@pytest.mark.parametrize("other", ["Ros\u00e9 red", "ros\u00e9red", "rose red", "ros\u00e9 red."])
def test_case_words_and_accents_do(other: str) -> None:
    assert text_key(Example(other, 0)) != text_key(Example("ros\u00e9 red", 0))


def test_of_pairs_both_texts_count() -> None:
    keys = {text_key(Example("a", 0, pair)) for pair in (None, "", "b", " b ", "c")}
    assert len(keys) == 4


def test_each_count_of_a_split() -> None:
    split = mark_seen(
        rows("a/A", "a/A", " a /B", "b/A", "b /A", "c/C", "d/C"), train=rows("b/C", "d/C", "e/A")
    )
    assert [row.seen for row in split] == [False, False, False, True, True, False, True]
    assert audit_split(split, (*LABELS, "D")) == SplitAudit(
        rows=7,
        duplicates=2,
        conflicting=3,
        in_train=3,
        classes={"A": 4, "B": 1, "C": 2, "D": 0},
    )


@given(rows_of_any_kind, rows_of_any_kind)
def test_the_counts_are_those_of_the_definitions(split: Rows, train: Rows) -> None:
    marked = mark_seen(split, train)
    audit = audit_split(marked, LABELS)
    texts = [text_key(row) for row in split]
    pairs = [(text_key(row), row.label) for row in split]
    assert audit.rows == sum(audit.classes.values()) == len(split)
    assert audit.duplicates == sum(pair in pairs[:place] for place, pair in enumerate(pairs))
    assert audit.conflicting == sum(
        any(text == other and label != of_other for other, of_other in pairs) for text, label in pairs
    )
    assert audit.in_train == sum(any(text == text_key(row) for row in train) for text in texts)
    assert [(row.text, row.label, row.pair) for row in marked] == [(r.text, r.label, r.pair) for r in split]


def test_forty_thousand_rows_are_audited_at_once() -> None:
    train = tuple(Example(f"headline {i % 30_000} of the day, of many words", i % 12) for i in range(40_000))
    times_s = []
    for _ in range(3):  # of which one is not the garbage collector's
        start = time.process_time()
        audit = audit_split(mark_seen(train, train), [str(label) for label in range(12)])
        times_s.append(time.process_time() - start)
        assert audit.in_train == 40_000
    assert min(times_s) < 2


def test_what_is_wrong_is_said_with_its_share_and_a_remedy() -> None:
    train = rows("a/A", "a/A", "b/A", "b/B", "c/C", "d/C")
    parts = {
        "train": train,
        "validation": mark_seen(rows("a/A"), train),
        "test": mark_seen(rows("c/C", "e/A"), train),
    }
    assert audit_notes(audit_splits(parts, LABELS)) == [
        "train: 1 of 6 rows (16.7%) repeat an earlier row; --deduplicate keeps the first",
        "train: 2 of 6 rows (33.3%) have a text that also has another label; --deduplicate drops them",
        "validation: 1 of 1 rows (100.0%) stand in train too; --deduplicate trains without them",
        "test: 1 of 2 rows (50.0%) stand in train too; --deduplicate trains without them, "
        "and accuracy is given on the others too",
    ]


def test_no_accuracy_on_others_is_promised_where_there_are_none() -> None:
    test = mark_seen(rows("a/A"), rows("a/A"))
    assert audit_notes(audit_splits({"test": test}, LABELS)) == [
        "test: 1 of 1 rows (100.0%) stand in train too; --deduplicate trains without them"
    ]


def test_of_clean_rows_nothing_is_said() -> None:
    parts = {"train": rows("a/A", "b/B"), "validation": (), "test": rows("c/A")}
    splits = audit_splits(parts, LABELS)
    assert list(splits) == ["train", "test"]
    assert audit_notes(splits) == []


def test_training_gives_way_then_validation_and_conflicts_go_altogether() -> None:
    cleaned, removed = deduplicate(
        {
            "train": rows("t/A", "v/A", "own/A", "own /A", "odd/A", "odd/B", "odd/A", "split/C"),
            "validation": rows("t/B", "v/A", "v/A"),
            "test": rows("t/A", "u/B", "t/A", "split/A", "split/B"),
        }
    )
    assert cleaned == {
        "train": rows("own/A", "split/C"),
        "validation": rows("v/A"),
        "test": rows("t/A", "u/B"),
    }
    assert removed == {
        "train": {"text in test": 1, "text in validation": 1, "repeated": 1, "conflicting labels": 3},
        "validation": {"text in test": 1, "repeated": 1},
        "test": {"repeated": 1, "conflicting labels": 2},
    }


def test_a_training_row_gives_way_to_a_test_row_of_another_label() -> None:
    cleaned, removed = deduplicate({"train": rows("t/A", "own/B"), "test": rows("t/B")})
    assert cleaned == {"train": rows("own/B"), "test": rows("t/B")}
    assert removed == {"train": {"text in test": 1}, "test": {}}


@given(parts_of_any_kind)
def test_after_cleaning_no_text_stands_twice(parts: dict[str, Rows]) -> None:
    cleaned, _ = deduplicate(parts)
    everything = [text_key(row) for split in cleaned.values() for row in split]
    assert len(everything) == len(set(everything))
    judged = {part: mark_seen(cleaned[part], cleaned["train"]) for part in ("validation", "test")}
    assert audit_notes(audit_splits({"train": cleaned["train"]} | judged, LABELS)) == []


@given(parts_of_any_kind)
def test_cleaning_twice_does_nothing_more(parts: dict[str, Rows]) -> None:
    cleaned, _ = deduplicate(parts)
    assert deduplicate(cleaned) == (cleaned, {part: {} for part in parts})


@given(parts_of_any_kind)
def test_what_is_left_keeps_its_order_and_what_is_gone_is_counted(parts: dict[str, Rows]) -> None:
    cleaned, removed = deduplicate(parts)
    for part, before in parts.items():
        places = iter(before)
        assert all(any(row is other for other in places) for row in cleaned[part])
        assert sum(removed[part].values()) == len(before) - len(cleaned[part])


@given(parts_of_any_kind)
def test_a_text_goes_for_good_only_where_its_labels_conflict(parts: dict[str, Rows]) -> None:
    cleaned, _ = deduplicate(parts)
    left = {text_key(row) for split in cleaned.values() for row in split}
    for split in parts.values():
        labels = {(text_key(row), row.label) for row in split}
        of_one_label = {text for text, count in Counter(text for text, _ in labels).items() if count == 1}
        assert of_one_label <= left
