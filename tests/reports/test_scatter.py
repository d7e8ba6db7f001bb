"""The scatter: what can be an axis, where things lie on it, and what is written there."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Result, Run
from reports.frontier import Extent
from reports.numbers import BYTES, PLAIN
from reports.parts import Name
from reports.scatter import NARROW, WIDE, Axis, Candidate, Frame, axes, scatter
from tests.reports.conftest import verdict

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


def with_figures(run: Run, name: str, figures: dict[str, Measurement]) -> Axis:
    """The axis of a metric that only these variants have, with these figures; `mp` is less accurate."""
    results = [
        result.model_copy(update={"metrics": {name: figures[result.variant]}})
        for result in run.results
        if result.variant in figures
    ]
    return one_axis(run.model_copy(update={"results": results}), name)


def standing(axis: Axis) -> dict[str, str]:
    return {candidate.variant: candidate.standing for candidate in axis.candidates}


def test_no_verdict_rests_on_what_is_modelled(run: Run) -> None:
    energy = one_axis(run, "inference_energy_per_sample")
    assert set(standing(energy).values()) == {"modelled"}
    assert energy.notes == ()
    assert scatter(energy, WIDE, 1.0).frontier == ""
    assert energy.said(energy.candidates[1]).endswith("; modelled")


def test_a_single_modelled_figure_takes_the_verdicts_of_all(run: Run) -> None:
    sizes = {"dense": measured("disk_size", 1e6, "file size"), "mp": measured("disk_size", 9e6, "file size")}
    assert standing(with_figures(run, "disk_size", sizes))["mp"] == "dominated"
    sizes["dense"] = measured("disk_size", 1e6, "reckoned", estimated=True)
    assert set(standing(with_figures(run, "disk_size", sizes)).values()) == {"modelled"}


def test_what_was_read_once_is_undecided_at_worst(run: Run) -> None:
    once = {
        "dense": measured("peak_memory_host", 1e6, "VmHWM"),
        "mp": measured("peak_memory_host", 9e6, "VmHWM"),
    }
    assert standing(with_figures(run, "peak_memory_host", once)) == {
        "dense": "on the frontier",
        "mp": "undecided",
    }


@pytest.mark.parametrize(("slower", "word"), [(1.5, "undecided"), (1.7, "dominated")])
@pytest.mark.parametrize("name", ["throughput", "latency_p50"])
def test_absolute_times_are_judged_beyond_the_noise_between_runs(
    run: Run, name: str, slower: float, word: str
) -> None:
    """The machine's noise is 23.8 %: once on either side."""
    ratio = 1 / slower if name == "throughput" else slower
    figures = {
        "dense": measured(name, 1.0, "clock", (0.99, 1.01)),
        "mp": measured(name, ratio, "clock", (0.99 * ratio, 1.01 * ratio)),
    }
    axis = with_figures(run, name, figures)
    assert standing(axis)["mp"] == word
    assert any("between runs, 24 %" in "".join(note) for note in axis.notes)
    assert {(c.x.low, c.x.high) for c in axis.candidates} == {
        (figure.ci_low, figure.ci_high) for figure in figures.values()
    }


def test_absolute_times_of_a_machine_of_unknown_noise_are_undecided_at_worst(run: Run) -> None:
    unknown = run.model_copy(update={"environment": run.environment.model_copy(update={"noise_floor": None})})
    figures = {
        "dense": measured("latency_p50", 1.0, "clock", (0.99, 1.01)),
        "mp": measured("latency_p50", 9.0, "clock", (8.9, 9.1)),
    }
    assert standing(with_figures(unknown, "latency_p50", figures))["mp"] == "undecided"


def test_paired_ratios_are_judged_by_their_own_intervals(run: Run) -> None:
    figures = {
        "dense": measured("speedup", 1.0, "definition"),
        "mp": measured("speedup", 0.9, "paired rounds", (0.89, 0.91)),
    }
    axis = with_figures(run, "speedup", figures)
    assert standing(axis)["mp"] == "dominated"
    assert axis.notes == ()


def failing(result: Result) -> Result:
    return Result(variant=result.variant, seed=result.seed, status="failed", reason="out of memory")


def lacking(result: Result) -> Result:
    metrics = {name: value for name, value in result.metrics.items() if name != "speedup"}
    return result.model_copy(update={"metrics": metrics})


@pytest.mark.parametrize("without", [failing, lacking])
def test_a_variant_without_a_figure_for_every_seed_is_not_judged(
    seeded: Run, without: Callable[[Result], Result]
) -> None:
    *others, last = [result for result in seeded.results if result.variant == "bmp25+kd+mp"]
    results = [without(result) if result is last else result for result in seeded.results]
    before, after = (
        one_axis(shown, "speedup") for shown in (seeded, seeded.model_copy(update={"results": results}))
    )
    assert standing(before)["bmp25+kd+mp"] == "on the frontier"
    assert standing(after)["bmp25+kd+mp"] == "incomplete"
    (point,) = [c for c in after.candidates if c.variant == "bmp25+kd+mp"]
    assert point.x.value == others[0].metrics["speedup"].value
    assert after.said(point).endswith("; incomplete, 1 of 2 seeds")
    assert after.notes == ((Name("bmp25+kd+mp"), ": 1 of 2 seeds"),)


def test_what_is_not_judged_dominates_nothing(seeded: Run) -> None:
    """Without the second seed of the faster and more accurate one, nothing is beyond the other."""
    best, mp = "bmp25+kd+mp", "mp"
    results = [
        result.model_copy(deep=True)
        for result in seeded.results
        if not (result.variant == best and result.seed == 2)
    ]
    for result in results:
        if result.variant == mp:
            result.metrics["speedup"] = measured("speedup", 1.5, "paired rounds", (1.49, 1.51))
            result.accuracy_kept = {"test": verdict("lost", -0.05)}
    incomplete = seeded.model_copy(update={"results": results})
    assert standing(one_axis(incomplete, "speedup"))[mp] == "on the frontier"


def test_where_nothing_is_complete_there_is_no_frontier(seeded: Run) -> None:
    config = seeded.config.model_copy(update={"seeds": [1, 2, 3]})
    axis = one_axis(seeded.model_copy(update={"config": config}), "speedup")
    assert set(standing(axis).values()) == {"incomplete"}
    assert scatter(axis, WIDE, 1.0).frontier == ""


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
