"""What follows from several rows of a run, once they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.break_even import add_break_even
from bench.interplay import add_interplay
from bench.nouns.run import Result, Run
from bench.recommend import recommend
from bench.training_speedup import add_training_speedups


def add_conclusions(run: Run, predictions: Callable[[Result], Path]) -> None:
    """Put into the rows what only all of them together tell; the best is marked where the run is complete.

    `predictions` says where a row's lie.
    """
    add_training_speedups(run)
    add_interplay(run, predictions)
    add_break_even(run)
    if run.status == "complete":
        recommend(run)
