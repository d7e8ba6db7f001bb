"""The scatters of the HTML report, one an axis: each variant's accuracy against its speed, size or cost.

All places are in units of the picture's own grid, from its upper left corner; the template draws them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.nouns.measurement import METRICS, Measurement
from bench.nouns.run import DENSE, Result, Run
from reports import numbers
from reports.columns import SHOWN
from reports.frontier import Extent, Place, Standing, standings
from reports.labels import Box, Label, Spot, placed
from reports.names import by_variant, ordered
from reports.numbers import MINUS, Ladder, Step, percent
from reports.parts import Line, Name, plain
from reports.sentence import interval_of, verdict_of

AXES = (
    "speedup",
    "speedup_same_precision",
    "throughput",
    "latency_b1_p50",
    "latency_p50",
    "peak_memory_host",
    "peak_memory_device",
    "peak_memory_allocator",
    "disk_size",
    "inference_energy_per_sample",
    "inference_co2_per_sample",
)
EXACT = frozenset({"peak_memory_allocator", "disk_size"})
# Taken of one variant after the other, while the machine's day goes on.
ABSOLUTE = frozenset(
    {
        "throughput",
        "latency_b1_p50",
        "latency_p50",
        "inference_energy_per_sample",
        "inference_co2_per_sample",
    }
)
LOG_FROM = 3.0
MOST_TICKS = 8
MANTISSAS = ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
STEPS = (1.0, 2.0, 5.0, 10.0)
MARGIN = 0.06
LEAST_MARGIN = 0.02
LEAST_LOSS = 1.0
LONGEST_LABEL = 26

Word = Standing | Literal["incomplete", "modelled"]
"""Where a variant stands, or why that is not judged: not every seed has a figure, or some are modelled."""

WEIGHT: tuple[Word, ...] = ("on the frontier", "undecided", "modelled", "dominated", "incomplete")


@dataclass(frozen=True)
class Frame:
    """A picture's size, and the lines that bound its plot."""

    name: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    @property
    def plot(self) -> Box:
        """The area in which the points lie."""
        width, height = self.right - self.left, self.bottom - self.top
        return Box(self.left + width / 2, self.top + height / 2, width, height)


WIDE = Frame("wide", 920, 560, left=44, right=900, top=44, bottom=506)
NARROW = Frame("narrow", 360, 420, left=34, right=350, top=44, bottom=366)


@dataclass(frozen=True)
class Candidate:
    """A variant with its place among the others; `number` counts them. Its `x` is in the metric's unit.

    With several seeds the values are their medians, and the intervals reach over all of theirs. `part` is
    `1 of 2 seeds` where others have no figures, else empty.
    """

    number: int
    variant: str
    x: Extent
    points: Extent
    standing: Word
    recommended: bool
    part: str = ""

    @property
    def is_dense(self) -> bool:
        """Whether it is what the others are set against."""
        return self.variant == DENSE


@dataclass(frozen=True)
class Axis:
    """A metric to set accuracy against, and the variants that have both; `name` is the metric's.

    `notes` say what else its standings rest on.
    """

    name: str
    title: str
    ladder: Ladder
    lower_is_better: bool
    estimated: bool
    candidates: tuple[Candidate, ...]
    notes: tuple[Line, ...] = ()

    def said(self, candidate: Candidate) -> str:
        """Where a candidate lies, in words."""
        x, y = candidate.x, candidate.points
        amount = numbers.quantity(x.value, self.ladder, None if x.is_exact else (x.low, x.high))
        if candidate.is_dense:
            return f"{self.title} {amount}; what the others are set against"
        bounds = f" ({numbers.signed(y.low)} to {numbers.signed(y.high)})"
        stands = ", ".join(filter(None, (candidate.standing, candidate.part)))
        return f"{self.title} {amount}; {numbers.signed(y.value)} points{bounds}; {stands}"


@dataclass(frozen=True)
class Mark:
    """A candidate as it is drawn; `label` is None where there was no room for it."""

    candidate: Candidate
    said: str
    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float
    label: Label | None = None


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Scatter:
    """One picture. `zero` is the height of no change, `origin` dense's place across, None without dense.

    A loss of a point lies `per_point` below `zero`.
    """

    frame: Frame
    x_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float
    origin: float | None
    per_point: float
    marks: tuple[Mark, ...]
    frontier: str


@dataclass(frozen=True)
class Scale:
    """Puts values from `low` to `high` between two places, evenly or by their logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of `value`, to a tenth."""
        read = math.log if self.log else float
        share = (read(value) - read(self.low)) / (read(self.high) - read(self.low))
        return round(self.start + share * (self.end - self.start), 1)


def axes(run: Run) -> list[Axis]:
    """The metrics that some variant has beside an accuracy to set against dense's, the headline first."""
    found = (_axis(run, name) for name in AXES)
    return [axis for axis in found if not all(candidate.is_dense for candidate in axis.candidates)]


def _axis(run: Run, name: str) -> Axis:
    shown, asked = SHOWN[name], len(run.config.seeds)
    found = [
        seeds
        for own in by_variant(ordered(run))
        if (seeds := [result for result in own if name in result.metrics and _is_comparable(result)])
    ]
    estimated = any(result.metrics[name].estimated for seeds in found for result in seeds)
    words: list[Word] = ["modelled"] * len(found) if estimated else _standings(run, name, found)
    candidates = tuple(
        Candidate(
            number,
            seeds[0].variant,
            _over_seeds([_extent(result.metrics[name]) for result in seeds]),
            _points(seeds),
            word,
            seeds[0].recommended,
            part=f"{len(seeds)} of {asked} seeds" if len(seeds) < asked else "",
        )
        for number, (seeds, word) in enumerate(zip(found, words, strict=True), start=1)
    )
    lower = METRICS[name].better == "lower"
    notes = tuple(_notes(run, name, candidates, estimated))
    return Axis(name, shown.title, shown.ladder, lower, estimated, candidates, notes)


def _standings(run: Run, name: str, found: Sequence[Sequence[Result]]) -> list[Word]:
    """The standing of each variant, given by its seeds, among those that have all of theirs."""
    whole = [seeds for seeds in found if len(seeds) == len(run.config.seeds)]
    judged = standings([_place(run, name, seeds) for seeds in whole])
    words = {seeds[0].variant: word for seeds, word in zip(whole, judged, strict=True)}
    return [words.get(seeds[0].variant, "incomplete") for seeds in found]


def _place(run: Run, name: str, seeds: Sequence[Result]) -> Place:
    reach = _over_seeds([_reach(run, name, result.metrics[name]) for result in seeds])
    return reach.negated() if METRICS[name].better == "lower" else reach, _points(seeds)


def _reach(run: Run, name: str, measurement: Measurement) -> Extent:
    """What a value is judged by: where it may lie, as far as anybody knows.

    A count lies where it is, and so does what is 1 by definition. An absolute figure may lie beyond its
    interval, as far as this machine's noise between runs takes it. Without an interval nothing is known.
    """
    exact = name in EXACT or measurement.source.startswith("definition")
    floor = run.environment.noise_floor
    if not exact and (interval_of(measurement) is None or (name in ABSOLUTE and floor is None)):
        return Extent(measurement.value, -math.inf, math.inf)
    extent = _extent(measurement)
    return extent.widened(floor.between) if floor and name in ABSOLUTE else extent


def _notes(run: Run, name: str, candidates: Sequence[Candidate], estimated: bool) -> Iterator[Line]:
    """What the standings on an axis rest on besides the intervals that are drawn."""
    floor = run.environment.noise_floor
    if floor and name in ABSOLUTE and not estimated:
        between = percent(floor.between)
        yield (
            "taken one variant after the other: what is dominated is so even with every interval widened by "
            f"this machine's noise between runs, {between}",
        )
    for candidate in candidates:
        if candidate.part:
            yield (Name(candidate.variant), f": {candidate.part}")


def _is_comparable(result: Result) -> bool:
    return result.status == "ok" and (result.variant == DENSE or verdict_of(result) is not None)


def _extent(measurement: Measurement) -> Extent:
    value = measurement.value
    low, high = interval_of(measurement) or (value, value)
    return Extent(value, min(low, value), max(high, value))


def _points(seeds: Sequence[Result]) -> Extent:
    """The change of accuracy over dense, in points; none for dense itself."""
    verdicts = [verdict for verdict in map(verdict_of, seeds) if verdict]
    if seeds[0].variant == DENSE:
        return Extent(0.0, 0.0, 0.0)
    return _over_seeds([Extent(100 * v.difference, 100 * v.low, 100 * v.high) for v in verdicts])


def _over_seeds(extents: Sequence[Extent]) -> Extent:
    return Extent(
        statistics.median(extent.value for extent in extents),
        min(extent.low for extent in extents),
        max(extent.high for extent in extents),
    )


def scatter(axis: Axis, frame: Frame, budget: float) -> Scatter:
    """The picture of one axis; it has room for the line of a loss of `budget` points."""
    ends = [end for candidate in axis.candidates for end in (candidate.x.low, candidate.x.high)]
    least, greatest = min(ends), max(ends)
    log = least > 0 and greatest / least >= LOG_FROM
    x_scale = _x_scale(least, greatest, log, frame)
    heights = [end for candidate in axis.candidates for end in (candidate.points.low, candidate.points.high)]
    y_scale = _y_scale(min(-1.5 * budget, -LEAST_LOSS, *heights), max(0.0, *heights), frame)
    unit = next((step for step in reversed(axis.ladder) if step.size <= greatest), axis.ladder[0])
    marks = _labelled(frame, [_mark(axis, c, x_scale, y_scale) for c in axis.candidates])
    dense = next((mark for mark in marks if mark.candidate.is_dense), None)
    return Scatter(
        frame=frame,
        x_title=_x_title(axis, unit),
        x_ticks=tuple(_x_ticks(x_scale, unit, MOST_TICKS if frame is WIDE else MOST_TICKS - 2)),
        y_ticks=tuple(Tick(y_scale(value), _signed(value)) for value in _even(y_scale.low, y_scale.high, 8)),
        zero=y_scale(0),
        origin=dense.x if dense else None,
        per_point=y_scale(0) - y_scale(1),
        marks=marks,
        frontier=_staircase(marks, axis.lower_is_better),
    )


def _x_title(axis: Axis, unit: Step) -> str:
    better = "lower is better" if axis.lower_is_better else "higher is better"
    estimated = ", estimated" if axis.estimated else ""
    in_unit = f", {unit.symbol}" if unit.symbol else ""
    return f"{axis.title}{in_unit}{estimated} ({better})"


def _x_scale(least: float, greatest: float, log: bool, frame: Frame) -> Scale:
    if log:
        room = (greatest / least) ** MARGIN
        return Scale(least / room, greatest * room, frame.left, frame.right, log=True)
    room = max(MARGIN * (greatest - least), LEAST_MARGIN * abs(greatest)) or 1.0
    return Scale(least - room, greatest + room, frame.left, frame.right)


def _y_scale(least: float, greatest: float, frame: Frame) -> Scale:
    room = MARGIN * (greatest - least)
    return Scale(least - room, greatest + room, frame.bottom, frame.top)


def _x_ticks(scale: Scale, unit: Step, most: int) -> Iterator[Tick]:
    values = by_mantissa(scale.low, scale.high, most) if scale.log else _even(scale.low, scale.high, most)
    for value in values:
        yield Tick(scale(value), f"{float(f'{value / unit.size:.4g}'):g}".replace("-", MINUS))


def by_mantissa(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high` for an axis of logarithms, as many as there is room for."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for mantissas in MANTISSAS:
        values = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
        if len(fitting := [value for value in values if low <= value <= high]) <= most:
            return fitting
    return fitting[:: math.ceil(len(fitting) / most)]


def _even(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, evenly spaced."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * power for size in STEPS if (high - low) / (size * power) < most)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _signed(points: float) -> str:
    return f"{points:+.4g}".replace("-", MINUS) if abs(points) > 1e-9 else "0"


def _mark(axis: Axis, candidate: Candidate, x_scale: Scale, y_scale: Scale) -> Mark:
    x, y = candidate.x, candidate.points
    across = [x_scale(value) for value in (x.value, x.low, x.high)]
    up = [y_scale(value) for value in (y.value, y.high, y.low)]
    return Mark(candidate, axis.said(candidate), across[0], up[0], across[1], across[2], up[1], up[2])


def _staircase(marks: Sequence[Mark], lower_is_better: bool) -> str:
    """The path along the frontier, from its most accurate point to its fastest; empty if none is on it."""
    corners = sorted(
        {(mark.x, mark.y) for mark in marks if mark.candidate.standing == "on the frontier"},
        reverse=lower_is_better,
    )
    if not corners:
        return ""
    (x, y), *others = corners
    return f"M{x} {y}" + "".join(f"V{y}H{x}" for x, y in others)


def _labelled(frame: Frame, marks: list[Mark]) -> tuple[Mark, ...]:
    """The marks, each with its label: the recommended one's is placed first, those of the dominated last."""

    def weight(mark: Mark) -> tuple[bool, int]:
        return not mark.candidate.recommended, WEIGHT.index(mark.candidate.standing)

    by_weight = sorted(marks, key=weight)
    spots = [Spot(_label_text(mark.candidate, frame), mark.x, mark.y) for mark in by_weight]
    whiskers = [box for mark in marks for box in _whiskers(mark)]
    labels = placed(spots, whiskers, frame.plot)
    return tuple(replace(mark, label=label) for mark, label in zip(by_weight, labels, strict=True))


def _whiskers(mark: Mark) -> tuple[Box, Box]:
    across = Box((mark.left + mark.right) / 2, mark.y, mark.right - mark.left, 1)
    return across, Box(mark.x, (mark.top + mark.bottom) / 2, 1, mark.bottom - mark.top)


def _label_text(candidate: Candidate, frame: Frame) -> str:
    if frame is NARROW:
        return str(candidate.number)
    name = plain(candidate.variant)
    return name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
