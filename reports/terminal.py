"""What every output on a terminal, or in a pipe, is printed with."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.parts import plain

GAP = 2
# Spaces before the end of a line, also where styles are switched off between them and the end.
TRAILING = re.compile(r" +(?=(?:\x1b\[[\d;]*m| )*$)", re.MULTILINE)


def show(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print `parts` one below the other, with no spaces at the ends of lines."""
    with console.capture() as capture:
        console.print(Group(*parts))
    console.file.write(TRAILING.sub("", capture.get()))
    console.file.flush()


def literal(text: str, style: str = "") -> Text:
    """Text that rich takes as it stands; where a line is too long it is folded, never cut."""
    return Text(plain(text), style=style, overflow="fold")


def two_columns(rows: Iterable[tuple[str, Iterable[str]]], style: str) -> Table:
    """Names in `style`, and beside each its lines of text."""
    grid = Table.grid(padding=(0, GAP, 0, 0))
    for name, lines in rows:
        grid.add_row(literal(name, style), Text("\n", overflow="fold").join(map(literal, lines)))
    return grid
