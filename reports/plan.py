"""A plan before it is carried out, for `bench run --dry-run`."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from bench.nouns.run import Config
from bench.nouns.task import TaskSummary
from reports.catalogue import two_columns


def render(
    task: TaskSummary,
    config: Config,
    trained: Iterable[str],
    time_s: float,
    disk_bytes: int,
    console: Console,
) -> None:
    """Print what would be run, on what, how, and roughly how long and how large it would be."""
    rows = ", ".join(f"{count} {split}" for split, count in task.rows.items())
    training = (
        f"{config.dense_epochs:g} epochs for dense, {config.epochs:g} for each variant that trains, "
        f"learning rate {config.learning_rate:g}, batch {config.batch_size}, "
        f"at most {config.max_length} tokens"
    )
    trains = set(trained)
    variants = [f"{name} (trained)" if name in trains else name for name in config.variants]
    table = [
        ("task", task.description),
        ("rows", rows),
        ("variants", f"{len(variants)}: " + ", ".join(variants)),
        ("training", training),
        ("measuring", f"{config.budget} budget on {config.device}"),
        ("estimate", f"about {spoken(time_s)} and {disk_bytes / 1e6:.0f} MB on disk, if nothing is cached"),
    ]
    console.print(two_columns("Plan", table))
    for note in task.notes:
        console.print(escape(note), highlight=False)


def spoken(seconds: float) -> str:
    """A rough time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
