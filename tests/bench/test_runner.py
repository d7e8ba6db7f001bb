"""What a variant's costs share with others, and what is said of a speed that disappoints."""

from __future__ import annotations

import pytest

from bench.meters.findings import Findings
from bench.nouns.measurement import measured
from bench.nouns.run import Result
from bench.nouns.verdict import SpeedVerdict, SpeedWord
from bench.workbench import add_shared_cost, explain_speed, take_over
from compressors.variant import parse_variant

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


def test_what_training_cost_and_showed_is_taken_over() -> None:
    own = energy(5.0)
    own.unavailable["pruned_fraction"] = "not counted again"
    trained = energy(20.0)
    trained.metrics["pruned_fraction"] = measured("pruned_fraction", 0.5, "count")
    trained.training, trained.notes = [{"step": 1.0, "loss": 2.0}], ["said while training"]
    take_over(own, trained)
    assert own.metrics[NAME].value == 25.0
    assert own.metrics["pruned_fraction"].value == 0.5
    assert (own.training, own.notes) == (trained.training, trained.notes)


def test_a_rest_too_short_for_the_meter_is_left_out_and_said() -> None:
    own = Findings(unavailable={NAME: "0.01 s is too short"})
    take_over(own, energy(20.0))
    assert own.metrics[NAME].value == 20.0
    assert NAME not in own.unavailable
    assert own.notes == ["compress energy is that of training alone; of the rest: 0.01 s is too short"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("faster", False),
        ("same", True),
        ("slower", True),
        ("inconclusive", True),
        ("not comparable", False),
        (None, False),
    ],
)
def test_why_it_is_not_faster_is_said_once_where_it_is_not(word: SpeedWord | None, said: bool) -> None:
    verdicts = {"speedup": SpeedVerdict(word=word, margin=0.02, reason="seen")} if word else {}
    result = Result(variant="bmp50+int8", seed=0, status="ok", notes=["own"], verdicts=verdicts)
    for _ in range(2):
        explain_speed(result, parse_variant("bmp50+int8"), "cpu", ["avx2", "avx512_vnni"])
        assert result.notes[0] == "own"
        assert ["int8 runs eagerly" in note for note in result.notes[1:]] == [True] * said


def test_what_an_earlier_session_said_is_taken_out_where_it_is_faster_now() -> None:
    slower, faster = (SpeedVerdict(word=word, margin=0.02, reason="seen") for word in ("slower", "faster"))
    result = Result(variant="int8", seed=0, status="ok", verdicts={"speedup": slower})
    for verdict, count in ((slower, 1), (faster, 0)):
        result.verdicts["speedup"] = verdict
        explain_speed(result, parse_variant("int8"), "cpu", [])
        assert len(result.notes) == count
