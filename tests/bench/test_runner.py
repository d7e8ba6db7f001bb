"""What a variant's costs share with others."""

from __future__ import annotations

from bench.meters.findings import Findings
from bench.nouns.measurement import measured
from bench.runner import add_shared_cost

NAME = "compress_energy"


def energy(joules: float, source: str = "RAPL") -> Findings:
    return Findings(metrics={NAME: measured(NAME, joules, source)})


def test_the_teachers_part_is_added() -> None:
    own = energy(5.0)
    add_shared_cost(own, NAME, energy(2.0))
    assert own.metrics[NAME].value == 7.0
    assert own.notes == []


def test_a_part_that_cannot_be_added_is_said() -> None:
    for shared, reason in (
        (energy(2.0, "NVML"), "another source"),
        (Findings(unavailable={NAME: "too short"}), "too short"),
    ):
        own = energy(5.0)
        add_shared_cost(own, NAME, shared)
        assert own.metrics[NAME].value == 5.0
        assert len(own.notes) == 1
        assert reason in own.notes[0]


def test_a_cost_that_was_not_measured_is_not_made_of_the_teachers() -> None:
    own = Findings(unavailable={NAME: "no meter"})
    add_shared_cost(own, NAME, energy(2.0))
    assert own.metrics == {}
    assert own.unavailable == {NAME: "no meter"}
