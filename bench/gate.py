"""What a gate rests on: the metrics it can act on, how much worse they may become, the noise beneath."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.errors import ComparisonError, InputError, did_you_mean
from bench.nouns.comparison import Threshold
from bench.nouns.environment import NoiseFloor
from bench.nouns.measurement import METRICS

Kind = Literal["paired", "timed", "exact", "points"]

KINDS: dict[str, Kind] = {
    "speedup": "paired",
    "speedup_same_precision": "paired",
    "accuracy": "points",
    "throughput": "timed",
    "latency_b1_p50": "timed",
    "latency_b1_p90": "timed",
    "latency_b1_p95": "timed",
    "latency_b1_p99": "timed",
    "latency_b1_p99.9": "timed",
    "latency_p50": "timed",
    "latency_p90": "timed",
    "latency_p95": "timed",
    "latency_p99": "timed",
    "latency_p99.9": "timed",
    "inference_energy_per_sample": "timed",
    "disk_size": "exact",
    "parameters": "exact",
    "encoder_parameters": "exact",
    "flops_per_sample": "exact",
    "peak_memory_allocator": "exact",
}
"""The metrics that can be compared, and what makes their figures differ where nothing has changed.

A `paired` ratio is of one run, so only noise within a run moves it; a `timed` figure is absolute, and moves
with the machine's day; an `exact` one is a count; `points` is a share of the same rows, compared row by row.
What is read once and has no interval is none of them.
"""
MODELLED = ("compress_co2", "inference_co2_per_sample")


@dataclass(frozen=True)
class Floors:
    """What differences a machine shows where there are none, as shares; `source` says whose they are."""

    paired: float
    timed: float
    source: str

    def of(self, metric: str) -> float:
        """The floor under a metric; counts, and rows compared one by one, have none."""
        kind = KINDS[metric]
        return {"paired": self.paired, "timed": self.timed}.get(kind, 0.0)


def floors_of(measured: Iterable[NoiseFloor | None]) -> Floors:
    """The floors for a comparison that rests on all of these: the widest of each kind.

    Raises `ComparisonError` where none is known, as in a document of an older bench.
    """
    found = [floor for floor in measured if floor]
    if not found:
        raise ComparisonError("no noise floor is known, and without one no change can be told; measure again")
    source = "; ".join(dict.fromkeys(floor.source for floor in found))
    return Floors(max(floor.paired for floor in found), max(floor.between for floor in found), source)


def read_thresholds(asked: Sequence[str]) -> list[Threshold]:
    """`speedup:5%`, `accuracy:1pt` and so on. Raises `InputError` for anything else and for repeats."""
    thresholds = [read_threshold(text) for text in asked]
    for number, threshold in enumerate(thresholds):
        if any(earlier.metric == threshold.metric for earlier in thresholds[:number]):
            raise InputError(f"--fail-on {asked[number]}: {threshold.metric} stands twice; keep one")
    return thresholds


def read_threshold(text: str) -> Threshold:
    """One threshold, as it is spelled behind `--fail-on`."""
    metric, colon, amount = (part.strip() for part in text.partition(":"))
    if metric not in KINDS:
        raise InputError(f"--fail-on {text}: {why_not_gated(metric)}")
    points = KINDS[metric] == "points"
    unit, spelled = ("pt", f"{metric}:1pt") if points else ("%", f"{metric}:5%")
    match = re.fullmatch(rf"([0-9]+(?:\.[0-9]+)?)\s*{unit}", amount) if colon else None
    share = float(match[1]) / 100 if match else 1.0
    if share >= 1:
        raise InputError(f"--fail-on {text}: write METRIC:AMOUNT, an amount below 100, such as {spelled}")
    return Threshold(metric=metric, amount=share, points=points)


def why_not_gated(metric: str) -> str:
    """Why no gate can act on this, with those on which one can."""
    known = f"gates act on {', '.join(KINDS)}"
    if metric in MODELLED:
        return f"CO2 is reckoned from energy by a factor, so gate inference_energy_per_sample; {known}"
    if metric in METRICS:
        return f"it has no interval, or follows from the others, so no gate can rest on it; {known}"
    return did_you_mean(metric, list(KINDS))


def refuse_below(thresholds: Iterable[Threshold], floors: Floors) -> None:
    """Raise `InputError` for a threshold that this machine's own noise can exceed."""
    for threshold in thresholds:
        floor = floors.of(threshold.metric)
        if threshold.amount < floor:
            kind = "paired" if KINDS[threshold.metric] == "paired" else "between runs"
            raise InputError(
                f"--fail-on {threshold.metric}:{100 * threshold.amount:g}%: below the noise floor of "
                f"{100 * floor:.3g}% ({kind}; {floors.source}); allow more, or measure a finer floor with "
                "bench calibrate"
            )
