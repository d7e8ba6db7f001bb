"""The real command line and small real data, for tests that use the product as a user would."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.folder import read_run
from bench.nouns.run import Run

WORDS = {
    "money": ["bank", "market", "price", "stock", "trade", "profit"],
    "sport": ["match", "goal", "team", "coach", "league", "player"],
}
COMMON = ["today", "the", "new", "after", "big", "in", "city", "report"]


def write_rows(file: Path, rows: int, seed: int = 0) -> Path:
    """A CSV of two learnable topics, no row twice."""
    rng = random.Random(seed)
    lines = ["text,label"]
    for number in range(rows):
        label = rng.choice(sorted(WORDS))
        words = [*rng.choices(WORDS[label], k=3), *rng.choices(COMMON, k=rng.randrange(2, 6)), str(number)]
        rng.shuffle(words)
        lines.append(f"{' '.join(words)},{label}")
    file.write_text("\n".join(lines) + "\n")
    return file


def command(*arguments: str | Path) -> list[str]:
    """The words that start `bench` with these arguments."""
    return [sys.executable, "-m", "bench", *map(str, arguments)]


def environment() -> dict[str, str]:
    """A user's environment with a console 80 columns wide."""
    return {**os.environ, "COLUMNS": "80"}


def bench(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; its output is captured."""
    return module("bench", *arguments, cwd=cwd)


def module(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a module of this Python's to its end; its output is captured."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=3600,
    )


@dataclass(frozen=True)
class Finished:
    """A run that has ended: where it was started, its folder, and what it printed."""

    cwd: Path
    folder: Path
    process: subprocess.CompletedProcess[str]

    @property
    def document(self) -> Run:
        return read_run(self.folder)
