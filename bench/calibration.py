"""This machine's noise floors: how far A/A trials of it differ, kept for every later run."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.environment import worker_environment
from bench.errors import InputError
from bench.folder import read_document, write_atomically
from bench.nouns.environment import Environment, NoiseFloor
from bench.nouns.run import Budget

NOISE = Path(".bench/noise")
STARTING_PAIRED = {"cuda": 0.03, "cpu": 0.05}
STARTING_BETWEEN_QUIET = {"cuda": 0.03, "cpu": 0.05}
STARTING_BETWEEN_SHARED = 0.25
LEAST_TRIALS = 60
QUANTILE = 0.95


class Trial(NamedTuple):
    """The ratio of two equal models with its interval, and the time of one call of the first, in s."""

    ratio: float
    low: float
    high: float
    time_s: float


def noise_floor(environment: Environment, device: str, root: Path = NOISE) -> NoiseFloor:
    """The floor that `bench calibrate` stored for this machine and its settings, else starting values."""
    file = place(environment, device, root)
    if file.exists():
        return read_document(NoiseFloor, file)
    shared = environment.virtualised and device == "cpu"
    return NoiseFloor(
        paired=STARTING_PAIRED[device],
        between=STARTING_BETWEEN_SHARED if shared else STARTING_BETWEEN_QUIET[device],
        source="starting values, not measured here; see bench calibrate",
    )


def store(floor: NoiseFloor, environment: Environment, device: str, root: Path = NOISE) -> Path:
    """Keep the floor for later runs; returns where. Raises `InputError` where that cannot be written."""
    file = place(environment, device, root)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, floor.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from None
    return file


def place(environment: Environment, device: str, root: Path) -> Path:
    """The floor's file: it belongs to the hardware, the threads and the settings that timings depend on."""
    return root / f"{environment.measuring_key}-{device}.json"


def run_trials(device: str, budget: Budget, count: int, listen: Callable[[int], None]) -> list[Trial]:
    """So many A/A trials, each in a fresh process; `listen` hears how many are done."""
    os.environ.update(worker_environment())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.preload"])
    trials = []
    with ProcessPoolExecutor(max_workers=1, mp_context=context, max_tasks_per_child=1) as pool:
        for seed in range(count):
            trials.append(pool.submit(trial, device, budget, seed).result())
            listen(seed + 1)
    return trials


def trial(device: str, budget: Budget, seed: int) -> Trial:
    """One A/A trial, where torch is already imported."""
    from bench.steps.noise import run_trial

    return run_trial(device, budget, seed)


def floor_of(trials: Sequence[Trial], budget: Budget) -> NoiseFloor:
    """The 95th percentiles of how far the ratios lie from 1, and the times of any two trials apart."""
    ratios = [abs(math.log(trial.ratio)) for trial in trials]
    times = [abs(math.log(a.time_s / b.time_s)) for a, b in itertools.combinations(trials, 2)]
    return NoiseFloor(
        paired=math.expm1(float(np.quantile(ratios, QUANTILE))),
        between=math.expm1(float(np.quantile(times, QUANTILE))),
        trials=len(trials),
        measured_at=datetime.now(UTC),
        source=f"A/A trials of a small BERT, {budget} budget",
    )
