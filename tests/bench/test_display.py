"""What is shown while several rows are in flight."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from bench.display import WAITING, LineDisplay, LiveDisplay, open_display
from bench.nouns.run import Result


def lines(console: Console) -> list[str]:
    """What was written, without what moves the cursor and without colours."""
    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", console.file.getvalue())
    return [line.rstrip() for line in text.splitlines()]


def skipped(variant: str) -> Result:
    return Result(variant=variant, seed=0, status="skipped", reason="no such thing")


@pytest.fixture
def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=30)


def test_a_line_as_a_row_begins_as_it_waits_and_as_it_ends() -> None:
    console = Console(file=io.StringIO(), width=100)
    with open_display(console) as display:
        assert isinstance(display, LineDisplay)
        display.begin("a", 1, 2)
        display.begin("b", 2, 2)
        display.stage("a", "train", 1, 2)
        display.stage("a", WAITING, 0, 1)
        display.end("b", skipped("b"))
        display.end("a", skipped("a"))
    assert lines(console) == [
        "[1/2] a",
        "[2/2] b",
        "  a: waiting for the device, which another process uses",
        "  b: skipped: no such thing",
        "  a: skipped: no such thing",
    ]


def test_each_row_in_flight_has_a_bar_of_its_own(terminal: Console) -> None:
    with open_display(terminal) as display:
        assert isinstance(display, LiveDisplay)
        display.begin("a", 1, 3)
        display.begin("b", 2, 3)
        display.stage("a", "train", 3, 10)
        display.stage("b", "timing", 1, 4)
        shown = [task.description for task in display._progress.tasks]
        assert shown == ["variants", "a: train", "b: timing"]
        display.end("a", skipped("a"))
        assert [task.description for task in display._progress.tasks] == ["variants", "b: timing"]
        [run, last] = display._progress.tasks
        assert (run.completed, run.total) == (1, 3)
        assert (last.completed, last.total) == (1, 4)
    assert any("a: skipped: no such thing" in line for line in lines(terminal))


def test_what_is_measured_once_more_is_counted_anew(terminal: Console) -> None:
    with LiveDisplay(terminal) as display:
        for number, row in enumerate(("a", "b"), start=1):
            display.begin(row, number, 2)
            display.end(row, skipped(row))
        display.begin("a once more", 1, 1)
        run = display._progress.tasks[0]
        assert (run.completed, run.total) == (0, 1)
