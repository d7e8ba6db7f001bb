"""The small pictures: all of a variant's rounds, layers and losses are there, inside the frame."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.measurement import measured
from bench.nouns.run import LayerShape, Result, Run
from reports import pictures
from reports.pictures import HEIGHT, MOST_POINTS, WIDTH

VALUES = st.lists(st.floats(0.01, 100), min_size=1, max_size=500)


def numbers_in(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def timed(samples: list[float]) -> Result:
    """A result with one scenario whose rounds gave these ratios."""
    middle = sorted(samples)[len(samples) // 2]
    speedup = measured("speedup", middle, "paired rounds", (min(samples), max(samples)), tuple(samples))
    return Result.model_validate(
        {
            "variant": "bmp25",
            "seed": 1,
            "status": "ok",
            "scenarios": {
                "batch 32": {"batch_size": 32, "padding": "none", "metrics": {"speedup": speedup}},
                "tokenising": {"batch_size": 32, "padding": "none", "metrics": {}},
            },
            "training": [{"step": float(n), "loss": value} for n, value in enumerate(samples)],
        }
    )


@given(VALUES)
def test_rounds_and_losses_are_drawn_inside_the_frame(samples: list[float]) -> None:
    result = timed(samples)
    (rounds,) = pictures.rounds(result)
    training = pictures.training(result)
    assert training
    for curve in (rounds, training):
        drawn = numbers_in(curve.path)
        assert curve.count == len(samples)
        assert len(drawn) == len(samples[:: curve.every]) <= MOST_POINTS
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn)
        assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    highest = min(y for _, y in numbers_in(rounds.path))
    assert rounds.every > 1 or drawn[samples.index(max(samples))][1] == highest


def test_the_line_of_no_gain_is_drawn_where_rounds_lie_on_both_sides() -> None:
    (around,), (above,) = pictures.rounds(timed([0.8, 1.2])), pictures.rounds(timed([1.1, 1.2]))
    assert around.parity is not None
    assert above.parity is None


def test_what_was_not_trained_has_no_curve(run: Run) -> None:
    assert all(pictures.training(result) is None for result in run.results)


def test_layers_are_set_against_the_most_in_dense(run: Run) -> None:
    whole, left = LayerShape(heads=12, ffn_width=1536), [LayerShape(heads=3, ffn_width=768)]
    results = [
        result.model_copy(update={"layers": [whole, whole] if result.variant == "dense" else left})
        for result in run.results
    ]
    full = run.model_copy(update={"results": results})
    heads, widths = pictures.layers(full, results[0])
    assert (heads.said, widths.said) == ("3 of 12", "768 of 1,536")
    assert [bar.height for bar in (*heads.bars, *widths.bars)] == [HEIGHT / 4, HEIGHT / 2]
    assert all(bar.top + bar.height == HEIGHT for bar in (*heads.bars, *widths.bars))


def test_a_layer_that_lost_everything_is_still_there(run: Run) -> None:
    bare = run.results[0].model_copy(update={"layers": [LayerShape(heads=0, ffn_width=0)]})
    heads, widths = pictures.layers(run.model_copy(update={"results": [bare]}), bare)
    assert [bar.height for bar in (*heads.bars, *widths.bars)] == [0, 0]
