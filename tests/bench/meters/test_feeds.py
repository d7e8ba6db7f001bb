"""What each scenario feeds the model: which rows, how many tokens, how much padding."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.encoding import Batch
from bench.errors import Refusal
from bench.meters.feeds import (
    MOST_SLICES,
    Feed,
    arrival,
    cut,
    filled,
    headline,
    padded,
    shaped,
    threaded,
    usual,
)
from bench.meters.subject import WAITING_BATCHES, Subject, arranged
from tests.bench.meters.conftest import ROWS, Open


def batches_by_call(feed: Feed, subject: Subject) -> list[list[Batch]]:
    """The batches that each of the feed's calls holds."""
    return [call.args[0] for call in feed.calls(subject)]  # type: ignore[attr-defined]


def batches(feed: Feed, subject: Subject) -> list[Batch]:
    """All batches of the feed's calls."""
    return list(itertools.chain.from_iterable(batches_by_call(feed, subject)))


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


def test_what_is_counted_is_what_the_batches_hold(subject: Open, sorting: Subject) -> None:
    for tiny in (subject("dense"), sorting):
        for feed in [
            headline(tiny, 8),
            padded(tiny, 8, "fixed"),
            padded(tiny, 8, "sorted"),
            shaped(tiny, (3, 20)),
            threaded(tiny, 8, 1),
        ]:
            for call, contents in zip(batches_by_call(feed, tiny), feed.contents(tiny), strict=True):
                assert contents.rows == sum(len(batch["input_ids"]) for batch in call)
                assert contents.padded_tokens == sum(batch["input_ids"].numel() for batch in call)
                assert contents.tokens == sum(int(batch["attention_mask"].sum()) for batch in call)


def padding_share(feed: Feed, subject: Subject) -> float:
    contents = feed.contents(subject)
    return 1 - sum(c.tokens for c in contents) / sum(c.padded_tokens for c in contents)


def test_sorted_rows_need_the_least_padding_and_fixed_ones_the_most(subject: Open) -> None:
    tiny = subject("dense")
    arrived = padding_share(headline(tiny, 8), tiny)
    assert padding_share(padded(tiny, 8, "sorted"), tiny) < arrived
    assert padding_share(padded(tiny, 8, "fixed"), tiny) > arrived
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


def rows_of(batches: list[Batch]) -> list[tuple[int, ...]]:
    """The token numbers of every row, without padding, in the order in which they are run."""
    return [
        tuple(tokens[mask.bool()].tolist())
        for batch in batches
        for tokens, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def test_where_rows_are_sorted_every_contender_does_the_same_ones_in_a_call(
    subject: Open, sorting: Subject
) -> None:
    dense = subject("dense")
    for feed in (headline(sorting, 4), threaded(sorting, 4, 1)):
        assert feed.batch_size == 4
        assert [len(slice_) for slice_ in feed.slices] == [4 * WAITING_BATCHES]
        [theirs], [own] = batches_by_call(feed, dense), batches_by_call(feed, sorting)
        assert rows_of(theirs) == [tuple(row["input_ids"]) for row in dense.rows[: 4 * WAITING_BATCHES]]
        assert sorted(rows_of(own)) == sorted(rows_of(theirs))
        assert [len(batch["input_ids"]) for batch in own] == [len(batch["input_ids"]) for batch in theirs]
        assert padding_share(feed, sorting) < padding_share(feed, dense)


def test_a_feed_shows_what_sorting_gives_whichever_of_the_two_sorts(subject: Open, sorting: Subject) -> None:
    plain, waiting = subject("plain"), 4 * WAITING_BATCHES
    lost, gained, both = (
        headline(plain, 4, sorting),
        headline(sorting, 4, plain),
        headline(sorting, 4, sorting),
    )
    assert lost.slices == gained.slices == both.slices == headline(sorting, 4).slices
    assert padding_share(lost, sorting) < padding_share(lost, plain)
    ordered = f"{waiting} rows at a time sorted by length"
    assert lost.padding == f"longest of the batch, arrival order; sorted: {ordered}"
    assert gained.padding == f"longest of the batch, {ordered}; plain in arrival order"
    assert both.padding == f"longest of the batch, {ordered}"
    assert headline(plain, 4, plain) == headline(plain, 4)


@given(st.lists(st.integers(1, 60), max_size=120), st.integers(1, 9))
def test_rows_are_taken_once_each_the_shortest_of_those_that_wait_first(
    sorting: Subject, lengths: list[int], size: int
) -> None:
    turns = sorting.turns([{"input_ids": [0] * length} for length in lengths], size)
    assert all(len(turn) == size for turn in turns[:-1])
    order = list(itertools.chain.from_iterable(turns))
    waiting = WAITING_BATCHES * size
    for start in range(0, len(lengths), waiting):
        window = order[start : start + waiting]
        assert sorted(window) == list(range(start, min(start + waiting, len(lengths))))
        assert [lengths[place] for place in window] == sorted(lengths[start : start + waiting])
    answers = torch.tensor([lengths[place] for place in order])
    assert arranged(answers, turns).tolist() == lengths


def test_answers_to_sorted_rows_come_in_arrival_order(subject: Open, sorting: Subject) -> None:
    dense = subject("dense")
    *_, whole = usual(sorting, 4)
    assert whole.end_to_end
    [theirs], [own] = whole.calls(dense), whole.calls(sorting)
    assert own() == theirs() == [dense.classify([row], 1)[0] for row in ROWS[: 4 * WAITING_BATCHES]]


def test_requests_are_batches_in_arrival_order_whoever_answers_them(subject: Open, sorting: Subject) -> None:
    dense = subject("dense")
    assert arrival(sorting, 4) == arrival(dense, 4) == headline(dense, 4)
    single = usual(sorting, 4)[1]
    assert single.name == "batch 1"
    assert rows_of(batches(single, sorting)) == rows_of(batches(single, dense))


def test_few_rows_wait_in_whole_batches_and_too_few_are_refused(sorting: Subject) -> None:
    assert [len(slice_) for slice_ in headline(sorting, 16).slices] == [48]
    assert [len(slice_) for slice_ in headline(sorting, 25).slices] == [50]
    with pytest.raises(Refusal, match="50 test rows are fewer than twice 26"):
        headline(sorting, 26)
