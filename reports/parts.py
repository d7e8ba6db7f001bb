"""What a report is made of, before any renderer lays it out: plain text in facts, tables and sections."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.visible import visible

ABSENT = "–"
Topic = Literal["figures", "profile", "data"]
NO_BREAK = "\N{NO-BREAK SPACE}"


class Name(str):
    """A variant's name inside a line: shown as code."""

    __slots__ = ()


Line = tuple[str, ...]
"""A line of text; its `Name` parts are variants' names."""


@dataclass(frozen=True)
class Fact:
    """One line about the run as a whole. A `detail`, here and below, is left out of the essentials."""

    name: str
    text: str
    detail: bool = False


@dataclass(frozen=True)
class Header:
    """A column's head; `numeric` columns are aligned right.

    One that `opens` begins a group of columns, which stay together where a table must be cut.
    """

    text: str
    numeric: bool = True
    detail: bool = False
    opens: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table; `best` is the recommended variant, `cached` one from an earlier run."""

    label: str
    cells: tuple[str, ...]
    best: bool = False
    cached: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table, its first column headed `first`, and the notes beneath it.

    With `every_row` it also lists what it has no figure of. `topic` says in which part of a page it stands.
    """

    title: str
    headers: tuple[Header, ...]
    rows: tuple[Row, ...]
    notes: tuple[Line, ...] = ()
    detail: bool = False
    first: str = "Variant"
    every_row: bool = False
    topic: Topic = "figures"

    def columns(self, indices: Sequence[int]) -> Table:
        """The same table with these columns only."""
        return replace(
            self,
            headers=tuple(self.headers[index] for index in indices),
            rows=tuple(replace(row, cells=tuple(row.cells[index] for index in indices)) for row in self.rows),
        )

    def essential(self) -> Table:
        """The same table without the columns that are details, and what is empty without them."""
        return self.columns([i for i, header in enumerate(self.headers) if not header.detail]).filled()

    def filled(self) -> Table:
        """The same table without the columns and rows in which nothing is present."""
        used = [i for i in range(len(self.headers)) if any(row.cells[i] != ABSENT for row in self.rows)]
        shown = self.columns(used)
        rows = (row for row in shown.rows if self.every_row or any(cell != ABSENT for cell in row.cells))
        return replace(shown, rows=tuple(rows))

    def cut(self, widths: Sequence[int], room: int) -> Iterator[Table]:
        """The same table cut between columns of these `widths` into tables whose columns fit into `room`.

        A column wider than that stands alone.
        """
        start = 0
        for index, header in enumerate(self.headers):
            together = self._group_end(index) if header.opens else index + 1
            if index > start and sum(widths[start:together]) > room:
                yield self._part(start, index)
                start = index
        yield self._part(start, len(self.headers))

    def _group_end(self, start: int) -> int:
        """Where the group of columns that opens at `start` ends."""
        later = range(start + 1, len(self.headers))
        return next((index for index in later if self.headers[index].opens), len(self.headers))

    def _part(self, start: int, stop: int) -> Table:
        title = f"{self.title}, continued" if start else self.title
        return replace(self.columns(range(start, stop)), title=title)


@dataclass(frozen=True)
class Section:
    """A heading and its lines."""

    title: str
    lines: tuple[Line, ...]
    detail: bool = False


@dataclass(frozen=True)
class Report:
    """Everything a renderer shows, in the order in which it shows it."""

    title: str
    facts: tuple[Fact, ...]
    tables: tuple[Table, ...]
    sections: tuple[Section, ...]
    closing: Line


def plain(text: str) -> str:
    """`text` on one line, each run of white space as a space; nothing in it acts on a terminal."""
    return visible(re.sub(r"\s+", " ", text))


def stacked(text: str, width: int) -> list[str]:
    """A column's head on lines of at most `width` characters; no word is cut, an arrow keeps its word."""
    joined = re.sub(r" (?=[↑↓]$)", NO_BREAK, plain(text))
    return [line.replace(NO_BREAK, " ") for line in textwrap.wrap(joined, width, break_long_words=False)]
