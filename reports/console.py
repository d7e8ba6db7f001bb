"""The run on a terminal, or in a pipe: small tables that fit the console, nothing cut off."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.nouns.run import Run
from reports.content import Section, Table, plain, report
from reports.sentence import Line, Name

GAP = 2
HEADER_WIDTH = 9
LABEL_WIDTH = 15
STYLES = {"kept": "green", "lost": "red", "inconclusive": "yellow", "underpowered": "yellow"}
NO_BREAK = "\N{NO-BREAK SPACE}"


def render(run: Run, console: Console) -> None:
    """Print `run`; tables are split by columns, and long words folded, to fit the console's width."""
    content = report(run)
    console.print(_text((content.title,), "bold"))
    console.print(_facts(content.facts))
    for table in content.tables:
        console.print()
        _print_table(table, console)
    for section in content.sections:
        console.print()
        _print_section(section, console)
    console.print()
    console.print(_text(content.closing, "bold"))


def _facts(facts: tuple[tuple[str, str], ...]) -> RichTable:
    grid = RichTable.grid(padding=(0, GAP, 0, 0))
    for name, value in facts:
        grid.add_row(_text((name,), "dim"), _text((value,)))
    return grid


def _print_table(table: Table, console: Console) -> None:
    for number, part in enumerate(_fitting(table, console.width)):
        if number:
            console.print()
        console.print(_text((part.title,), "bold"))
        console.print(_grid(part))
    for note in table.notes:
        console.print(_text(note, "dim"))


def _print_section(section: Section, console: Console) -> None:
    console.print(_text((section.title,), "bold"))
    for line in section.lines:
        grid = RichTable.grid()
        grid.add_row("- ", _text(line))
        console.print(grid)


def _fitting(table: Table, width: int) -> Iterator[Table]:
    """`table` cut between columns into as few tables as fit `width`, each with the variants' names."""
    room = width - _label_width(table)
    start, used = 0, 0
    for index in range(len(table.headers)):
        needed = GAP + _column_width(table, index)
        if index > start and used + needed > room:
            yield _columns(table, start, index)
            start, used = index, 0
        used += needed
    yield _columns(table, start, len(table.headers))


def _columns(table: Table, start: int, stop: int) -> Table:
    return replace(
        table,
        title=f"{table.title}, continued" if start else table.title,
        headers=table.headers[start:stop],
        rows=tuple(replace(row, cells=row.cells[start:stop]) for row in table.rows),
    )


def _label_width(table: Table) -> int:
    longest = max(cell_len(plain(row.label)) for row in table.rows)
    return min(LABEL_WIDTH, max(longest, cell_len("Variant")))


def _column_width(table: Table, index: int) -> int:
    return max(_cells_width(table, index), *map(cell_len, _header_lines(table, index)))


def _cells_width(table: Table, index: int) -> int:
    return max(cell_len(row.cells[index]) for row in table.rows)


def _header_lines(table: Table, index: int) -> list[str]:
    header = table.headers[index]
    # The arrow stays beside the word before it.
    text = re.sub(r" (?=[↑↓]$)", NO_BREAK, plain(header.text))
    width = max(HEADER_WIDTH, _cells_width(table, index))
    return [line.replace(NO_BREAK, " ") for line in textwrap.wrap(text, width, break_long_words=False)]


def _grid(table: Table) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column("Variant", max_width=_label_width(table), overflow="fold")
    for index, header in enumerate(table.headers):
        text = Text("\n".join(_header_lines(table, index)))
        grid.add_column(text, justify="right" if header.numeric else "left", overflow="fold")
    for row in table.rows:
        cells = (_text((cell,), STYLES.get(cell, "")) for cell in row.cells)
        grid.add_row(_folded(plain(row.label)), *cells, style="bold" if row.best else "")
    return grid


def _folded(label: str) -> Text:
    """A long name broken where its spec can be read on: after `+`, `,` and spaces."""
    lines = [""]
    for piece in re.split(r"(?<=[+, ])(?!\d+\))", label):
        fits = cell_len((lines[-1] + piece).rstrip()) <= LABEL_WIDTH
        lines = [*lines[:-1], lines[-1] + piece] if fits else [*lines, piece]
    return Text("\n".join(line.rstrip() for line in lines if line), overflow="fold")


def _text(line: Line, style: str = "") -> Text:
    """Text that rich takes literally, with variants' names in quotes."""
    joined = "".join(f"`{part}`" if isinstance(part, Name) else part for part in line)
    return Text(plain(joined), style=style, overflow="fold")
