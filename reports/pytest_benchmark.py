"""A run as pytest-benchmark saves its own, so that `pytest-benchmark compare FILE FILE` reads it.

A benchmark is one variant at one seed in one scenario that was timed in rounds. Its time is seconds per row:
of each round that counts, the variant's own block over the rows in it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any

from bench.errors import InputError
from bench.nouns.run import Result, Rounds, Run, Scenario
from reports.parts import plain

UNIT = "seconds per row"


def document(run: Run) -> str:
    """`run` in the format of pytest-benchmark's `--benchmark-json`, grouped by scenario.

    Raises `InputError` for a baseline, which does not keep its rounds.
    """
    import pytest_benchmark

    scenarios = [scenario for result in run.results for scenario in result.scenarios.values()]
    if any(scenario.rounds and not scenario.raw for scenario in scenarios):
        raise InputError(
            f"--export-pytest-benchmark: run {run.id} has no rounds: it is a baseline; "
            "export from the run folder"
        )
    commit, _, state = (run.environment.commit or "unknown").partition("+")
    saved = {
        "machine_info": _machine(run),
        "commit_info": {
            "id": commit,
            "time": None,
            "dirty": state == "dirty",
            "project": None,
            "branch": None,
        },
        "benchmarks": list(_benchmarks(run)),
        "datetime": run.started_at.isoformat(),
        "version": pytest_benchmark.__version__,
    }
    return json.dumps(saved, indent=4, ensure_ascii=False, allow_nan=False)


def _machine(run: Run) -> dict[str, Any]:
    """The machine in pytest-benchmark's terms; a host's name is not kept, its key stands for it."""
    environment = run.environment
    return {
        "node": environment.machine_key,
        "processor": environment.cpu_model,
        "system": environment.platform,
        "python_version": environment.versions.get("python"),
        "cpu": {
            "brand_raw": environment.cpu_model,
            "count": environment.cpu_cores,
            "flags": environment.cpu_features,
        },
        "devices": [device.name for device in environment.devices],
        "threads": environment.threads,
        "versions": environment.versions,
    }


def _benchmarks(run: Run) -> Iterator[dict[str, Any]]:
    for result in run.results:
        for name, scenario in result.scenarios.items():
            if scenario.raw and (times_s := _seconds_per_row(scenario.raw)):
                yield _benchmark(
                    run, result, name, scenario, times_s, statistics.median_low(scenario.raw.rows)
                )


def _benchmark(
    run: Run, result: Result, scenario_name: str, scenario: Scenario, times_s: list[float], rows: int
) -> dict[str, Any]:
    """One entry. Named by variant and seed alike in every run, so that those of several files are paired."""
    param = plain(f"{result.variant}-seed{result.seed}")
    name = f"{plain(scenario_name)}[{param}]"
    return {
        "group": plain(scenario_name),
        "name": name,
        "fullname": f"{plain(run.task.name)}::{name}",
        "params": {"variant": result.variant, "seed": result.seed, "scenario": scenario_name},
        "param": param,
        "extra_info": {
            "unit": UNIT,
            "run": run.id,
            "budget": run.config.budget,
            "batch_size": scenario.batch_size,
            "padding": scenario.padding,
            "converged": scenario.converged,
        },
        "options": {},
        "stats": {**_statistics(times_s), "data": times_s, "iterations": rows},
    }


def _seconds_per_row(raw: Rounds) -> list[float]:
    """Of each round that counts; the variant is the last contender, after what it is measured against."""
    *_, own = raw.times.values()
    rounds = enumerate(zip(own.values, raw.rows, strict=True))
    return [
        time_s / rows
        for number, (time_s, rows) in rounds
        if time_s is not None and number not in raw.discarded
    ]


def _statistics(times_s: list[float]) -> dict[str, Any]:
    """What pytest-benchmark says of these times, by its own code."""
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for time_s in times_s:
        stats.update(time_s)
    described: dict[str, Any] = stats.as_dict()
    return described
