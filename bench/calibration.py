"""This machine's noise floors: how far A/A trials of it differ, kept for every later run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.errors import InputError, MeasuringError
from bench.folder import read_document, write_atomically
from bench.nouns.environment import Environment, NoiseFloor
from bench.nouns.measurement import measured
from bench.nouns.run import Budget
from bench.protocol import PROTOCOL_VERSION, PROTOCOLS
from bench.workers import call_apart, start_server

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


def noise_floor(environment: Environment, device: str, budget: Budget, root: Path = NOISE) -> NoiseFloor:
    """The floor that `bench calibrate` stored for this machine, its settings and the budget.

    Else that of a shorter budget, which is wider and so errs on the safe side, and never of a longer one;
    else starting values. The source says which. Floors of another protocol or torch do not count.
    """
    outdated = []
    for nearest in no_longer_than(budget):
        file = place(environment, device, nearest, root)
        if not file.exists():
            continue
        floor = valid_floor(file, environment, nearest)
        if floor is None:
            outdated.append(file)
        elif nearest == budget:
            return floor
        else:
            source = f"{floor.source}, since there are none of the {budget} budget"
            return floor.model_copy(update={"source": source})
    why = "not measured here; see bench calibrate"
    if outdated:
        why = f"the floor in {outdated[0]} is of another version; run bench calibrate again"
    shared = environment.virtualised and device == "cpu"
    return NoiseFloor(
        paired=STARTING_PAIRED[device],
        between=STARTING_BETWEEN_SHARED if shared else STARTING_BETWEEN_QUIET[device],
        source=f"starting values; {why}",
    )


def speed_margin(floor: NoiseFloor | None) -> float:
    """How far from 1 a ratio of times counts as none: the usual margin, or a measured floor if wider."""
    from bench.statistics import SPEED_MARGIN

    return max(SPEED_MARGIN, floor.paired if floor and floor.trials else 0.0)


def no_longer_than(budget: Budget) -> list[Budget]:
    """The budget and all shorter ones, the longest first."""
    shortest_first = list(PROTOCOLS)
    return shortest_first[shortest_first.index(budget) :: -1]


def valid_floor(file: Path, environment: Environment, budget: Budget) -> NoiseFloor | None:
    """The floor in the file, None where it is no floor of this protocol, torch and budget."""
    try:
        floor = read_document(NoiseFloor, file)
    except InputError:
        return None
    wanted = (PROTOCOL_VERSION, environment.versions["torch"], budget)
    return floor if (floor.protocol_version, floor.torch, floor.budget) == wanted else None


def store(floor: NoiseFloor, environment: Environment, device: str, root: Path = NOISE) -> Path:
    """Keep the floor for later runs; returns where. Raises `InputError` where that cannot be written."""
    assert floor.budget is not None, "starting values are not kept"
    file = place(environment, device, floor.budget, root)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, floor.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from None
    return file


def place(environment: Environment, device: str, budget: str, root: Path) -> Path:
    """The floor's file: it belongs to hardware, threads, settings, and how long is measured."""
    return root / f"{environment.measuring_key}-{device}-{budget}.json"


def run_trials(device: str, budget: Budget, count: int, listen: Callable[[int], None]) -> list[Trial]:
    """So many A/A trials, each in a fresh process; `listen` hears how many are done.

    Raises `MeasuringError` where a process dies, `InputError` where torch cannot use the device.
    """
    context = start_server()
    trials = []
    for seed in range(count):
        try:
            trials.append(call_apart(context, trial, device, budget, seed))
        except MeasuringError as error:
            raise MeasuringError(f"trial {seed + 1}: {error}") from None
        listen(seed + 1)
    return trials


def trial(device: str, budget: Budget, seed: int) -> Trial:
    """A trial, in a worker: torch is imported there already."""
    from bench.steps.noise import run_trial

    return run_trial(device, budget, seed)


def floor_of(trials: Sequence[Trial], environment: Environment, budget: Budget) -> NoiseFloor:
    """The 95th percentiles of how far the ratios lie from 1, and the times of any two trials apart."""
    ratios = [abs(math.log(trial.ratio)) for trial in trials]
    times = [abs(math.log(a.time_s / b.time_s)) for a, b in itertools.combinations(trials, 2)]
    return NoiseFloor(
        paired=math.expm1(float(np.quantile(ratios, QUANTILE))),
        between=math.expm1(float(np.quantile(times, QUANTILE))),
        trials=len(trials),
        false_alarms=sum(map(is_false_alarm, trials)),
        budget=budget,
        protocol_version=PROTOCOL_VERSION,
        torch=environment.versions["torch"],
        measured_at=datetime.now(UTC),
        source=f"A/A trials of the {budget} budget",
    )


def is_false_alarm(trial: Trial) -> bool:
    """Whether the equal models of a trial would be called faster or slower, by the usual margin."""
    from bench.statistics import SPEED_MARGIN, speed_verdict

    ratio = measured("speedup", trial.ratio, "paired rounds", (trial.low, trial.high))
    return speed_verdict(ratio, SPEED_MARGIN).word in ("faster", "slower")
