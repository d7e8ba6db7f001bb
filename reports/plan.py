"""A plan before it is carried out, for `bench run --dry-run`."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from bench.nouns.run import Config
from bench.nouns.task import TaskSummary
from reports.facts import split_rows
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
        "rows": [split_rows(task.rows, config.deduplicate)],
        "variants": [*_variants(config.variants, set(trained)), *_part(config)],
        "training": [
            f"dense {dense}, each trained variant {counted(config.epochs, 'epoch')}; learning rate "
            f"{config.learning_rate:g}, batch size {config.batch_size}, at most {config.max_length} tokens"
        ],
        "measuring": [_budget(config), *_besides(config)],
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


def _part(config: Config) -> Iterable[str]:
    """Of which part of a sweep they are."""
    if config.shard:
        number, shards = config.shard
        yield f"shard {number} of {shards}; bench merge puts the parts together"


def _budget(config: Config) -> str:
    seeds = ", ".join(map(str, config.seeds))
    return (
        f"{config.budget} budget on {config.device}, {'seeds' if len(config.seeds) > 1 else 'seed'} {seeds}"
    )


def _besides(config: Config) -> Iterable[str]:
    """The scenarios that are not always measured."""
    scenarios = [
        *(f"{padding} padding" for padding in config.paddings),
        *(f"{rows}x{tokens}" for rows, tokens in config.shapes),
        *(counted(count, "thread") for count in config.thread_counts),
    ]
    if scenarios:
        yield f"besides batch 1 and arrival order: {', '.join(scenarios)}"
    if config.profile:
        yield "where each variant's time goes, with a trace"


def _spoken(seconds: float) -> str:
    """A rough time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
