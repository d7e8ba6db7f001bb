"""What there is to choose from, for `bench list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def render(
    presets: Mapping[str, tuple[str, list[str]]],
    compressors: Iterable[Any],
    tasks: Mapping[str, str],
    console: Console,
) -> None:
    """Print presets with their variants, compressors with settings and defaults, and tasks."""
    rows = [(name, f"{summary}\n{', '.join(variants)}") for name, (summary, variants) in presets.items()]
    console.print(two_columns("Presets", rows))
    console.print(two_columns("Compressors", [(kind.name, describe(kind)) for kind in compressors]))
    console.print(two_columns("Tasks", list(tasks.items())))


def describe(kind: Any) -> str:
    """A compressor's summary and its settings."""
    settings = [f"{field.name}={shown(field.default)}" for field in dataclasses.fields(kind)]
    lines = [kind.summary]
    if settings:
        lines.append(", ".join(settings))
    if kind.number:
        lines.append(f"{kind.name}25 is short for {kind.name}:{kind.number}=0.25")
    return "\n".join(lines)


def shown(value: object) -> str:
    """A default as the user would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else "(none)"


def two_columns(title: str, rows: list[tuple[str, str]]) -> Table:
    """A table of names and texts."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 1, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(escape(name), escape(text))
    return table
