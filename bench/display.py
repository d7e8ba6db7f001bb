"""What the user sees while a run goes on, on stderr: a live display, or a line per event when piped."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.nouns.run import Result
from bench.visible import visible

WAITING = "waiting for the device"


class Display(Protocol):
    """Told what happens to rows, each by its name; shows it as it can. Several may be in flight."""

    def begin(self, row: str, number: int, total: int) -> None: ...

    def stage(self, row: str, stage: str, done: int, total: int) -> None: ...

    def end(self, row: str, result: Result) -> None: ...

    def say(self, text: str) -> None: ...


class LiveDisplay:
    """A bar for the run with its ETA, and one for each row in flight with its stage."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            transient=True,
            speed_estimate_period=3600,
        )
        self._run = self._progress.add_task("variants", total=None)
        self._rows: dict[str, TaskID] = {}
        self._stages: dict[str, str] = {}

    def __enter__(self) -> LiveDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the terminal may be what ended the run, and gone
            self._progress.stop()

    def begin(self, row: str, number: int, total: int) -> None:
        if self._progress.tasks[0].finished:  # what comes now is measured once more
            self._progress.reset(self._run)
        self._progress.update(self._run, total=total)
        self._rows[row] = self._progress.add_task("", total=None)
        self.stage(row, "starting", 0, 1)

    def stage(self, row: str, stage: str, done: int, total: int) -> None:
        bar = self._rows[row]
        if self._stages.get(row) != stage:
            self._stages[row] = stage
            self._progress.reset(bar, description=f"{visible(row)}: {stage}", total=total)
        self._progress.update(bar, completed=done)

    def end(self, row: str, result: Result) -> None:
        self._progress.remove_task(self._rows.pop(row))
        self._stages.pop(row)
        self._progress.advance(self._run)
        self.say(summary_line(result))

    def say(self, text: str) -> None:
        print_line(self._progress.console, text)


class LineDisplay:
    """One line as a row begins, one as it waits for the device, one as it ends; nothing that moves."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to stop."""

    def begin(self, row: str, number: int, total: int) -> None:
        self.say(f"[{number}/{total}] {row}")

    def stage(self, row: str, stage: str, done: int, total: int) -> None:
        """Stages are for the live display, but for the one in which nothing happens."""
        if stage == WAITING:
            self.say(f"  {row}: {stage}, which another process uses")

    def end(self, row: str, result: Result) -> None:
        self.say("  " + summary_line(result))

    def say(self, text: str) -> None:
        print_line(self._console, text)


def print_line(console: Console, text: str) -> None:
    """One line, whatever stands in `text`, which nothing takes for markup."""
    console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


def summary_line(result: Result) -> str:
    """A finished variant in a line."""
    if result.status != "ok":
        return f"{result.variant}: {result.status}: {result.reason}"
    accuracy, speedup = result.metrics["accuracy"].value, result.metrics.get("speedup")
    fast = f"{speedup.value:.2f} x dense" if speedup else "no speed-up measured"
    cached = f" ({', '.join(result.cached)} from an earlier run)" if result.cached else ""
    return f"{result.variant}: accuracy {accuracy:.1%}, {fast}{cached}"


def open_display(console: Console) -> LiveDisplay | LineDisplay:
    """The live display where the console is a terminal, else lines."""
    return LiveDisplay(console) if console.is_terminal else LineDisplay(console)
