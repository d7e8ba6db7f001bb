"""What the commands share: where their text goes, and what is written of a run or a comparison."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.errors import InputError
from bench.visible import visible

if TYPE_CHECKING:
    from bench.nouns.comparison import Comparison
    from bench.nouns.run import Run

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


def terminal(stderr: bool = False) -> Console:
    """Where text goes; nothing in it is taken for an emoji, as `:train:` in a data set's id would be."""
    return Console(stderr=stderr, emoji=False)


def show(result: Run, as_json: bool) -> None:
    """The run on stdout, as a table or as its document."""
    if as_json:
        from reports.json import text_of

        sys.stdout.write(text_of(result) + "\n")
        return
    from reports import console

    console.render(result, terminal())


def choose_budget(flags: dict[str, bool]) -> Any:
    """The one budget that was asked for, or None."""
    chosen = [name for name, is_set in flags.items() if is_set]
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]} and --{chosen[1]}: choose one")
    return chosen[0] if chosen else None


def named_exports(**files: Path | None) -> dict[str, Path]:
    """The files that were asked for, by format."""
    return {name.replace("_", "-"): file for name, file in files.items() if file is not None}


def export_runs(files: Mapping[str, Path], runs: Mapping[str, Run]) -> None:
    """Write each format of one run, or of several side by side."""
    from bench.outputs import Outputs
    from reports.exports import FORMATS

    Outputs(files).write(
        {name: page(runs, in_folder=False) if name == "html" else FORMATS[name](runs) for name in files}
    )


def export_comparison(files: Mapping[str, Path], comparison: Comparison) -> None:
    """Write each format of a comparison."""
    from bench.outputs import Outputs
    from reports.exports import COMPARISON_FORMATS

    Outputs(files).write({name: COMPARISON_FORMATS[name](comparison) for name in files})


def page(runs: Mapping[str, Run], in_folder: bool) -> str:
    """A run's report as an HTML page, which is to lie in the run's folder or elsewhere."""
    from bench.recommend import choices
    from reports import html

    if len(runs) > 1:
        raise InputError(f"--export-html: a page is of one run, and here are {len(runs)}; export each")
    (run,) = runs.values()
    return html.render(run, choices(run), in_folder)


def check_github(asked: bool) -> None:
    """Raise `InputError` where GitHub's summary is wanted and nothing says where it is."""
    if asked and not os.environ.get(SUMMARY_VARIABLE):
        raise InputError(f"--github: {SUMMARY_VARIABLE} is not set: no step of a workflow; drop it")


def tell_github(summary: str, annotations: Sequence[str], console: Console) -> None:
    """Add to the step's summary, and print the annotations, which GitHub reads from either output."""
    place = Path(os.environ[SUMMARY_VARIABLE])
    try:
        with place.open("a", encoding="utf-8") as file:
            file.write(summary)
    except OSError as error:
        raise InputError(f"--github: {place}: cannot be written ({error.strerror})") from None
    for annotation in annotations:
        console.file.write(f"{annotation}\n")


def say(text: str) -> None:
    """A line for the user on stderr, whatever a name or file in it holds."""
    terminal(stderr=True).print(visible(text), markup=False, highlight=False, soft_wrap=True)
