"""Thresholds: how they are spelled, which metrics take them, and that none lies below the noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import ComparisonError, InputError
from bench.gate import KINDS, floors_of, read_thresholds, refuse_below
from bench.nouns.environment import NoiseFloor
from bench.nouns.measurement import METRICS


def test_every_metric_that_can_be_gated_is_in_the_catalogue() -> None:
    assert KINDS.keys() <= METRICS.keys()


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 9999))
def test_a_threshold_is_read_as_it_is_written(metric: str, hundredths: int) -> None:
    points = metric == "accuracy"
    (threshold,) = read_thresholds([f"{metric}:{hundredths / 100}{'pt' if points else '%'}"])
    assert threshold.metric == metric
    assert threshold.amount == pytest.approx(hundredths / 10_000)
    assert threshold.points == points


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["speedup"], "write METRIC:AMOUNT"),
        (["speedup:5"], "such as speedup:5%"),
        (["speedup:5pt"], "such as speedup:5%"),
        (["speedup:-5%"], "write METRIC:AMOUNT"),
        (["speedup:100%"], "below 100"),
        (["speedup:5%s"], "such as speedup:5%"),
        (["accuracy:1%"], "such as accuracy:1pt"),
        (["sppedup:5%"], "did you mean 'speedup'"),
        (["inference_co2_per_sample:5%"], "gate inference_energy_per_sample"),
        (["peak_memory_host:5%"], "it has no interval"),
        (["speedup:5%", "speedup:6%"], "stands twice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_no_threshold_is_refused_with_the_way_to_write_one(asked: list[str], said: str) -> None:
    with pytest.raises(InputError) as refused:
        read_thresholds(asked)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"--fail-on {asked[-1]}: ")


def floor(paired: float, between: float, source: str) -> NoiseFloor:
    return NoiseFloor(paired=paired, between=between, source=source)


def test_the_widest_floor_of_both_sides_holds() -> None:
    floors = floors_of([floor(0.02, 0.3, "calm"), None, floor(0.04, 0.1, "noisy")])
    assert (floors.of("speedup"), floors.of("throughput"), floors.of("disk_size")) == (0.04, 0.3, 0.0)
    assert floors.source == "calm; noisy"


def test_without_any_floor_nothing_is_judged() -> None:
    with pytest.raises(ComparisonError, match="no noise floor is known"):
        floors_of([None, None])


def test_a_threshold_below_the_floor_that_applies_is_refused_and_the_floor_named() -> None:
    floors = floors_of([floor(0.03, 0.25, "60 trials")])
    refuse_below(read_thresholds(["speedup:3%", "accuracy:0.1pt", "disk_size:0%"]), floors)
    for asked, named in (("speedup:2.9%", "3% (paired"), ("latency_p50:24%", "25% (between runs")):
        with pytest.raises(InputError) as refused:
            refuse_below(read_thresholds([asked]), floors)
        assert named in str(refused.value)
        assert "60 trials" in str(refused.value)
        assert "bench calibrate" in str(refused.value)
