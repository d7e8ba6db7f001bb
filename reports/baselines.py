"""The list of baselines on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from bench.nouns.run import Run
from reports.terminal import literal, show

HEADS = ("Baseline", "Machine", "Task", "Budget", "Variants", "Measured", "Commit")


def render(found: Mapping[tuple[str, str], Run], machine: str, console: Console) -> None:
    """Print the baselines by (machine key, name); and the key of this `machine`."""
    if not found:
        show(console, [literal("no baselines; keep one with: bench baseline save RUN NAME")])
        return
    table = Table(*HEADS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for (key, name), run in found.items():
        variants = len({result.variant for result in run.results})
        commit = (run.environment.commit or "–")[:7]
        cells = (
            name,
            key,
            run.task.name,
            run.config.budget,
            str(variants),
            f"{run.started_at:%Y-%m-%d}",
            commit,
        )
        table.add_row(*map(literal, cells))
    show(console, [table, literal(f"this machine is {machine}")])
