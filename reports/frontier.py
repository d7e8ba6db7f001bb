"""The Pareto frontier with uncertainty: which points are shown to be beaten, and which are unbeaten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Standing = Literal["on the frontier", "undecided", "dominated"]


@dataclass(frozen=True)
class Extent:
    """A value and the interval that it lies in; both ends are the value where it is exact."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        assert self.low <= self.value <= self.high, self

    @property
    def is_exact(self) -> bool:
        """Whether it has no interval to speak of."""
        return self.low == self.high

    def negated(self) -> Extent:
        """The same of the opposite quantity, where less was better."""
        return Extent(-self.value, -self.high, -self.low)

    def widened(self, share: float) -> Extent:
        """The same value with both ends further out by a factor of 1 + `share`."""
        factor = 1 + share
        low, high = (self.low / factor, self.low * factor), (self.high / factor, self.high * factor)
        return Extent(self.value, min(low), max(high))


Place = tuple[Extent, Extent]
"""Where a point lies on two axes, on both of which more is better."""


def standings(places: Sequence[Place]) -> list[Standing]:
    """The standing of each place among all of them.

    One is dominated where another's intervals lie wholly beyond its own on both axes. It is on the frontier
    where no other's values are as good on both axes and better on one. Else the intervals do not tell.
    """
    return [_standing(place, places) for place in places]


def _standing(place: Place, places: Sequence[Place]) -> Standing:
    if any(_surely_beats(other, place) for other in places):
        return "dominated"
    return "undecided" if any(_beats(other, place) for other in places) else "on the frontier"


def _surely_beats(one: Place, other: Place) -> bool:
    return all(mine.low > its.high for mine, its in zip(one, other, strict=True))


def _beats(one: Place, other: Place) -> bool:
    """Whether its values are as good on both axes, and better on one."""
    values = [(mine.value, its.value) for mine, its in zip(one, other, strict=True)]
    return all(mine >= its for mine, its in values) and any(mine > its for mine, its in values)
