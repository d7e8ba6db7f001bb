"""A clock that waits for nobody; energy meters with figures known beforehand, which can be slow or break."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from bench.meters.energy import Energy


class SleepersClock:
    """Goes on only where somebody sleeps; what polls is woken at its times."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.polls: list[Polled] = []

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [poll for poll in self.polls if poll.due_s <= until_s]:
            first = min(due, key=lambda poll: poll.due_s)
            self.now_s = first.due_s
            first.wake()
        self.now_s = until_s


class Polled:
    """Reads every so often by such a clock, as `Poll` does by the machine's."""

    def __init__(self, clock: SleepersClock, read: Callable[[], None], every_s: float) -> None:
        self.clock, self.read, self.every_s = clock, read, every_s
        self.due_s = clock.now_s + every_s
        clock.polls.append(self)

    def wake(self) -> None:
        self.due_s += self.every_s
        self.read()

    def stop(self) -> None:
        self.clock.polls.remove(self)


class Clockwork:
    """In its n-th window `power(n)` W are drawn; None is a source that broke."""

    source, estimated, shortest_window_s = "a clockwork", True, 0.0

    def __init__(self, power: Callable[[int], float | None]) -> None:
        self.power, self.window = power, -1
        self.spans_s: list[float] = []

    def begin(self) -> None:
        self.window, self.began = self.window + 1, time.perf_counter()

    def end(self) -> Energy:
        power, seconds = self.power(self.window), time.perf_counter() - self.began
        self.spans_s.append(seconds)
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
