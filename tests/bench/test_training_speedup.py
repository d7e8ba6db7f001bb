"""Training-time ratios: what each variant's training is compared with, and why there may be nothing."""

from __future__ import annotations

import pytest

from bench.nouns.measurement import measured
from bench.nouns.run import Result
from bench.training_speedup import add_training_speedups
from tests.bench.meters.documents import run_of

AS_IT_CAME = "dense was used as it came"


def row(variant: str, step_s: float | str, seed: int = 0) -> Result:
    """A row whose training took so long a step, or has no time for the reason given."""
    if isinstance(step_s, str):
        return Result(variant=variant, seed=seed, status="ok", unavailable={"training_step_time": step_s})
    found = measured("training_step_time", step_s, "perf_counter")
    return Result(variant=variant, seed=seed, status="ok", metrics={"training_step_time": found})


def ratios(*rows: Result) -> dict[str, float | str]:
    """What each row then says, by variant and seed where there are several."""
    run = run_of(*rows)
    add_training_speedups(run)
    add_training_speedups(run)
    several = len({row.seed for row in rows}) > 1
    return {
        f"{row.variant}@{row.seed}" if several else row.variant: row.metrics["training_speedup"].value
        if "training_speedup" in row.metrics
        else row.unavailable.get("training_speedup", "")
        for row in run.results
    }


def test_ft_is_what_the_others_are_compared_with() -> None:
    found = ratios(row("dense", 0.9), row("bmp25", 0.5), row("kd", 0.25), row("ft", 0.5))
    assert found == {
        "dense": "the variants' training is compared with ft's",
        "bmp25": 1.0,
        "kd": 2.0,
        "ft": 1.0,
    }


def test_without_ft_it_is_dense_own_fine_tuning() -> None:
    failed = Result(variant="ft", seed=0, status="failed", reason="memory")
    for others in ([], [failed]):
        found = ratios(row("dense", 1.5), row("kd", 0.5), *others)
        assert (found["dense"], found["kd"]) == (1.0, 3.0)


def test_where_there_is_nothing_to_compare_with_the_remedy_is_said() -> None:
    found = ratios(row("dense", AS_IT_CAME), row("kd", 0.5))
    assert found["dense"] == AS_IT_CAME
    assert "add ft to --variants" in str(found["kd"])
    broken = Result(variant="ft", seed=0, status="failed", reason="memory")
    found = ratios(row("dense", AS_IT_CAME), row("kd", 0.5), broken)
    assert "ft failed or did not run yet" in str(found["kd"])


def test_what_is_not_trained_says_so() -> None:
    found = ratios(row("dense", 1.0), row("mp", "nothing is trained"))
    assert found["mp"] == "nothing is trained"


def test_steps_on_two_machines_are_not_compared() -> None:
    elsewhere = row("bmp50", 0.5).model_copy(update={"machine": "abc"})
    assert ratios(row("ft", 1.0), elsewhere)["bmp50"] == "ft's training was timed on another machine"


def test_each_seed_is_compared_with_its_own() -> None:
    rows = [row("ft", 1.0, 0), row("ft", 3.0, 1), row("kd", 0.5, 0), row("kd", 0.5, 1)]
    assert ratios(*rows) == {"ft@0": 1.0, "ft@1": 1.0, "kd@0": 2.0, "kd@1": 6.0}


def test_a_failed_row_stays_as_it_is() -> None:
    failed = Result(variant="kd", seed=0, status="failed", reason="memory")
    assert ratios(row("dense", 1.0), failed)["kd"] == ""


@pytest.mark.parametrize("step_s", [0.25, 4.0])
def test_the_ratio_has_no_interval_and_says_that_it_is_not_paired(step_s: float) -> None:
    run = run_of(row("dense", 1.0), row("kd", step_s))
    add_training_speedups(run)
    found = run.results[1].metrics["training_speedup"]
    assert found.value == 1.0 / step_s
    assert (found.ci_low, found.ci_high) == (None, None)
    assert "dense" in found.source
    assert "not paired" in found.source
    assert not run.results[1].verdicts
