"""The scatter: what can be an axis, where things lie on it, and what is written there."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.measurement import measured
from bench.nouns.run import Run
from reports.frontier import Extent
from reports.numbers import BYTES, PLAIN
from reports.scatter import NARROW, WIDE, Axis, Candidate, Frame, axes, scatter

SIZES = st.floats(1e-3, 1e3)


@st.composite
def candidates(draw: st.DrawFn, number: int) -> Candidate:
    least, value, greatest = sorted(draw(st.tuples(SIZES, SIZES, SIZES)))
    low, points, high = sorted(draw(st.tuples(*[st.floats(-30, 30)] * 3)))
    x, y = Extent(value, least, greatest), Extent(points, low, high)
    return Candidate(number, f"v{number}", x, y, "on the frontier", False)


@given(st.data(), st.integers(1, 8), st.sampled_from([WIDE, NARROW]), st.floats(0, 0.1))
def test_everything_lies_inside_the_plot_in_its_order(
    data: st.DataObject, count: int, frame: Frame, margin: float
) -> None:
    some = tuple(data.draw(candidates(number)) for number in range(count))
    picture = scatter(Axis("disk_size", "Size", PLAIN, True, False, some), frame, 100 * margin)
    for mark in picture.marks:
        assert frame.left <= mark.left <= mark.x <= mark.right <= frame.right
        assert frame.top <= mark.top <= mark.y <= mark.bottom <= frame.bottom
    assert frame.top <= picture.zero <= picture.zero + 100 * margin * picture.per_point <= frame.bottom
    by_value = sorted(picture.marks, key=lambda mark: mark.candidate.x.value)
    assert [mark.x for mark in by_value] == sorted(mark.x for mark in picture.marks)
    for ticks, start, end in (
        (picture.x_ticks, frame.left, frame.right),
        (picture.y_ticks, frame.top, frame.bottom),
    ):
        assert 1 <= len(ticks) <= 9
        assert all(start <= tick.at <= end for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks)


@given(st.floats(0, 8), st.floats(0.5, 5))
def test_a_lost_point_is_as_high_everywhere(budget: float, loss: float) -> None:
    point = Candidate(1, "v", Extent(2, 1, 3), Extent(-loss, -loss - 1, 1 - loss), "on the frontier", False)
    picture = scatter(Axis("speedup", "Speedup", PLAIN, False, False, (point,)), WIDE, budget)
    assert picture.marks[0].y == pytest.approx(picture.zero + loss * picture.per_point, abs=1.5)


def one_axis(run: Run, name: str) -> Axis:
    return next(axis for axis in axes(run) if axis.name == name)


def test_axes_are_those_that_a_judged_variant_has(run: Run) -> None:
    names = [axis.name for axis in axes(run)]
    assert names[0] == "speedup"
    assert "peak_memory_host" in names
    assert "peak_memory_device" not in names
    judged = {candidate.variant for candidate in one_axis(run, "speedup").candidates}
    assert judged == {result.variant for result in run.results if result.status == "ok"}


def test_dense_alone_is_nothing_to_draw(run: Run) -> None:
    dense = [result for result in run.results if result.variant == "dense"]
    assert axes(run.model_copy(update={"results": dense})) == []


def test_what_is_estimated_is_said_to_be(run: Run) -> None:
    energy = one_axis(run, "inference_energy_per_sample")
    assert energy.estimated
    assert "estimated" in scatter(energy, WIDE, 1.0).x_title
    assert "estimated" not in scatter(one_axis(run, "disk_size"), WIDE, 1.0).x_title


def test_where_less_is_better_the_smaller_is_on_the_frontier(run: Run) -> None:
    results = [result.model_copy(deep=True) for result in run.results if result.status == "ok"]
    for result in results:
        light = result.variant == "bmp25"
        result.metrics["disk_size"] = measured("disk_size", 1e6 if light else 9e6, "stat")
    axis = one_axis(run.model_copy(update={"results": results}), "disk_size")
    standing = {candidate.variant: candidate.standing for candidate in axis.candidates}
    assert standing["bmp25"] == "on the frontier"
    assert standing["bmp:amount=0.4,block=16+kd:layers=2"] == "dominated"
    assert "MB" in scatter(axis, WIDE, 1.0).x_title
    assert axis.ladder is BYTES


def test_several_seeds_are_one_point_that_reaches_over_all(seeded: Run) -> None:
    (point,) = [c for c in one_axis(seeded, "speedup").candidates if c.variant == "bmp25+kd+mp"]
    speedups = [r.metrics["speedup"] for r in seeded.results if r.variant == "bmp25+kd+mp"]
    assert point.x.low == min(speedup.ci_low or math.inf for speedup in speedups)
    assert point.x.high == max(speedup.ci_high or 0 for speedup in speedups)
    assert point.x.value == pytest.approx(sum(speedup.value for speedup in speedups) / 2)
    assert point.recommended


def test_phones_get_numbers_and_screens_get_names(sixteen: Run) -> None:
    axis = one_axis(sixteen, "speedup")
    wide, narrow = scatter(axis, WIDE, 1.0), scatter(axis, NARROW, 1.0)
    assert {m.label.text for m in narrow.marks if m.label} <= {str(n) for n in range(1, 17)}
    names = {mark.label.text for mark in wide.marks if mark.label}
    assert {"dense", "bmp25+kd+mp"} <= names
