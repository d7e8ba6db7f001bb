"""Rows made here, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from bench.executors import Row
from bench.meters.machine import start_cautions
from bench.nouns.environment import Caution, Environment
from bench.nouns.run import Result
from bench.workbench import Workbench
from compressors.variant import Variant


class Local:
    """The executor of this machine."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._at_start: list[Caution] = []

    @property
    def environment(self) -> Environment:
        return self.bench.environment

    @property
    def cautions(self) -> list[Caution]:
        return [*self._at_start, *self.bench.cautions]

    @property
    def import_time_s(self) -> float:
        return self.bench.workers.import_time_s

    def __enter__(self) -> Local:
        self._at_start = start_cautions(self.environment, self.bench.plan.config.device)
        self.bench.workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bench.workers.__exit__(kind, error, trace)

    def rows(self, todo: Sequence[Row], total: int) -> Iterator[tuple[Row, Result]]:
        for row in todo:
            self.bench.display.begin(row.name, row.number, total)
            yield row, self.judged(self.bench.result(row.variant, row.seed), row.variant)

    def judged(self, result: Result, variant: Variant) -> Result:
        return self.bench.judged(result, variant)

    def measure_again(
        self, doubtful: Sequence[tuple[Result, Sequence[str]]], write: Callable[[], None]
    ) -> None:
        self.bench.measure_again(doubtful, write)

    def drop_models(self, kept: Sequence[Result]) -> None:
        self.bench.drop_models(kept)
