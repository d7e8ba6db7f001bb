"""Stratified splits and limits, for any mixture of classes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.task import Example
from bench.tasks.split import limit, split

labels = st.lists(st.integers(0, 5), max_size=120)
seeds = st.integers(0, 2**32)


def examples_of(classes: list[int]) -> list[Example]:
    return [Example(text=str(row), label=label) for row, label in enumerate(classes)]


def rows(examples: tuple[Example, ...]) -> list[int]:
    return [int(example.text) for example in examples]


def sizes(examples: tuple[Example, ...]) -> Counter[int]:
    return Counter(example.label for example in examples)


@given(labels, st.floats(0.01, 0.99), seeds)
def test_a_split_is_complete_disjoint_ordered_and_stratified(
    classes: list[int], share: float, seed: int
) -> None:
    examples = examples_of(classes)
    kept, held = split(examples, share, seed)
    assert sorted(rows(kept) + rows(held)) == list(range(len(examples)))
    assert rows(kept) == sorted(rows(kept))
    assert rows(held) == sorted(rows(held))
    for label, size in Counter(classes).items():
        assert abs(sizes(held)[label] - share * size) <= 1
        assert sizes(kept)[label] >= 1
        assert (sizes(held)[label] >= 1) == (size >= 2)
    assert split(examples, share, seed) == (kept, held)


@given(labels, st.integers(6, 130), seeds)
def test_a_limit_is_exact_and_keeps_every_class(classes: list[int], most: int, seed: int) -> None:
    examples = examples_of(classes)
    chosen = limit(examples, most, seed)
    assert len(chosen) == min(most, len(examples))
    assert rows(chosen) == sorted(set(rows(chosen)))
    assert set(sizes(chosen)) == set(classes)
    assert limit(examples, most, seed) == chosen


@given(st.lists(st.integers(10, 60), min_size=1, max_size=6), st.integers(60, 200), seeds)
def test_a_limit_is_proportional(class_sizes: list[int], most: int, seed: int) -> None:
    examples = examples_of([label for label, size in enumerate(class_sizes) for _ in range(size)])
    chosen = sizes(limit(examples, most, seed))
    for label, size in enumerate(class_sizes):
        quota = min(most, len(examples)) * size / len(examples)
        assert quota < 1 or abs(chosen[label] - quota) <= 1


def test_small_classes_are_lifted_to_one_row_at_the_expense_of_the_large() -> None:
    examples = examples_of([0] * 1000 + list(range(1, 21)))
    assert sizes(limit(examples, 30, seed=0)) == Counter({0: 10, **dict.fromkeys(range(1, 21), 1)})


def test_another_seed_chooses_other_rows() -> None:
    examples = examples_of([0, 1] * 500)
    assert limit(examples, 100, seed=0) != limit(examples, 100, seed=1)


def test_a_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rows cannot hold 3 classes"):
        limit(examples_of([0, 1, 2]), 2, seed=0)
