"""A plan before it is carried out, for `bench run --dry-run`."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from bench.nouns.run import Config
from bench.nouns.task import TaskSummary
from reports.numbers import BYTES, counted, quantity
from reports.terminal import literal, show, two_columns


def render(
    task: TaskSummary,
    config: Config,
    trained: Iterable[str],
    time_s: float,
    disk_bytes: int,
    console: Console,
) -> None:
    """Print what would be run, on what, how, and roughly how long and how large it would be."""
    dense = counted(config.dense_epochs, "epoch") if config.dense_epochs else "used as it came"
    rows = {
        "task": [task.description],
        "rows": [", ".join(f"{count:,} {split}" for split, count in task.rows.items())],
        "variants": list(_variants(config.variants, set(trained))),
        "training": [
            f"dense {dense}, each trained variant {counted(config.epochs, 'epoch')}; learning rate "
            f"{config.learning_rate:g}, batch size {config.batch_size}, at most {config.max_length} tokens"
        ],
        "measuring": [f"{config.budget} budget on {config.device}"],
        "estimate": [
            f"about {_spoken(time_s)} and {quantity(disk_bytes, BYTES)} on disk, if nothing is cached"
        ],
        "notes": [f"- {note}" for note in task.notes],
    }
    table = two_columns(((name, lines) for name, lines in rows.items() if lines), "bold")
    show(console, [literal("Plan", "bold"), table])


def _variants(names: list[str], trained: set[str]) -> Iterable[str]:
    groups = {
        "trained": [name for name in names if name in trained],
        "not trained further": [name for name in names if name not in trained],
    }
    for kind, members in groups.items():
        if members:
            yield f"{len(members)} {kind}: {', '.join(members)}"


def _spoken(seconds: float) -> str:
    """A rough time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
