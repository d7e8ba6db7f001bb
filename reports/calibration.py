"""A machine's noise floors, for `bench calibrate`."""

from __future__ import annotations

from rich.console import Console

from bench.nouns.environment import NoiseFloor
from reports.environment import floor_source
from reports.numbers import PERCENT, quantity
from reports.terminal import literal, show, two_columns


def render(floor: NoiseFloor, device: str, file: str, console: Console) -> None:
    """Print both floors, what they mean, and where they are kept."""
    rows = {
        "paired": [
            quantity(floor.paired, PERCENT),
            "a speed-up of one run that is nearer to 1 than this is no speed-up here",
        ],
        "between runs": [
            quantity(floor.between, PERCENT),
            "an absolute time of two runs that differs by less has not changed",
        ],
        "false alarms": [
            f"{floor.false_alarms} of {floor.trials}",
            "trials that the margin of an uncalibrated run would call faster or slower",
        ],
        "from": [floor_source(floor)],
        "kept in": [file],
    }
    show(console, [literal(f"Noise floor on {device}", "bold"), two_columns(rows.items(), "bold")])
