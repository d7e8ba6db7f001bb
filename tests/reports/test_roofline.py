"""The roofline and the bars: everything inside the frame, where its figures say, in words too."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.profile import Ceilings, Copy, Portion, Profile
from bench.nouns.run import Result, Run
from reports.roofline import NARROW, WIDE, Roofline, roofline
from reports.scatter import Frame
from reports.stacks import stacks
from tests.reports.profiles import PROFILES, profile, profiled

AMOUNT = st.floats(1e-6, 1e15)
FRAMES = pytest.mark.parametrize("frame", [WIDE, NARROW], ids=lambda frame: frame.name)


def drawn(run: Run, variant: str, frame: Frame = WIDE) -> Roofline:
    result = run.result(variant)
    assert result
    found = roofline(run, result, frame)
    assert found
    return found


def numbers_in(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


def value_at(place: float, low: float, high: float, at_low: float, at_high: float) -> float:
    """What lies at a place of an axis of logarithms, by two values and where they lie."""
    share = (place - at_low) / (at_high - at_low)
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))


def read_back(picture: Roofline) -> list[tuple[float, float]]:
    """The FLOP/B and FLOP/s of each dot, read off the axes' ticks."""
    units = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

    def amount(text: str) -> float:
        number, _, prefix = text.partition(" ")
        return float(number) * units[prefix]

    def axis(ticks: list[tuple[float, str]], place: float) -> float:
        (first, low), *_, (last, high) = ticks
        return value_at(place, amount(low), amount(high), first, last)

    across = [(tick.at, tick.text) for tick in picture.x_ticks]
    up = [(tick.at, tick.text) for tick in picture.y_ticks]
    return [(axis(across, dot.x), axis(up, dot.y)) for dot in picture.dots]


def counted(name: str, time: float, flops: float, moved: float) -> Portion:
    return Portion(name=name, time=time, calls=1, flops=flops, bytes=moved)


@FRAMES
def test_a_part_lies_where_its_work_says(run: Run, frame: Frame) -> None:
    own = profile(1.0, 1.0, modules=[counted("head", 0.5, 40e9, 2e9)])
    other = profile(1.0, 1.0, modules=[counted("head", 0.25, 10e9, 4e9)])
    picture = drawn(profiled(run, {"dense": own, "bmp25": other}), "bmp25", frame)
    where = dict(zip([dot.is_dense for dot in picture.dots], read_back(picture), strict=True))
    assert where[True] == pytest.approx((20.0, 80e9), rel=0.03)
    assert where[False] == pytest.approx((2.5, 40e9), rel=0.03)
    assert len(picture.links) == 1


@FRAMES
def test_roofs_bend_where_a_copy_feeds_a_product(run: Run, frame: Frame) -> None:
    slope, *products = drawn(profiled(run), "bmp25", frame).roofs
    assert [roof.text for roof in (slope, *products)] == [
        "copy: 9.13 GB/s",
        "bfloat16 matmul: 498 GFLOP/s",
        "float32 matmul: 251 GFLOP/s",
    ]
    bend = numbers_in(slope.path)[2:]
    assert bend == numbers_in(products[0].path)[:2]
    starts = [numbers_in(product.path)[0] for product in products]
    assert starts[1] < starts[0]


@FRAMES
@pytest.mark.parametrize("variant", ["dense", "bmp25", "bmp25+kd+mp"])
def test_every_part_is_named_or_led_to_its_name(run: Run, variant: str, frame: Frame) -> None:
    picture = drawn(profiled(run), variant, frame)
    names = {"attention", "feed-forward", "norms", "head"}
    assert {dot.label.text for dot in picture.dots if dot.label} == names
    for name in names:
        assert sum(name in dot.said for dot in picture.dots) == (1 if variant == "dense" else 2)
        assert name in picture.said


@given(
    parts=st.lists(st.tuples(AMOUNT, AMOUNT, AMOUNT), min_size=1, max_size=5),
    matmuls=st.dictionaries(st.sampled_from(["float32", "bfloat16", "int8"]), AMOUNT),
    copy=AMOUNT,
)
def test_everything_lies_inside_the_frame(
    parts: list[tuple[float, float, float]], matmuls: dict[str, float], copy: float
) -> None:
    ceilings = Ceilings(matmul=matmuls, copies=[Copy(size=1024, rate=copy)], call=0)
    modules = [counted(f"part {n}", *figures) for n, figures in enumerate(parts)]
    result = Result(variant="x", seed=1, status="ok")
    result.profile = profile(1.0, 1.0, modules=modules, ceilings=ceilings)
    run = Run.model_construct(results=[result])
    for frame in (WIDE, NARROW):
        picture = roofline(run, result, frame)
        assert picture
        assert len(picture.dots) == len(parts)
        for dot in picture.dots:
            assert frame.left <= dot.x <= frame.right
            assert frame.top <= dot.y <= frame.bottom
        for tick in picture.x_ticks:
            assert frame.left <= tick.at <= frame.right
        for roof in picture.roofs:
            assert all(0 <= place <= frame.width for place in numbers_in(roof.path))


def test_what_no_module_tells_the_operators_or_the_batch_do(run: Run) -> None:
    without = PROFILES["bmp25"].model_copy(update={"modules": []})
    operators = drawn(profiled(run, {"bmp25": without}), "bmp25")
    assert any(dot.said.startswith("addmm ") for dot in operators.dots)
    assert not any("gelu" in dot.said or "others" in dot.said for dot in operators.dots)
    alone = drawn(profiled(run, {"bmp25": without.model_copy(update={"operators": []})}), "bmp25")
    assert [dot.said for dot in alone.dots] == ["whole batch 138 GFLOP/s at 42.5 FLOP/B"]


def test_there_is_no_picture_of_work_that_is_not_counted(run: Run) -> None:
    shown = profiled(run, {"mp": PROFILES["mp"]})
    result = shown.result("mp")
    assert result
    assert roofline(shown, result, WIDE) is None
    assert roofline(run, run.results[0], WIDE) is None


def test_bars_have_one_scale_and_their_parts_fill_them(run: Run) -> None:
    shown = profiled(run)
    bars = {bar.name.strip("★ "): bar for bar in stacks(shown, shown.results)}
    longest = max(found.time for found in PROFILES.values())
    for name, found in PROFILES.items():
        bar = next(bar for label, bar in bars.items() if label.split(" ")[0] == name)
        assert sum(part.width for part in bar.segments) == pytest.approx(100 * found.time / longest, abs=0.1)
        starts = [part.start for part in bar.segments]
        assert starts == sorted(starts)
        assert starts[0] == 0
    assert [part.kind for part in bars["mp"].segments] == ["not told apart"]
    assert "feed-forward 55 %, 23.7 ms" in bars["dense"].said


@given(st.lists(st.floats(0, 1e3), max_size=6), st.floats(1e-6, 1e3))
def test_bars_of_any_portions_stay_within_the_picture(times: list[float], time: float) -> None:
    kinds = ["embeddings", "attention", "feed-forward", "norms", "head", "other"]
    modules = [Portion(name=kind, time=taken, calls=1) for kind, taken in zip(kinds, times, strict=False)]
    found: Profile = profile(time, 1.0, modules=modules)
    result = Result(variant="x", seed=1, status="ok", profile=found)
    (bar,) = stacks(Run.model_construct(results=[result]), [result])
    assert sum(part.width for part in bar.segments) == pytest.approx(100, abs=0.1)
