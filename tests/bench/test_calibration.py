"""Noise floors: what trials say of a machine, how it is kept, and what holds without any."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

from bench import calibration
from bench.calibration import Trial, floor_of, noise_floor, place, run_trials, store
from bench.cli import app
from bench.errors import InputError, MeasuringError
from bench.meters import machine
from bench.nouns.environment import Caution, Environment, NoiseFloor
from bench.nouns.run import Budget
from bench.steps.common import prepare_process
from bench.steps.noise import run_trial
from tests.bench.meters.documents import run_of
from tests.commands import bench, command
from tests.commands import environment as user_environment


def environment(**changes: object) -> Environment:
    return run_of().environment.model_copy(update={"versions": {"torch": "2.11.0"}} | changes)


def trial(ratio: float, time_s: float) -> Trial:
    return Trial(ratio, ratio * 0.99, ratio * 1.01, time_s)


def a_floor(budget: Budget = "quick") -> NoiseFloor:
    return floor_of([trial(1.02, 0.02), trial(0.99, 0.021)], environment(), budget)


def test_the_floors_are_what_nineteen_of_twenty_trials_stay_below() -> None:
    trials = [trial(1.01 if i % 2 else 1 / 1.01, 0.02 * (1 + i / 1000)) for i in range(57)]
    trials += [trial(1.3, 0.5)] * 3
    found = floor_of(trials[:57], environment(), "quick")
    assert found.paired == pytest.approx(0.01)
    assert 0.03 < found.between < 0.057
    assert found.trials == 57
    assert found.measured_at is not None
    assert floor_of(trials, environment(), "quick").between > 10


def test_faster_and_slower_count_alike() -> None:
    assert floor_of([trial(1.25, 1.0)] * 3, environment(), "quick").paired == pytest.approx(
        floor_of([trial(0.8, 1.0)] * 3, environment(), "quick").paired
    )


def test_a_false_alarm_is_a_trial_whose_whole_interval_lies_beyond_the_margin() -> None:
    faster, slower = Trial(1.04, 1.021, 1.06, 0.02), Trial(0.96, 0.94, 0.979, 0.02)
    beyond_in_part, unsure = Trial(1.04, 1.019, 1.06, 0.02), Trial(1.0, 0.5, 2.0, 0.02)
    found = floor_of([faster, slower, beyond_in_part, unsure, trial(1.0, 0.02)], environment(), "quick")
    assert (found.false_alarms, found.trials) == (2, 5)


def test_a_floor_is_found_again_by_the_machine_and_settings_it_belongs_to(tmp_path: Path) -> None:
    floor, here = a_floor(), environment()
    file = store(floor, here, "cpu", tmp_path)
    assert file.parent == tmp_path
    assert noise_floor(here, "cpu", "quick", tmp_path) == floor
    for other in (environment(threads=1), environment(machine_key="ff"), environment(variables={"A": "1"})):
        assert noise_floor(other, "cpu", "quick", tmp_path).trials == 0
    assert noise_floor(here, "cuda", "quick", tmp_path).trials == 0


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        (["quick"], "quick", "quick"),
        (["quick"], "standard", "quick"),
        (["quick"], "thorough", "quick"),
        (["standard"], "quick", None),
        (["standard"], "standard", "standard"),
        (["standard"], "thorough", "standard"),
        (["thorough"], "quick", None),
        (["thorough"], "standard", None),
        (["quick", "thorough"], "standard", "quick"),
        (["quick", "standard"], "thorough", "standard"),
        (["quick", "standard", "thorough"], "quick", "quick"),
        (["quick", "standard", "thorough"], "thorough", "thorough"),
    ],
)
def test_a_shorter_budgets_floor_stands_in_and_says_so_but_never_a_longer_ones(
    tmp_path: Path, stored: list[Budget], asked: Budget, found: Budget | None
) -> None:
    for budget in stored:
        store(a_floor(budget), environment(), "cpu", tmp_path)
    floor = noise_floor(environment(), "cpu", asked, tmp_path)
    assert floor.budget == found
    stands_in = found not in (asked, None)
    assert (f"since there are none of the {asked} budget" in floor.source) == stands_in


@pytest.mark.parametrize(
    ("virtualised", "device", "between"),
    [(True, "cpu", 0.25), (False, "cpu", 0.05), (True, "cuda", 0.03), (False, "cuda", 0.03)],
)
def test_without_trials_there_are_starting_values_that_say_so(
    tmp_path: Path, virtualised: bool, device: str, between: float
) -> None:
    floor = noise_floor(environment(virtualised=virtualised), device, "quick", tmp_path)
    assert floor.between == between
    assert floor.trials == 0
    assert floor.measured_at is None
    assert "bench calibrate" in floor.source


@pytest.mark.parametrize(
    "text",
    [
        a_floor().model_copy(update={"protocol_version": 1}).model_dump_json(),
        a_floor().model_copy(update={"torch": "2.10.0"}).model_dump_json(),
        a_floor("thorough").model_dump_json(),
        '{"paired": 0.02, "between": 0.1, "source": "another bench", "colour": "red"}',
        '{"paired": "none"}',
        "",
    ],
    ids=["protocol", "torch", "budget", "unknown key", "no number", "empty"],
)
def test_a_floor_of_another_version_counts_as_absent_and_is_named(tmp_path: Path, text: str) -> None:
    file = place(environment(), "cpu", "standard", tmp_path)
    file.write_text(text)
    floor = noise_floor(environment(), "cpu", "standard", tmp_path)
    assert floor.trials == 0
    assert floor.source == (
        f"starting values; the floor in {file} is of another version; run bench calibrate again"
    )
    store(a_floor("quick"), environment(), "cpu", tmp_path)
    assert noise_floor(environment(), "cpu", "standard", tmp_path).budget == "quick"


def test_a_floor_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"noise/.*-cpu-quick\.json: cannot be written"):
        store(a_floor(), environment(), "cpu", tmp_path / "noise")


def test_trials_run_each_in_a_process_of_its_own() -> None:
    heard: list[int] = []
    trials = run_trials("cpu", "quick", 2, heard.append)
    assert heard == [1, 2]
    for each in trials:
        assert each.low <= each.ratio <= each.high
        assert abs(math.log(each.ratio)) < 1
        assert 0 < each.time_s < 5


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_trial_whose_process_dies_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "trial", die)
    with pytest.raises(MeasuringError, match=r"^trial 1: the worker was killed \(signal 9\)"):
        run_trials("cpu", "quick", 2, lambda done: None)


def test_cuda_that_torch_cannot_use_is_refused_for_trials_as_for_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for refused in (lambda: prepare_process("cuda", 0), lambda: run_trial("cuda", "quick", 0)):
        with pytest.raises(InputError, match="--device cuda: torch cannot use this machine's GPU"):
            refused()


def test_trials_compute_in_float32_as_steps_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
    run_trial("cpu", "quick", 0)
    assert torch.backends.fp32_precision == "ieee"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("flags", "budget"), [([], "quick"), (["--standard"], "standard"), (["--thorough"], "thorough")]
)
def test_the_command_says_what_disturbs_and_keeps_the_floor_of_the_budget_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    budget: str,
) -> None:
    asked = []

    def run_no_trials(device: str, budget: Budget, count: int, listen: object) -> list[Trial]:
        assert "load: others are busy; stop them" in capsys.readouterr().err
        asked.append((device, budget, count))
        return [trial(1.01, 0.02)] * count

    busy = [Caution(code="load", text="others are busy", remedy="stop them")]
    monkeypatch.setattr(machine, "start_cautions", lambda environment, device: busy)
    monkeypatch.setattr(calibration, "run_trials", run_no_trials)
    monkeypatch.chdir(tmp_path)
    app(["calibrate", "--device", "cpu", "--trials", "61", *flags], standalone_mode=False)
    assert asked == [("cpu", budget, 61)]
    assert "0 of 61" in capsys.readouterr().out
    (file,) = tmp_path.glob(".bench/noise/*.json")
    assert file.name.endswith(f"-cpu-{budget}.json")
    assert NoiseFloor.model_validate_json(file.read_text()).budget == budget


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "20"], "--trials 20: a 95th percentile needs 60 or more"),
        (["--quick", "--thorough"], "--quick and --thorough: choose one"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_trial(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = bench("calibrate", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == f"bench: {message}"
    assert list(tmp_path.iterdir()) == []


def children(process: psutil.Process, recursive: bool = False) -> list[psutil.Process]:
    """Those of a process, which may end while it is asked."""
    try:
        return process.children(recursive)
    except psutil.NoSuchProcess:
        return []


def test_an_interrupt_keeps_no_floor_and_leaves_no_workers(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("calibrate", "--device", "cpu"),
        cwd=tmp_path,
        env=user_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    command_process = psutil.Process(process.pid)
    deadline = time.monotonic() + 120
    try:
        while not any(children(server) for server in children(command_process)):
            assert time.monotonic() < deadline, "no trial began"
            time.sleep(0.1)
        workers = children(command_process, recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        shown, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130
    assert shown == ""
    assert list(tmp_path.iterdir()) == []
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
