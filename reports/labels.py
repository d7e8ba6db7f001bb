"""Where the names of a picture's points go, so that they hide neither each other nor a point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GLYPH = 7.4
LINE = 14.0
REACH = 7.0
DISTANCES = (10.0, 20.0, 34.0, 50.0, 70.0)
LED_FROM = 20.0
SIDES = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))
ANCHORS = {1: "start", 0: "middle", -1: "end"}
COST_OF_CROSSING = 8.0


@dataclass(frozen=True)
class Box:
    """A rectangle by its middle."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """Whether they share more than an edge."""
        return (
            abs(self.x - other.x) * 2 < self.width + other.width
            and abs(self.y - other.y) * 2 < self.height + other.height
        )

    def holds(self, other: Box) -> bool:
        """Whether `other` lies in it altogether."""
        return (
            abs(self.x - other.x) * 2 <= self.width - other.width
            and abs(self.y - other.y) * 2 <= self.height - other.height
        )


@dataclass(frozen=True)
class Spot:
    """A point with the text that belongs to it."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Label:
    """A text, its end that is nearest the point, and whether a line must lead to it.

    `anchor` says which part of the text stands at `x`, as SVG calls it; `y` is the text's middle.
    """

    text: str
    x: float
    y: float
    anchor: str
    led: bool


def placed(spots: Sequence[Spot], lines: Sequence[Box], plot: Box) -> list[Label | None]:
    """A label for each spot, those of the first ones nearest; None where there is no room for one.

    Each goes where it crosses few of the `lines`, inside `plot`. Widths are estimated, since nobody knows
    the reader's font.
    """
    taken = [Box(spot.x, spot.y, 2 * REACH, 2 * REACH) for spot in spots]
    labels: list[Label | None] = []
    for spot in spots:
        best, least = None, math.inf
        for distance, label, box in _around(spot):
            if distance >= least:  # crossings only add to the distance
                break
            if not plot.holds(box) or any(box.overlaps(other) for other in taken):
                continue
            cost = distance + COST_OF_CROSSING * sum(box.overlaps(line) for line in lines)
            if cost < least:
                best, least = (label, box), cost
        labels.append(best[0] if best else None)
        taken += [best[1]] if best else []
    return labels


def _around(spot: Spot) -> Iterator[tuple[float, Label, Box]]:
    """The places that a label may have, the nearest first: their distance, the label there, and its box."""
    width = GLYPH * len(spot.text) + 4
    for distance in DISTANCES:
        for across, down in SIDES:
            away = distance * (0.75 if across and down else 1.0)
            x, y = round(spot.x + across * away, 1), round(spot.y + down * (away + LINE / 3), 1)
            label = Label(spot.text, x, y, ANCHORS[across], led=distance >= LED_FROM)
            yield distance, label, Box(x + across * width / 2, y, width, LINE)
