"""Ways of feeding the test rows to a model: what one call takes, and how it is padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench.encoding import Encoded
from bench.errors import Refusal
from bench.meters.rounds import Call, Slice
from bench.meters.subject import WAITING_BATCHES, Places, Subject
from bench.nouns.run import DENSE, Padding, Shape

ARRIVAL = "longest of the batch, arrival order"
FIXED = "all rows to {width} tokens, arrival order"
SORTED = "longest of the batch, rows sorted by length"
WAITING = "longest of the batch, {rows} rows at a time sorted by length"
SHAPE = "none, {width} tokens a row"
MOST_SLICES = 512


@dataclass(frozen=True)
class Feed:
    """A scenario's calls: the rows of each, by their places in the test rows.

    A call is one batch of `batch_size` rows, or several, which each subject makes of them in its own order.
    Rows are padded to `width`, or to the longest of the batch where it is None; `filled` ones are repeated
    or cut to exactly `width` tokens. `end_to_end` begins with texts and ends with classes. `threads` is
    the number of CPU threads, None for the run's own.
    """

    name: str
    batch_size: int
    padding: str
    slices: tuple[Places, ...]
    width: int | None = None
    filled: bool = False
    end_to_end: bool = False
    threads: int | None = None

    def calls(self, subject: Subject) -> list[Call]:
        """The subject doing each slice; all but the end-to-end ones are tokenised and on the device."""
        if self.end_to_end:
            texts = [[subject.examples[place] for place in slice_] for slice_ in self.slices]
            return [partial(subject.classify, rows, self.batch_size) for rows in texts]
        return [
            partial(subject.run, [subject.batch(rows, self.width) for rows in self.batches(subject, slice_)])
            for slice_ in self.slices
        ]

    def contents(self, subject: Subject) -> list[Slice]:
        """How many rows and tokens each slice holds, as the subject's tokenizer has them."""
        contents = []
        for slice_ in self.slices:
            batches = [[len(row["input_ids"]) for row in rows] for rows in self.batches(subject, slice_)]
            padded_tokens = sum(len(lengths) * (self.width or max(lengths)) for lengths in batches)
            contents.append(Slice(len(slice_), sum(map(sum, batches)), padded_tokens))
        return contents

    def batches(self, subject: Subject, slice_: Places) -> list[list[Encoded]]:
        """The slice's encoded rows in the batches that the subject makes of them."""
        rows = [subject.rows[place] for place in slice_]
        if self.filled and self.width:
            rows = [filled(row, self.width) for row in rows]
        return [[rows[place] for place in turn] for turn in subject.turns(rows, self.batch_size)]


def filled(row: Encoded, width: int) -> Encoded:
    """The row repeated and cut to `width` tokens."""
    times = -(-width // len(row["input_ids"]))
    return {key: (values * times)[:width] for key, values in row.items()}


def cut(places: Sequence[int], size: int) -> tuple[Places, ...]:
    """`places` in slices of `size`, without a last partial one unless it is the only one.

    Of more than `MOST_SLICES` evenly spread ones are taken: each is held on the device by every contender.
    """
    whole = len(places) // size * size or len(places)
    starts = range(0, whole, size)
    step = -(-len(starts) // MOST_SLICES)
    return tuple(tuple(places[start : start + size]) for start in starts[::step])


def arrival(subject: Subject, batch_size: int) -> Feed:
    """Arrival order, one batch a call."""
    return Feed(f"batch {batch_size}", batch_size, ARRIVAL, cut(range(len(subject.rows)), batch_size))


def headline(subject: Subject, batch_size: int, other: Subject | None = None) -> Feed:
    """Arrival order at the task's batch size; where the subject or the other sorts, several batches a call.

    So every contender does the same rows in a round. The other is a dense in arrival order where None.
    Raises `Refusal` where sorting could change nothing.
    """
    feed, count = arrival(subject, batch_size), len(subject.rows)
    other_sorts = other is not None and other.sorts_rows
    if not (subject.sorts_rows or other_sorts):
        return feed
    if count < 2 * batch_size:
        raise Refusal(
            f"sorting needs two batches of rows that wait, and {count:,} test rows are fewer than twice "
            f"{batch_size}; give more test rows or a smaller --batch-size"
        )
    waiting = min(WAITING_BATCHES, count // batch_size) * batch_size
    name, padding = other.name if other else DENSE, WAITING.format(rows=waiting)
    if not subject.sorts_rows:
        padding = f"{ARRIVAL}; {name}: {waiting} rows at a time sorted by length"
    elif not other_sorts:
        padding += f"; {name} in arrival order"
    return replace(feed, padding=padding, slices=cut(range(count), waiting))


def usual(subject: Subject, batch_size: int, other: Subject | None = None) -> list[Feed]:
    """What is always measured: the headline, one row at a time, and the headline's rows end to end."""
    main = headline(subject, batch_size, other)
    single = [] if batch_size == 1 else [arrival(subject, 1)]
    return [main, *single, replace(main, name="end to end", end_to_end=True)]


def padded(subject: Subject, batch_size: int, padding: Padding) -> Feed:
    """The task's batch size with every row padded to the greatest length, or with rows sorted by length."""
    name, width = f"batch {batch_size}, {padding}", subject.max_length
    if padding == "fixed":
        whole = cut(range(len(subject.rows)), batch_size)
        return Feed(f"{name} padding", batch_size, FIXED.format(width=width), whole, width=width)
    lengths = [len(row["input_ids"]) for row in subject.rows]
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return Feed(name, batch_size, SORTED, cut(order, batch_size))


def shaped(subject: Subject, shape: Shape) -> Feed:
    """Batches of exactly this shape, made of the test rows' tokens."""
    rows, width = shape
    places = [place % len(subject.rows) for place in range(max(rows, len(subject.rows)))]
    padding = SHAPE.format(width=width)
    return Feed(f"{rows}x{width}", rows, padding, cut(places, rows), width=width, filled=True)


def threaded(subject: Subject, batch_size: int, threads: int, other: Subject | None = None) -> Feed:
    """The headline with another number of CPU threads."""
    main = headline(subject, batch_size, other)
    name = f"{main.name}, {threads} thread{'' if threads == 1 else 's'}"
    return replace(main, name=name, threads=threads)
