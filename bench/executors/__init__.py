"""Who makes a run's rows: this machine one after the other, or the nodes of a cluster at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from bench.nouns.environment import Caution, Environment
from bench.nouns.run import Result, Run
from compressors.variant import Variant

Doubtful = Callable[[Run], Sequence[tuple[Result, Sequence[str]]]]


@dataclass(frozen=True)
class Row:
    """A variant at a seed: its number in the sweep, and what it and its files are called."""

    variant: Variant
    seed: int
    number: int
    name: str

    @property
    def place(self) -> tuple[str, int]:
        """What tells it from the others in a run document."""
        return self.variant.name, self.seed


class Executor(Protocol):
    """Makes and measures rows, and puts their files into the run folder.

    `environment` is that of the machine which measures dense, `cautions` what was noticed on any.
    """

    @property
    def environment(self) -> Environment: ...

    @property
    def cautions(self) -> list[Caution]: ...

    @property
    def import_time_s(self) -> float: ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def rows(self, todo: Sequence[Row], total: int) -> Iterator[tuple[Row, Result]]:
        """The rows with their results, judged, in the order in which they are done; `total` are in the sweep.

        Raises `BenchError` where dense cannot be made.
        """
        ...

    def judged(self, result: Result, variant: Variant) -> Result:
        """A row of an earlier session, with the verdicts of this one."""
        ...

    def measure_again(
        self, doubtful: Sequence[tuple[Result, Sequence[str]]], write: Callable[[], None]
    ) -> None:
        """Measure rows once more, for these metrics of theirs; the run is written after each."""
        ...

    def drop_models(self, kept: Sequence[Result]) -> None:
        """Remove the models of this run from the cache, but for those of `kept`."""
        ...
