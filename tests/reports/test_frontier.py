"""The frontier: a point is dominated only where intervals say so, and other points can only make it worse."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from reports.frontier import Extent, Place, standings

WORST_LAST = ("on the frontier", "undecided", "dominated")


@st.composite
def extents(draw: st.DrawFn, exact: bool = False) -> Extent:
    low, value, high = sorted(draw(st.lists(st.integers(-9, 9), min_size=3, max_size=3)))
    return Extent(value, value, value) if exact else Extent(value, low, high)


def places(exact: bool = False) -> st.SearchStrategy[list[Place]]:
    return st.lists(st.tuples(extents(exact), extents(exact)), min_size=1, max_size=8)


@given(places(), st.tuples(extents(), extents()))
def test_another_point_never_makes_one_stand_better(some: list[Place], another: Place) -> None:
    before, after = standings(some), standings([*some, another])
    for was, is_now in zip(before, after, strict=False):
        assert WORST_LAST.index(is_now) >= WORST_LAST.index(was)


@given(places())
def test_something_is_always_on_the_frontier(some: list[Place]) -> None:
    assert "on the frontier" in standings(some)


@given(places())
def test_what_is_dominated_is_beaten_by_a_value_on_both_axes(some: list[Place]) -> None:
    for (x, y), standing in zip(some, standings(some), strict=True):
        beaten = any(other_x.value > x.value and other_y.value > y.value for other_x, other_y in some)
        assert beaten or standing != "dominated"


@given(places(exact=True))
def test_exact_values_are_undecided_only_where_two_agree_on_an_axis(some: list[Place]) -> None:
    for (x, y), standing in zip(some, standings(some), strict=True):
        ties = any((x == other_x) != (y == other_y) for other_x, other_y in some)
        assert ties or standing != "undecided"


@given(places(), st.integers(-5, 5))
def test_where_the_axes_begin_does_not_matter(some: list[Place], by: int) -> None:
    moved = [(Extent(x.value + by, x.low + by, x.high + by), y) for x, y in some]
    assert standings(moved) == standings(some)


@given(places())
def test_what_may_lie_anywhere_neither_dominates_nor_is_dominated(some: list[Place]) -> None:
    anywhere = [(Extent(x.value, -math.inf, math.inf), y) for x, y in some]
    assert "dominated" not in standings(anywhere)
    assert standings([*some, *anywhere])[: len(some)].count("dominated") == standings(some).count("dominated")


@given(extents(), st.integers(0, 3))
def test_a_widened_interval_holds_the_one_before_and_keeps_the_value(extent: Extent, share: int) -> None:
    wider = extent.widened(share)
    assert wider.low <= extent.low <= wider.value == extent.value <= extent.high <= wider.high
    assert wider.negated() == extent.negated().widened(share)


def test_an_end_is_moved_by_the_same_factor_up_as_down() -> None:
    assert Extent(10.0, 8.0, 12.0).widened(0.25) == Extent(10.0, 6.4, 15.0)


def test_overlapping_intervals_leave_it_undecided() -> None:
    better, worse = Extent(2.0, 1.5, 2.5), Extent(1.0, 0.5, 1.5)
    clearly_worse = Extent(1.0, 0.5, 1.4)
    assert standings([(better, better), (worse, clearly_worse)]) == ["on the frontier", "undecided"]
    assert standings([(better, better), (clearly_worse, clearly_worse)]) == ["on the frontier", "dominated"]


def test_where_less_is_better_the_opposite_is_compared() -> None:
    light, heavy = Extent(3.0, 2.0, 4.0), Extent(7.0, 6.0, 8.0)
    same = Extent(0.0, -1.0, 1.0)
    sizes = [(light.negated(), same), (heavy.negated(), same)]
    assert standings(sizes) == ["on the frontier", "undecided"]
    assert light.negated() == Extent(-3.0, -4.0, -2.0)
