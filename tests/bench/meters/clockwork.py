"""Energy meters whose figures are known beforehand, and which can be slow to start or break."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from bench.meters.energy import Energy


class Clockwork:
    """In its n-th window `power(n)` W are drawn; None is a source that broke."""

    source, estimated, shortest_window_s = "a clockwork", True, 0.0

    def __init__(self, power: Callable[[int], float | None]) -> None:
        self.power, self.window = power, -1

    def begin(self) -> None:
        self.window, self.began = self.window + 1, time.perf_counter()

    def end(self) -> Energy:
        power, seconds = self.power(self.window), time.perf_counter() - self.began
        if power is None:
            raise OSError(19, "No such device")
        return Energy(power * seconds, seconds)


class Tape:
    """A source that measures: its windows hold what stands on the tape, one after the other."""

    source, estimated, shortest_window_s = "a tape", False, 0.0

    def __init__(self, windows: Iterable[Energy]) -> None:
        self.windows = iter(windows)

    def begin(self) -> None:
        pass

    def end(self) -> Energy:
        return next(self.windows)
