"""Ways of feeding the test rows to a model: what one call takes, and how it is padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bench.encoding import Encoded
from bench.meters.rounds import Call, Slice
from bench.meters.subject import Subject
from bench.nouns.run import Padding, Shape

ARRIVAL = "longest of the batch, arrival order"
FIXED = "all rows to {width} tokens, arrival order"
SORTED = "longest of the batch, rows sorted by length"
SHAPE = "none, {width} tokens a row"
MOST_SLICES = 512
Places = tuple[int, ...]


@dataclass(frozen=True)
class Feed:
    """A scenario's calls: the rows of each, by their places in the test rows.

    Rows are padded to `width`, or to the longest of the call where it is None; `filled` ones are repeated
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
            return [partial(subject.classify, batch) for batch in texts]
        return [
            partial(subject, subject.batch(self.rows(subject, slice_), self.width)) for slice_ in self.slices
        ]

    def contents(self, subject: Subject) -> list[Slice]:
        """How many rows and tokens each slice holds, as the subject's tokenizer has them."""
        contents = []
        for slice_ in self.slices:
            lengths = [len(row["input_ids"]) for row in self.rows(subject, slice_)]
            width = self.width or max(lengths)
            contents.append(Slice(len(lengths), sum(lengths), len(lengths) * width))
        return contents

    def rows(self, subject: Subject, slice_: Places) -> list[Encoded]:
        """The slice's encoded rows."""
        rows = [subject.rows[place] for place in slice_]
        return [filled(row, self.width) for row in rows] if self.filled and self.width else rows


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


def headline(subject: Subject, batch_size: int) -> Feed:
    """Arrival order at the task's batch size."""
    return Feed(f"batch {batch_size}", batch_size, ARRIVAL, cut(range(len(subject.rows)), batch_size))


def usual(subject: Subject, batch_size: int) -> list[Feed]:
    """What is always measured: arrival order at the task's batch size and one by one, and end to end."""
    main = headline(subject, batch_size)
    single = [] if batch_size == 1 else [headline(subject, 1)]
    whole = Feed("end to end", batch_size, ARRIVAL, main.slices, end_to_end=True)
    return [main, *single, whole]


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


def threaded(subject: Subject, batch_size: int, threads: int) -> Feed:
    """Arrival order with another number of CPU threads."""
    main = headline(subject, batch_size)
    name = f"{main.name}, {threads} thread{'' if threads == 1 else 's'}"
    return Feed(name, batch_size, ARRIVAL, main.slices, threads=threads)
