"""What there is to choose from, for `bench list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console, RenderableType

from reports.terminal import literal, show, two_columns


def render(
    presets: Mapping[str, tuple[str, list[str]]],
    compressors: Iterable[Any],
    tasks: Mapping[str, str],
    console: Console,
) -> None:
    """Print presets with their variants, compressors with settings and defaults, and tasks."""
    preset_lines = {name: (summary, ", ".join(names)) for name, (summary, names) in presets.items()}
    parts = [
        *_section("Presets", preset_lines),
        "",
        *_section("Compressors", {kind.name: tuple(_describe(kind)) for kind in compressors}),
        "",
        *_section("Tasks", {name: (description,) for name, description in tasks.items()}),
    ]
    show(console, parts)


def _section(title: str, lines: Mapping[str, tuple[str, ...]]) -> Iterator[RenderableType]:
    yield literal(title, "bold")
    yield two_columns(lines.items(), "bold")


def _describe(kind: Any) -> Iterator[str]:
    """A compressor's summary, its settings with their defaults, and its short spellings."""
    yield kind.summary
    settings = ", ".join(f"{field.name}={_default(field.default)}" for field in dataclasses.fields(kind))
    if settings:
        yield settings
    if kind.number:
        yield f"{kind.name}25 is short for {kind.name}:{kind.number}=0.25"
    if kind.argument:
        yield f"{kind.name}:VALUE is short for {kind.name}:{kind.argument}=VALUE"


def _default(value: object) -> str:
    """A default as the user would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else "(none)"
