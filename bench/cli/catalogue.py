"""What can be run, and how to add to it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.shared import terminal


def new_compressor(
    name: Annotated[str, typer.Argument(help="What variants call it: lowercase letters, digits and _.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.py and test_NAME.py.")] = Path(),
) -> None:
    """Write a working compressor to start from, with its test."""
    from bench.new_compressor import write

    code, test = write(name, out)
    lines = [
        f"Wrote {code} and {test}. Change them into your technique (docs/writing-a-compressor.md), then:",
        f"    {shlex.join(['pytest', str(test)])}",
        f"    {shlex.join(['bench', 'run', '--plugin', str(code), '--variants', name])}",
    ]
    terminal().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def list_() -> None:
    """Show presets, compressors with their settings, and built-in tasks."""
    from bench.tasks.built_in import TASKS
    from compressors.presets import PRESETS
    from compressors.registry import compressor_classes
    from reports.catalogue import render

    tasks = {name: task.summary for name, task in TASKS.items()}
    render(PRESETS, list(compressor_classes().values()), tasks, terminal())
