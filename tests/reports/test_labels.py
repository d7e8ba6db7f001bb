"""Labels: none hides another or a point, none leaves the plot, and none is put where there is no room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reports.labels import GLYPH, LED_FROM, LINE, REACH, Box, Label, Spot, placed

PLOT = Box(300, 200, 600, 400)


def box(label: Label) -> Box:
    width = GLYPH * len(label.text) + 4
    shift = {"start": width / 2, "middle": 0.0, "end": -width / 2}[label.anchor]
    return Box(label.x + shift, label.y, width, LINE)


spots = st.builds(
    Spot, st.text("abmp25+kd", min_size=1, max_size=26), st.integers(0, 600), st.integers(0, 400)
)


@given(st.lists(spots, max_size=12))
def test_labels_hide_nothing(some: list[Spot]) -> None:
    labels = placed(some, [], PLOT)
    assert len(labels) == len(some)
    boxes = [box(label) for label in labels if label]
    assert all(PLOT.holds(one) for one in boxes)
    for number, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[number + 1 :])
        assert not any(one.overlaps(Box(spot.x, spot.y, 2 * REACH, 2 * REACH)) for spot in some)


@given(spots)
def test_one_alone_is_beside_its_point_unless_it_is_too_long(spot: Spot) -> None:
    (label,) = placed([spot], [], PLOT)
    assert label
    assert label.text == spot.text
    assert not label.led
    assert max(abs(label.x - spot.x), abs(label.y - spot.y)) < LED_FROM


def test_a_label_goes_where_it_crosses_no_line() -> None:
    spot = Spot("bmp25", 300, 200)
    across = Box(350, 200, 100, 1)
    (free,), (crossed,) = placed([spot], [], PLOT), placed([spot], [across], PLOT)
    assert free
    assert crossed
    assert box(free).overlaps(across)
    assert not box(crossed).overlaps(across)


def test_without_room_there_is_no_label() -> None:
    assert placed([Spot("bmp25", 20, 10)], [], Box(20, 10, 40, 20)) == [None]
