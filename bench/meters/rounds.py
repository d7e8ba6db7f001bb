"""Paired rounds: contenders doing the same slice of work in turns, in an order drawn anew each round."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.meters.machine import UNITS, RoundWatch, discarded
from bench.nouns.document import Series
from bench.nouns.run import Rounds, WarmUp
from bench.protocol import Protocol
from bench.statistics import median_interval, ratio

STEADY = 0.02
LEAST_IN_WINDOW = 3
LEAST_ROUNDS = 2
TRIED_FOR_LENGTH = 5

Call = Callable[[], object]


@dataclass(frozen=True)
class Slice:
    """What one call holds: rows, their real tokens, and tokens with padding."""

    rows: int
    tokens: int
    padded_tokens: int


@dataclass(frozen=True)
class Contender:
    """Something to time. `calls[i]` does the i-th slice, the same rows in every contender.

    `compile_time_s` tells how long its calls have taken so far to compile what they run, in s.
    """

    name: str
    calls: Sequence[Call]
    compile_time_s: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True)
class Ending:
    """Why measuring stopped."""

    converged: bool
    reason: str


def synchronise(device: str) -> None:
    """Wait until the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def time_block(calls: Sequence[Call], device: str) -> tuple[float, float | None]:
    """(wall time, device time by CUDA events or None) of the calls in s, synchronised at both ends."""
    on_cuda = device == "cuda"
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if on_cuda else []
    synchronise(device)
    started = time.perf_counter()
    if on_cuda:
        events[0].record()
    for call in calls:
        call()
    if on_cuda:
        events[1].record()
    synchronise(device)
    wall_s = time.perf_counter() - started
    return wall_s, events[0].elapsed_time(events[1]) / 1000 if on_cuda else None


def warm_up(contender: Contender, slices: Sequence[Slice], device: str, protocol: Protocol) -> WarmUp:
    """Do every shape once, then one block again and again until its times are steady; all within the cap.

    Steady: the lower quartiles of the last two windows differ by under 2 %. Quartiles rather than medians,
    since what disturbs a machine only ever adds time. Compiling counts neither for the times nor for the cap.
    """

    def now() -> float:
        return time.perf_counter() - contender.compile_time_s()

    started = now()
    first_of_shape = {(each.rows, each.padded_tokens): i for i, each in reversed(list(enumerate(slices)))}
    shapes_done = 0
    for i in sorted(first_of_shape.values()):
        if now() - started >= protocol.warm_up_cap_s:
            break
        contender.calls[i]()
        shapes_done += 1
    length = block_length([contender], device, protocol)
    block = contender.calls[:length]
    ended_s: list[float] = []
    times_s: list[float] = []
    while True:
        times_s.append(time_block(block, device)[0])
        ended_s.append(now() - started)
        calls = shapes_done + len(block) * len(times_s)
        enough = calls >= protocol.warm_up_calls and ended_s[-1] >= protocol.warm_up_min_s
        steady = is_steady(times_s, ended_s, protocol.warm_up_window_s)
        if (enough and steady) or ended_s[-1] >= protocol.warm_up_cap_s:
            return WarmUp(wall_time=ended_s[-1], calls=calls, steady=steady)


def is_steady(times_s: Sequence[float], ended_s: Sequence[float], window_s: float) -> bool:
    """Whether the last window's times are those of the window before; each holds three blocks at least."""
    size = max(LEAST_IN_WINDOW, sum(ended_s[-1] - end < window_s for end in ended_s))
    if len(times_s) < 2 * size:
        return False
    before, now = np.quantile(times_s[-2 * size : -size], 0.25), np.quantile(times_s[-size:], 0.25)
    return bool(abs(now - before) < STEADY * now)


def block_length(contenders: Sequence[Contender], device: str, protocol: Protocol) -> int:
    """How many calls the fastest contender needs to fill a block."""
    fastest_s = min(
        statistics.median(time_block([call], device)[0] for call in contender.calls[:TRIED_FOR_LENGTH])
        for contender in contenders
    )
    return int(protocol.block_s(device) / fastest_s) + 1


def paired_rounds(
    contenders: Sequence[Contender], slices: Sequence[Slice], device: str, protocol: Protocol, seed: int
) -> tuple[Rounds, Ending]:
    """Rounds in which every contender does the same slices, in an order drawn anew each time.

    That order is what makes the ratio's interval hold on a machine whose stalls come in trains: which
    contender a stall hits is a coin's toss. Slices are dealt like cards, so that each is done as often as
    any other. The last contender is the one measured against the others.
    """
    rng = random.Random(seed)  # noqa: S311
    length = block_length(contenders, device, protocol)
    rounds = Rounds(times={contender.name: Series(unit="s", values=[]) for contender in contenders})
    watch = RoundWatch(device)
    pack = deal(len(slices), rng)
    started = time.perf_counter()
    while True:
        block = list(itertools.islice(pack, length))
        order = rng.sample(range(len(contenders)), len(contenders))
        watch.begin()
        for place in order:
            contender = contenders[place]
            wall_s, device_s = time_block([contender.calls[i] for i in block], device)
            rounds.times[contender.name].values.append(wall_s)
            if device_s is not None:
                rounds.device_times.setdefault(contender.name, Series(unit="s", values=[])).values.append(
                    device_s
                )
        for reading, value in watch.end().items():
            rounds.machine.setdefault(reading, Series(unit=UNITS[reading], values=[])).values.append(value)
        rounds.order.append(order)
        rounds.rows.append(sum(slices[i].rows for i in block))
        rounds.tokens.append(sum(slices[i].tokens for i in block))
        rounds.padded_tokens.append(sum(slices[i].padded_tokens for i in block))
        ended = ending(rounds, device, protocol, time.perf_counter() - started)
        if ended:
            return rounds, ended


def deal(count: int, rng: random.Random) -> Iterator[int]:
    """The numbers below `count` in random order, and again in another, without end."""
    while True:
        yield from rng.sample(range(count), count)


def ending(rounds: Rounds, device: str, protocol: Protocol, spent_s: float) -> Ending | None:
    """Whether to stop, and why: looked at every `look_every` rounds, by the interval's width alone."""
    count = len(rounds.order)
    enough = count >= protocol.min_rounds
    at_limit = count >= protocol.max_rounds or (enough and spent_s >= protocol.max_time_s)
    due = enough and count % protocol.look_every == 0 and spent_s >= protocol.min_time_s
    if not at_limit and not due:
        return None
    rounds.discarded = discarded(rounds.machine)
    counted = count - len(rounds.discarded)
    if counted < protocol.min_rounds and not at_limit:
        return None
    if counted < LEAST_ROUNDS:
        return Ending(False, f"gave up after {count} rounds, {len(rounds.discarded)} of them discarded")
    target, widest = protocol.half_width(device), half_width(rounds)
    if widest <= target:
        return Ending(True, f"interval within ±{target:.1%} after {count} rounds")
    if at_limit:
        return Ending(
            False, f"gave up after {count} rounds and {spent_s:.0f} s, interval within ±{widest:.1%}"
        )
    return None


def kept(rounds: Rounds, values: Sequence[float | None] | Sequence[int]) -> list[float]:
    """The readings of the rounds that count."""
    chosen = [value for i, value in enumerate(values) if i not in rounds.discarded]
    assert None not in chosen
    return [float(value) for value in chosen if value is not None]


def times_of(rounds: Rounds, name: str) -> list[float]:
    """A contender's wall times in the rounds that count, in s."""
    return kept(rounds, rounds.times[name].values)


def half_width(rounds: Rounds) -> float:
    """The widest relative half-width of the last contender's ratios, or of its time where it is alone."""
    *anchors, name = rounds.times
    own = times_of(rounds, name)
    if not anchors:
        low, high = median_interval(own)
        return (high - low) / 2 / statistics.median(own)
    widths = []
    for anchor in anchors:
        value, (low, high), _ = ratio(times_of(rounds, anchor), own)
        widths.append((high - low) / 2 / value)
    return max(widths)
