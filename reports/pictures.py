"""The small pictures of one variant in the HTML report: its rounds, its layers, its training.

All are `WIDTH` by `HEIGHT` of their own units, from the upper left corner; the template draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.nouns.measurement import Measurement
from bench.nouns.run import DENSE, LayerShape, Result, Run
from reports import numbers
from reports.sentence import interval_of

WIDTH, HEIGHT = 320.0, 96.0
MOST_POINTS = 200
ROOM = 4.0


@dataclass(frozen=True)
class Curve:
    """Values one after the other. `path` goes through them; `low` and `high` write the ends of the scale.

    `band` is the interval's upper edge and height, `middle` the value's, `parity` that of a ratio of one.
    `every` says that only each so many-th is drawn.
    """

    title: str
    path: str
    low: str
    high: str
    count: int
    every: int
    said: str
    band: tuple[float, float] | None = None
    middle: float | None = None
    parity: float | None = None


@dataclass(frozen=True)
class Bar:
    """One layer's share, by its left edge; `top` is that of what is left."""

    x: float
    width: float
    top: float
    height: float
    said: str


@dataclass(frozen=True)
class Bars:
    """What every layer still holds of one thing, over the most in a layer of dense."""

    title: str
    bars: tuple[Bar, ...]
    said: str


def rounds(result: Result) -> Iterator[Curve]:
    """The ratios of dense's time to the variant's, round by round, of each scenario that was paired."""
    for name, scenario in result.scenarios.items():
        speedup = scenario.metrics.get("speedup")
        if result.variant != DENSE and speedup is not None and speedup.samples:
            yield _ratios(name, speedup)


def _ratios(scenario: str, speedup: Measurement) -> Curve:
    interval = interval_of(speedup) or (speedup.value, speedup.value)
    low, high = min(*speedup.samples, *interval), max(*speedup.samples, *interval)
    height = _heights(low, high)
    shown, every = _thinned(speedup.samples)
    places = _across(len(shown))
    said = numbers.spread(speedup.value, interval)
    return Curve(
        title=scenario,
        path="".join(f"M{x} {height(value)}h0" for x, value in zip(places, shown, strict=True)),
        low=numbers.spread(low),
        high=numbers.spread(high),
        count=len(speedup.samples),
        every=every,
        said=said,
        band=(height(interval[1]), round(height(interval[0]) - height(interval[1]), 1)),
        middle=height(speedup.value),
        parity=height(1.0) if low <= 1 <= high else None,
    )


def training(result: Result) -> Curve | None:
    """The training loss, or None where nothing was trained."""
    losses = [entry["loss"] for entry in result.training if "loss" in entry]
    if not losses:
        return None
    height = _heights(min(losses), max(losses))
    shown, every = _thinned(losses)
    corners = (f"{x} {height(value)}" for x, value in zip(_across(len(shown)), shown, strict=True))
    return Curve(
        title="Training loss",
        path="M" + "L".join(corners),
        low=numbers.spread(min(losses)),
        high=numbers.spread(max(losses)),
        count=len(losses),
        every=every,
        said=f"{numbers.spread(losses[0])} at first, {numbers.spread(losses[-1])} at last",
    )


def layers(run: Run, result: Result) -> Iterator[Bars]:
    """Heads and feed-forward widths left, layer by layer."""
    dense = run.result(DENSE)
    full = (dense.layers if dense else None) or result.layers
    if not result.layers:
        return
    yield _bars("Heads", [layer.heads for layer in result.layers], max(map(_heads, full)))
    yield _bars("Feed-forward width", [layer.ffn_width for layer in result.layers], max(map(_width, full)))


def _heads(layer: LayerShape) -> int:
    return layer.heads


def _width(layer: LayerShape) -> int:
    return layer.ffn_width


def _bars(title: str, left: Sequence[int], most: int) -> Bars:
    most = max(most, *left, 1)
    step = WIDTH / len(left)
    bars = (
        Bar(
            x=round(number * step, 1),
            width=round(step * 0.8, 1),
            top=round(HEIGHT * (1 - count / most), 1),
            height=round(HEIGHT * count / most, 1),
            said=f"layer {number + 1}: {count:,} of {most:,}",
        )
        for number, count in enumerate(left)
    )
    return Bars(title, tuple(bars), f"{', '.join(f'{count:,}' for count in left)} of {most:,}")


def _heights(low: float, high: float) -> Callable[[float], float]:
    """What puts a value from `low` to `high` into the picture, to a tenth."""
    span = (high - low) or 1.0
    return lambda value: round(HEIGHT - ROOM - (value - low) / span * (HEIGHT - 2 * ROOM), 1)


def _across(count: int) -> list[float]:
    """Places for `count` values, evenly from edge to edge."""
    step = (WIDTH - 2 * ROOM) / max(count - 1, 1)
    return [round(ROOM + number * step, 1) for number in range(count)]


def _thinned(values: Sequence[float]) -> tuple[Sequence[float], int]:
    """Every so many-th value, so that there are not too many to draw."""
    every = math.ceil(len(values) / MOST_POINTS)
    return values[::every], every
