"""`bench list`: everything there is to choose from, whole at 80 columns and taken literally."""

from __future__ import annotations

import dataclasses
import io
from typing import ClassVar

from rich.cells import cell_len
from rich.console import Console

from compressors.presets import PRESETS
from compressors.registry import compressor_classes
from reports import catalogue


@dataclasses.dataclass
class Squeeze:
    name: ClassVar[str] = "squeeze[/]"
    summary: ClassVar[str] = "[red]hot[/red] \x1b[31mwords\\"
    number: ClassVar[str | None] = "amount"
    argument: ClassVar[str | None] = "path"
    path: str = ""
    amount: float = 0.5
    fast: bool = True


def printed(compressors: list[type], width: int = 80) -> str:
    out = io.StringIO()
    tasks = {"demo": "generated headlines [of a kind], " + "with a long description " * 5}
    catalogue.render(PRESETS, compressors, tasks, Console(file=out, width=width))
    return out.getvalue()


def test_every_preset_and_every_setting_is_shown_within_80_columns() -> None:
    kinds = list(compressor_classes().values())
    out = printed(kinds)
    assert max(map(cell_len, out.splitlines())) <= 80
    assert not any(line.endswith(" ") for line in out.splitlines())
    words = {word.rstrip(",") for word in out.split()}
    for preset, (_, variants) in PRESETS.items():
        assert {preset, *variants} <= words
    for kind in kinds:
        assert kind.name in words
        for field in dataclasses.fields(kind):
            assert any(word.startswith(f"{field.name}=") for word in words), field.name


def test_a_compressor_is_described_as_it_would_be_written() -> None:
    assert "path=(none), amount=0.5, fast=true" in printed([Squeeze])
    assert "squeeze[/]25 is short for squeeze[/]:amount=0.25" in printed([Squeeze])
    assert "squeeze[/]:VALUE is short for squeeze[/]:path=VALUE" in printed([Squeeze])


def test_markup_and_escape_codes_are_literal() -> None:
    out = printed([Squeeze])
    assert "[red]hot[/red] \\x1b[31mwords\\" in out
    assert "[of a kind]" in out
    assert "\x1b" not in out


def test_it_fits_half_a_terminal_too() -> None:
    assert max(map(cell_len, printed([Squeeze], 40).splitlines())) <= 40
