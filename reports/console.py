"""A report on a terminal, or in a pipe: small tables that fit the console, nothing cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from bench.nouns.run import Run
from reports.content import essentials, report
from reports.parts import Line, Name, Report, Table, plain, stacked
from reports.terminal import GAP, literal, show, two_columns

MORE = "More in report.html and report.md of the run folder: scenarios, rows, reasons"
HEADER_WIDTH = 9
LABEL_WIDTH = 15
STYLES = {
    "kept": "green",
    "faster": "green",
    "lost": "red",
    "slower": "red",
    "inconclusive": "yellow",
    "underpowered": "yellow",
    "better": "green",
    "passes": "green",
    "fixed": "green",
    "worse": "red",
    "fails": "red",
    "newly failing": "red",
    "not comparable": "yellow",
}


def render(run: Run, console: Console) -> None:
    """Print the essentials of `run`, and where the rest is."""
    lay_out(essentials(report(run)), console, MORE)


def lay_out(content: Report, console: Console, more: str) -> None:
    """Print `content` and `more`; tables are split, and long words folded, to fit the width."""
    show(console, _parts(content, console.width, more))


def _parts(content: Report, width: int, more: str) -> Iterator[RenderableType]:
    yield _text((content.title,), "bold")
    yield two_columns(((fact.name, [fact.text]) for fact in content.facts), "dim")
    for table in content.tables:
        for part in _fitting(table, width):
            yield from ("", _text((part.title,), "bold"), _grid(part))
        yield from (_text(note, "dim") for note in table.notes)
    for section in content.sections:
        yield from ("", _text((section.title,), "bold"))
        yield from map(_item, section.lines)
    yield from ("", _text((more,), "dim"), "", _text(content.closing, "bold"))


def _item(line: Line) -> RichTable:
    grid = RichTable.grid()
    grid.add_row("- ", _text(line))
    return grid


def _fitting(table: Table, width: int) -> Iterator[Table]:
    """`table` cut between columns into tables that fit `width`, each with the variants' names."""
    widths = [GAP + _column_width(table, index) for index in range(len(table.headers))]
    return table.cut(widths, width - _label_width(table))


def _label_width(table: Table) -> int:
    longest = max(cell_len(plain(row.label)) for row in table.rows)
    return min(LABEL_WIDTH, max(longest, cell_len(table.first)))


def _column_width(table: Table, index: int) -> int:
    return max(_cells_width(table, index), *map(cell_len, _header_lines(table, index)))


def _cells_width(table: Table, index: int) -> int:
    return max(cell_len(plain(row.cells[index])) for row in table.rows)


def _header_lines(table: Table, index: int) -> list[str]:
    return stacked(table.headers[index].text, max(HEADER_WIDTH, _cells_width(table, index)))


def _grid(table: Table) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    width = _label_width(table)
    grid.add_column(table.first, max_width=width, overflow="fold")
    for index, header in enumerate(table.headers):
        text = Text("\n".join(_header_lines(table, index)))
        grid.add_column(text, justify="right" if header.numeric else "left", overflow="fold")
    for row in table.rows:
        cells = (literal(cell, STYLES.get(cell, "")) for cell in row.cells)
        label = _folded(plain(row.label), width)
        grid.add_row(label + "\n  best" if row.best else label, *cells, style="bold" if row.best else "")
    return grid


def _folded(label: str, width: int) -> Text:
    """A long name broken where its spec can be read on: after `+`, `,`, `_` and spaces."""
    lines = [""]
    for piece in re.split(r"(?<=[+, _])(?!\d+\))", label):
        fits = cell_len((lines[-1] + piece).rstrip()) <= width
        lines = [*lines[:-1], lines[-1] + piece] if fits else [*lines, piece]
    return Text("\n".join(line.rstrip() for line in lines if line), overflow="fold")


def _text(line: Line, style: str = "") -> Text:
    """The line with variants' names in quotes."""
    return literal("".join(f"`{part}`" if isinstance(part, Name) else part for part in line), style)
