"""What the commands share: where their text goes, how a run is shown, which budget was asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.errors import InputError

if TYPE_CHECKING:
    from bench.nouns.run import Run


def terminal(stderr: bool = False) -> Console:
    """Where text goes; nothing in it is taken for an emoji, as `:train:` in a data set's id would be."""
    return Console(stderr=stderr, emoji=False)


def show(result: Run, as_json: bool) -> None:
    """The run on stdout, as a table or as its document."""
    if as_json:
        sys.stdout.write(result.model_dump_json(indent=2) + "\n")
        return
    from reports import console

    console.render(result, terminal())


def choose_budget(flags: dict[str, bool]) -> Any:
    """The one budget that was asked for, or None."""
    chosen = [name for name, is_set in flags.items() if is_set]
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]} and --{chosen[1]}: choose one")
    return chosen[0] if chosen else None
