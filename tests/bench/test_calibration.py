"""Noise floors: what trials say of a machine, how it is kept, and what holds without any."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.calibration import Trial, floor_of, noise_floor, run_trials, store
from bench.errors import InputError
from bench.nouns.environment import Environment
from tests.bench.meters.documents import run_of
from tests.commands import bench


def environment(**changes: object) -> Environment:
    return run_of().environment.model_copy(update=changes)


def trial(ratio: float, time_s: float) -> Trial:
    return Trial(ratio, ratio * 0.99, ratio * 1.01, time_s)


def test_the_floors_are_what_nineteen_of_twenty_trials_stay_below() -> None:
    trials = [trial(1.01 if i % 2 else 1 / 1.01, 0.02 * (1 + i / 1000)) for i in range(57)]
    trials += [trial(1.3, 0.5)] * 3
    found = floor_of(trials[:57], "quick")
    assert found.paired == pytest.approx(0.01)
    assert 0.03 < found.between < 0.057
    assert found.trials == 57
    assert found.measured_at is not None
    assert floor_of(trials, "quick").between > 10


def test_faster_and_slower_count_alike() -> None:
    assert floor_of([trial(1.25, 1.0)] * 3, "quick").paired == pytest.approx(
        floor_of([trial(0.8, 1.0)] * 3, "quick").paired
    )


def test_a_floor_is_found_again_by_the_machine_and_settings_it_belongs_to(tmp_path: Path) -> None:
    floor = floor_of([trial(1.02, 0.02), trial(0.99, 0.021)], "quick")
    here = environment()
    file = store(floor, here, "cpu", tmp_path)
    assert file.parent == tmp_path
    assert noise_floor(here, "cpu", tmp_path) == floor
    for other in (environment(threads=1), environment(machine_key="ff"), environment(variables={"A": "1"})):
        assert noise_floor(other, "cpu", tmp_path).trials == 0
    assert noise_floor(here, "cuda", tmp_path).trials == 0


@pytest.mark.parametrize(
    ("virtualised", "device", "between"),
    [(True, "cpu", 0.25), (False, "cpu", 0.05), (True, "cuda", 0.03), (False, "cuda", 0.03)],
)
def test_without_trials_there_are_starting_values_that_say_so(
    tmp_path: Path, virtualised: bool, device: str, between: float
) -> None:
    floor = noise_floor(environment(virtualised=virtualised), device, tmp_path)
    assert floor.between == between
    assert floor.trials == 0
    assert floor.measured_at is None
    assert "bench calibrate" in floor.source


def test_a_floor_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    file = store(floor_of([trial(1.02, 0.02)] * 2, "quick"), environment(), "cpu", tmp_path)
    file.write_text('{"paired": "none"}')
    with pytest.raises(InputError, match="not a valid NoiseFloor document; paired"):
        noise_floor(environment(), "cpu", tmp_path)


def test_trials_run_each_in_a_process_of_its_own() -> None:
    heard: list[int] = []
    trials = run_trials("cpu", "quick", 2, heard.append)
    assert heard == [1, 2]
    for each in trials:
        assert each.low <= each.ratio <= each.high
        assert abs(math.log(each.ratio)) < 1
        assert 0 < each.time_s < 5


def test_too_few_trials_are_refused_before_any_is_run(tmp_path: Path) -> None:
    done = bench("calibrate", "--trials", "20", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "bench: --trials 20: a 95th percentile needs 60 or more"
    assert list(tmp_path.iterdir()) == []
