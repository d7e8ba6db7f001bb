"""What each scenario feeds the model: which rows, how many tokens, how much padding."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.encoding import Batch
from bench.meters.feeds import MOST_SLICES, Feed, cut, filled, headline, padded, shaped, threaded, usual
from bench.meters.subject import Subject
from tests.bench.meters.conftest import ROWS, Open


def batches(feed: Feed, subject: Subject) -> list[Batch]:
    """The batches that the feed's calls hold."""
    return [call.args[0] for call in feed.calls(subject)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("size", "slices"), [(1, 50), (8, 6), (25, 2), (50, 1), (60, 1)])
def test_a_last_partial_batch_is_timed_only_where_it_is_the_only_one(
    subject: Open, size: int, slices: int
) -> None:
    feed = headline(subject("dense"), size)
    assert len(feed.slices) == slices
    assert {len(slice_) for slice_ in feed.slices} == {min(size, len(ROWS))}


def test_of_very_many_rows_evenly_spread_ones_are_taken() -> None:
    slices = cut(range(100_000), 1)
    assert len(slices) <= MOST_SLICES
    gaps = {later[0] - earlier[0] for earlier, later in itertools.pairwise(slices)}
    assert len(gaps) == 1
    assert slices[-1][0] > 99_000


@given(st.integers(1, 200), st.integers(1, 64))
def test_slices_keep_the_order_and_repeat_nothing(rows: int, size: int) -> None:
    places = [place for slice_ in cut(range(rows), size) for place in slice_]
    assert places == list(range(len(places)))
    assert rows - len(places) < size


def test_what_is_counted_is_what_the_batches_hold(subject: Open) -> None:
    tiny = subject("dense")
    for feed in [
        headline(tiny, 8),
        padded(tiny, 8, "fixed"),
        padded(tiny, 8, "sorted"),
        shaped(tiny, (3, 20)),
        threaded(tiny, 8, 1),
    ]:
        for batch, contents in zip(batches(feed, tiny), feed.contents(tiny), strict=True):
            assert contents.rows == len(batch["input_ids"])
            assert contents.padded_tokens == batch["input_ids"].numel()
            assert contents.tokens == int(batch["attention_mask"].sum())


def padding_share(feed: Feed, subject: Subject) -> float:
    contents = feed.contents(subject)
    return 1 - sum(c.tokens for c in contents) / sum(c.padded_tokens for c in contents)


def test_sorted_rows_need_the_least_padding_and_fixed_ones_the_most(subject: Open) -> None:
    tiny = subject("dense")
    arrival = padding_share(headline(tiny, 8), tiny)
    assert padding_share(padded(tiny, 8, "sorted"), tiny) < arrival
    assert padding_share(padded(tiny, 8, "fixed"), tiny) > arrival
    fixed = batches(padded(tiny, 8, "fixed"), tiny)
    assert {batch["input_ids"].shape[1] for batch in fixed} == {tiny.max_length}


@pytest.mark.parametrize("shape", [(1, 32), (4, 3), (70, 16)])
def test_a_shape_is_exactly_what_was_asked_for_without_padding(subject: Open, shape: tuple[int, int]) -> None:
    tiny = subject("dense")
    feed = shaped(tiny, shape)
    assert feed.name == f"{shape[0]}x{shape[1]}"
    for batch in batches(feed, tiny):
        assert tuple(batch["input_ids"].shape) == shape
        assert bool(batch["attention_mask"].all())
    assert padding_share(feed, tiny) == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(1, 40))
def test_filling_repeats_a_row(row: list[int], width: int) -> None:
    made = filled({"input_ids": row}, width)["input_ids"]
    assert made == [row[i % len(row)] for i in range(width)]


def test_end_to_end_begins_with_texts_and_gives_the_same_classes(subject: Open) -> None:
    tiny = subject("dense")
    *_, whole = usual(tiny, 8)
    assert whole.end_to_end
    for call, batch in zip(whole.calls(tiny), batches(headline(tiny, 8), tiny), strict=True):
        assert call() == tiny(batch).argmax(-1).tolist()


def test_batch_one_and_the_tasks_batch_are_always_there(subject: Open) -> None:
    tiny = subject("dense")
    assert [feed.name for feed in usual(tiny, 8)] == ["batch 8", "batch 1", "end to end"]
    assert [feed.name for feed in usual(tiny, 1)] == ["batch 1", "end to end"]
    assert threaded(tiny, 8, 1).name == "batch 8, 1 thread"
    assert threaded(tiny, 8, 2).threads == 2
