"""The roofline of the HTML report: what a batch's modules reach beside what the device does at best.

After Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 52(4), 2009: FLOP/s over FLOP/B, both by their logarithms. Work that needs many bytes
for its FLOPs lies below the slope of a copy, other work below the line of a product. All places are in units
of the picture's own grid, from its upper left corner; the template draws them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.nouns.profile import Ceilings, Portion, Profile
from bench.nouns.run import DENSE, Result, Run
from reports.labels import Box, Label, Spot, placed
from reports.numbers import BYTE_RATE, COUNT, FLOP_RATE, PLAIN, quantity
from reports.profile import OTHERS, VARIANT, beside_dense, short_name
from reports.scatter import LONGEST_LABEL, Frame, Scale, Tick, by_mantissa

WIDE = Frame("wide", 920, 430, left=64, right=900, top=44, bottom=376)
NARROW = Frame("narrow", 360, 400, left=52, right=350, top=44, bottom=346)
ROOM = 2.5
MOST_OPERATORS = 6
MOST_TICKS = 6
LINE = 15.0
# Nothing that was measured lies beyond; their quotients and products are finite.
LEAST, GREATEST = 1e-60, 1e60


@dataclass(frozen=True)
class Roof:
    """A line that nothing outside of caches gets above, and where its text begins or ends, by `anchor`."""

    text: str
    path: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Dot:
    """What a part of a batch reaches; `label` is None where there was no room for one."""

    said: str
    is_dense: bool
    x: float
    y: float
    label: Label | None = None


@dataclass(frozen=True)
class Roofline:
    """One picture; `links` are the paths from a part of dense to the variant's."""

    frame: Frame
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    roofs: tuple[Roof, ...]
    dots: tuple[Dot, ...]
    links: tuple[str, ...]
    said: str


@dataclass(frozen=True)
class Work:
    """Work by its FLOP/B and FLOP/s."""

    intensity: float
    rate: float


def roofline(run: Run, result: Result, frame: Frame) -> Roofline | None:
    """The picture of a variant beside dense; None where no work of it could be counted."""
    sides = {side: works for side, held in beside_dense(run, result).items() if (works := _works(held))}
    if result.profile is None or not sides or not _drawable(result.profile.ceilings.copies[-1].rate):
        return None
    ceilings = _best([profile.ceilings for profile in beside_dense(run, result).values()])
    x_scale, y_scale = _scales(ceilings, [work for own in sides.values() for work in own.values()], frame)
    roofs = tuple(_roofs(ceilings, x_scale, y_scale))
    named = {
        (side, name): Dot(_said(side, name, work), side == DENSE, x_scale(work.intensity), y_scale(work.rate))
        for side, own in sides.items()
        for name, work in own.items()
    }
    dots = _labelled(named, roofs, frame)
    return Roofline(
        frame=frame,
        x_ticks=tuple(_ticks(x_scale)),
        y_ticks=tuple(_ticks(y_scale)),
        roofs=roofs,
        dots=dots,
        links=tuple(_links(named)),
        said="; ".join((*(roof.text for roof in roofs), *(dot.said for dot in dots))),
    )


def _best(measured: Sequence[Ceilings]) -> Ceilings:
    """What any of them reached: no part of one profile lies above what another has measured."""
    dtypes = dict.fromkeys(dtype for each in measured for dtype in each.matmul)
    return measured[-1].model_copy(
        update={
            "matmul": {dtype: max(each.matmul.get(dtype, 0.0) for each in measured) for dtype in dtypes},
            "copies": [max((each.copies[-1] for each in measured), key=lambda copy: copy.rate)],
        }
    )


def _works(profile: Profile) -> dict[str, Work]:
    """The kinds of modules whose work is counted, else the longest operators, else the batch as a whole."""
    whole = Portion(name="whole batch", time=profile.time, calls=1, flops=profile.flops, bytes=profile.bytes)
    operators = sorted(profile.operators, key=lambda portion: -portion.time)
    choices = (_counted(profile.modules), _counted(operators), _counted([whole]))
    found = next(filter(None, choices), {})
    return dict(list(found.items())[:MOST_OPERATORS])


def _counted(portions: Sequence[Portion]) -> dict[str, Work]:
    works = {}
    for portion in portions:
        flops, moved, time = portion.flops or 0.0, portion.bytes or 0.0, portion.time
        if all(map(_drawable, (flops, moved, time))) and OTHERS not in portion.name:
            works[short_name(portion.name, LONGEST_LABEL)] = Work(flops / moved, flops / time)
    return works


def _drawable(value: float) -> bool:
    return LEAST < value < GREATEST


def _scales(ceilings: Ceilings, works: Sequence[Work], frame: Frame) -> tuple[Scale, Scale]:
    """Room for every part, every product's line and the bend where it meets the slope."""
    matmuls, slope = _matmuls(ceilings), ceilings.copies[-1].rate
    intensities = [*(work.intensity for work in works), *(rate / slope for rate in matmuls.values())]
    rates = [*(work.rate for work in works), *matmuls.values()]
    return (
        Scale(min(intensities) / ROOM, max(intensities) * ROOM, frame.left, frame.right, log=True),
        Scale(min(rates) / ROOM, max(rates) * ROOM, frame.bottom, frame.top, log=True),
    )


def _matmuls(ceilings: Ceilings) -> dict[str, float]:
    """The products' ceilings, the highest first."""
    drawn = {dtype: rate for dtype, rate in ceilings.matmul.items() if _drawable(rate)}
    return dict(sorted(drawn.items(), key=lambda item: -item[1]))


def _roofs(ceilings: Ceilings, x_scale: Scale, y_scale: Scale) -> Iterator[Roof]:
    """The slope of the largest copy, and a line for each product from there on."""
    slope, matmuls = ceilings.copies[-1].rate, _matmuls(ceilings)
    start = max(x_scale.low, y_scale.low / slope)
    end = min(x_scale.high, max(matmuls.values(), default=y_scale.high) / slope)
    if start < end:
        corners = [(x_scale(at), y_scale(at * slope)) for at in (start, (start * end) ** 0.5, end)]
        (left, bottom), (x, y), (right, top) = corners
        yield Roof(
            f"copy: {quantity(slope, BYTE_RATE)}", f"M{left} {bottom}L{right} {top}", x + 12, y + 16, "start"
        )
    lowest = 0.0
    for dtype, rate in matmuls.items():
        y = y_scale(rate)
        lowest = max(y - 6, lowest + LINE)
        path = f"M{x_scale(max(x_scale.low, rate / slope))} {y}H{x_scale.end}"
        yield Roof(f"{dtype} matmul: {quantity(rate, FLOP_RATE)}", path, x_scale.end, lowest, "end")


def _said(side: str, name: str, work: Work) -> str:
    whose = f"{name} of {side}" if side == DENSE else name
    return f"{whose} {quantity(work.rate, FLOP_RATE)} at {quantity(work.intensity, PLAIN)} FLOP/B"


def _ticks(scale: Scale) -> Iterator[Tick]:
    for value in by_mantissa(scale.low, scale.high, MOST_TICKS):
        number, _, prefix = quantity(value, COUNT).partition(" ")
        yield Tick(scale(value), f"{float(number):g} {prefix}".rstrip())


def _labelled(named: Mapping[tuple[str, str], Dot], roofs: Sequence[Roof], frame: Frame) -> tuple[Dot, ...]:
    """The dots with labels; a part of dense goes without where a line leads from it to the variant's."""
    texts = {(side, name): "" if side == DENSE and (VARIANT, name) in named else name for side, name in named}
    order = sorted(named, key=lambda key: not texts[key])
    spots = [Spot(texts[key], named[key].x, named[key].y) for key in order]
    labels = placed(spots, [_box(roof) for roof in roofs], frame.plot)
    return tuple(
        replace(named[key], label=label if texts[key] else None)
        for key, label in zip(order, labels, strict=True)
    )


def _box(roof: Roof) -> Box:
    width = 6.5 * len(roof.text)
    return Box(roof.x + (width / 2 if roof.anchor == "start" else -width / 2), roof.y - 4, width, LINE)


def _links(named: Mapping[tuple[str, str], Dot]) -> Iterator[str]:
    for (side, name), dot in named.items():
        if side == DENSE and (other := named.get((VARIANT, name))):
            yield f"M{dot.x} {dot.y}L{other.x} {other.y}"
