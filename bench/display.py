"""What the user sees while a run goes on, on stderr: a live display, or a line per event when piped."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.nouns.run import Result


class Display(Protocol):
    """Told what happens; shows it as it can."""

    def begin(self, variant: str, number: int, total: int) -> None: ...

    def stage(self, stage: str, done: int, total: int) -> None: ...

    def end(self, result: Result) -> None: ...

    def say(self, text: str) -> None: ...


class LiveDisplay:
    """Two bars: the run with its ETA, and the current variant's stage."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
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
        self._stage = self._progress.add_task("", total=None)

    def __enter__(self) -> LiveDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, variant: str, number: int, total: int) -> None:
        self._progress.update(self._run, completed=number - 1, total=total)
        self._name = escape(variant)
        self.stage("starting", 0, 1)

    def stage(self, stage: str, done: int, total: int) -> None:
        description = f"{self._name}: {stage}"
        if self._progress.tasks[self._stage].description != description:
            self._progress.reset(self._stage, description=description, total=total)
        self._progress.update(self._stage, completed=done, total=total)

    def end(self, result: Result) -> None:
        self._progress.advance(self._run)
        self.say(summary_line(result))

    def say(self, text: str) -> None:
        self._progress.console.print(escape(text), highlight=False, soft_wrap=True)


class LineDisplay:
    """One line as a variant begins and one as it ends; nothing that moves."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to stop."""

    def begin(self, variant: str, number: int, total: int) -> None:
        self.say(f"[{number}/{total}] {variant}")

    def stage(self, stage: str, done: int, total: int) -> None:
        """Stages are for the live display."""

    def end(self, result: Result) -> None:
        self.say("  " + summary_line(result))

    def say(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)


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
