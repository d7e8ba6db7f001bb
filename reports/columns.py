"""The columns of the tables over variants: how each is headed, and what it shows of a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.nouns.measurement import METRICS, SPEEDUPS, Better, Measurement
from bench.nouns.run import DENSE, Result
from bench.nouns.verdict import AccuracyVerdict, SpeedVerdict
from reports import numbers
from reports.numbers import Ladder
from reports.parts import ABSENT, Header
from reports.sentence import interval_of, points, verdict_of

ESTIMATED = "~"
UNCONVERGED = "*"
END_TO_END = "end to end"
FASTER, FASTER_SAME_PRECISION = "Faster?", "Faster at same precision?"


@dataclass(frozen=True)
class Shown:
    """How one metric is headed and written; see `Header`. `paired` ones can fail to converge."""

    title: str
    ladder: Ladder
    interval: bool = False
    paired: bool = False
    detail: bool = False
    opens: bool = False


@dataclass(frozen=True)
class Column:
    """A table's column: its head, and what it shows of a result."""

    header: Header
    cell: Callable[[Result], str]


SHOWN = {
    "accuracy": Shown("Accuracy, %", numbers.HUNDREDTHS, interval=True),
    "accuracy_unseen": Shown("Unseen rows, %", numbers.HUNDREDTHS, interval=True),
    "macro_f1": Shown("Macro-F1, %", numbers.HUNDREDTHS, interval=True),
    "calibration_error": Shown("Calibration error", numbers.PERCENT, detail=True),
    "truncated_share": Shown("Rows cut", numbers.PERCENT, detail=True),
    "speedup": Shown("Speedup over dense", numbers.PLAIN, interval=True, paired=True, opens=True),
    "speedup_same_precision": Shown("At same precision", numbers.PLAIN, interval=True, paired=True),
    "predicted_speedup": Shown("Predicted speedup", numbers.PLAIN, detail=True),
    "training_speedup": Shown("Training speedup", numbers.PLAIN),
    "training_step_time": Shown("Training step", numbers.SECONDS, detail=True),
    "throughput": Shown("Samples per second", numbers.PLAIN, paired=True),
    "tokens_per_second": Shown("Tokens per second", numbers.COUNT, paired=True),
    "padding_share": Shown("Padding", numbers.PERCENT),
    "launch_overhead": Shown("Launch overhead, at least", numbers.PERCENT),
    "latency_b1_p50": Shown("One row p50", numbers.SECONDS),
    "latency_b1_p90": Shown("One row p90", numbers.SECONDS, detail=True),
    "latency_b1_p95": Shown("One row p95", numbers.SECONDS),
    "latency_b1_p99": Shown("One row p99", numbers.SECONDS, detail=True),
    "latency_b1_p99.9": Shown("One row p99.9", numbers.SECONDS, detail=True),
    "latency_p50": Shown("Batch p50", numbers.SECONDS, opens=True),
    "latency_p90": Shown("Batch p90", numbers.SECONDS, detail=True),
    "latency_p95": Shown("Batch p95", numbers.SECONDS),
    "latency_p99": Shown("Batch p99", numbers.SECONDS, detail=True),
    "latency_p99.9": Shown("Batch p99.9", numbers.SECONDS, detail=True),
    "load_time": Shown("Load", numbers.SECONDS, detail=True),
    "first_call_time": Shown("First batch", numbers.SECONDS, detail=True),
    "compile_time": Shown("Compiling", numbers.SECONDS, detail=True),
    "peak_memory_host": Shown("Host peak", numbers.BYTES),
    "peak_memory_allocator": Shown("Allocator peak", numbers.BYTES),
    "peak_memory_reserved": Shown("Reserved peak", numbers.BYTES, detail=True),
    "peak_memory_device": Shown("Device peak", numbers.BYTES),
    "disk_size": Shown("Weights on disk", numbers.BYTES),
    "parameters": Shown("Parameters", numbers.COUNT),
    "encoder_parameters": Shown("Of these encoder", numbers.COUNT),
    "pruned_fraction": Shown("Pruned fraction", numbers.PERCENT),
    "encoder_reduction": Shown("Encoder reduction", numbers.PERCENT),
    "flops_per_sample": Shown("Work per row", numbers.FLOP),
    "compress_wall_time": Shown("Compress time", numbers.SECONDS),
    "inference_wall_time": Shown("Test rows time", numbers.SECONDS),
    "compress_energy": Shown("Compress energy", numbers.JOULES),
    "compress_energy_gross": Shown("Compress energy gross", numbers.JOULES, detail=True),
    "inference_energy_per_sample": Shown("Energy per row", numbers.JOULES, interval=True),
    "inference_energy_per_sample_gross": Shown(
        "Energy per row gross", numbers.JOULES, interval=True, detail=True
    ),
    "break_even": Shown("Break-even, texts", numbers.COUNT, interval=True),
    "idle_power": Shown("Idle power", numbers.WATTS, interval=True, detail=True),
    "compress_co2": Shown("Compress CO2", numbers.GRAMS),
    "inference_co2_per_sample": Shown("CO2 per row", numbers.GRAMS),
}


def written(measurement: Measurement, shown: Shown) -> str:
    """The measurement as its column shows it, marked where it is estimated."""
    interval = interval_of(measurement) if shown.interval else None
    mark = ESTIMATED if measurement.estimated else ""
    return mark + numbers.quantity(measurement.value, shown.ladder, interval)


def metric_column(name: str, unit: str, better: Better, scenario: str) -> Column:
    """The column of a metric, also of one that `SHOWN` has no title for.

    Paired metrics are those of `scenario`, and marked where it did not converge.
    """
    spoken = name.replace("_", " ").capitalize()
    shown = SHOWN.get(name) or Shown(spoken if unit == "1" else f"{spoken}, {unit}", numbers.PLAIN)

    def cell(result: Result) -> str:
        measurement = result.metrics.get(name)
        if measurement is None:
            return ABSENT
        late = UNCONVERGED if shown.paired and _unconverged(result, name, scenario) else ""
        return written(measurement, shown) + late

    arrow = "↑" if better == "higher" else "↓"
    header = Header(f"{shown.title} {arrow}", detail=shown.detail, opens=shown.opens)
    return Column(header, cell)


def _unconverged(result: Result, name: str, scenario: str) -> bool:
    """Whether the scenario a paired metric came from did not converge.

    The speedup of dense over itself is a definition, without an interval: there is nothing to converge.
    """
    if result.variant == DENSE and name in SPEEDUPS and interval_of(result.metrics[name]) is None:
        return False
    # The headline of a row whose batch was halved has another name; it is the first in any row.
    found = result.scenarios.get(scenario) or next(iter(result.scenarios.values()), None)
    return found is not None and found.converged is False


def speed_column(title: str, metric: str, verdicts: Callable[[Result], dict[str, SpeedVerdict]]) -> Column:
    """The word on `metric`: faster, same, slower, …"""

    def cell(result: Result) -> str:
        verdict = verdicts(result).get(metric)
        return verdict.word if verdict else ABSENT

    return Column(Header(title, numeric=False), cell)


def _end_to_end(result: Result) -> str:
    scenario = result.scenarios.get(END_TO_END)
    if result.variant == DENSE or scenario is None or "speedup" not in scenario.metrics:
        return ABSENT
    late = UNCONVERGED if scenario.converged is False else ""
    return written(scenario.metrics["speedup"], SHOWN["speedup"]) + late


def accuracy_column(
    title: str,
    show: Callable[[AccuracyVerdict], str],
    split: str | None = None,
    numeric: bool = True,
    detail: bool = False,
) -> Column:
    """Something of the accuracy verdict on `split`; without one, of the verdict that is reported."""

    def cell(result: Result) -> str:
        verdict = result.accuracy_kept.get(split) if split else verdict_of(result)
        return show(verdict) if verdict else ABSENT

    return Column(Header(title, numeric=numeric, detail=detail), cell)


def _word(verdict: AccuracyVerdict) -> str:
    return verdict.word


def _bounds(verdict: AccuracyVerdict) -> str:
    sign = "+" if verdict.difference > 0 else ""
    return sign + numbers.spread(100 * verdict.difference, (100 * verdict.low, 100 * verdict.high))


def _bootstrap(verdict: AccuracyVerdict) -> str:
    return " to ".join(numbers.signed(100 * end) for end in (verdict.bootstrap_low, verdict.bootstrap_high))


def _rows_needed(verdict: AccuracyVerdict) -> str:
    return f"{verdict.rows_needed:,}" if verdict.rows_needed else ABSENT


def rounds_columns(name: str) -> list[Column]:
    """How the scenario `name` was measured, and what it found; for results that have it."""
    answers = {True: "yes", False: "no", None: ABSENT}

    def rounds(result: Result) -> str:
        scenario = result.scenarios[name]
        return str(scenario.rounds) if scenario.raw else ABSENT

    def discarded(result: Result) -> str:
        raw = result.scenarios[name].raw
        return str(len(raw.discarded)) if raw and raw.discarded else ABSENT

    def throttled(result: Result) -> str:
        return "yes" if result.scenarios[name].throttled else ABSENT

    def verdicts(result: Result) -> dict[str, SpeedVerdict]:
        return result.scenarios[name].verdicts

    return [
        Column(Header("Threads"), lambda result: str(result.scenarios[name].threads or ABSENT)),
        Column(Header("Rounds"), rounds),
        Column(Header("Discarded"), discarded),
        Column(Header("Throttled?", numeric=False), throttled),
        Column(Header("Converged?", numeric=False), lambda result: answers[result.scenarios[name].converged]),
        speed_column(FASTER, "speedup", verdicts),
        speed_column(FASTER_SAME_PRECISION, "speedup_same_precision", verdicts),
    ]


def metric_columns(scenario: str) -> dict[str, Column]:
    """The columns of all catalogued metrics, the paired ones those of `scenario`."""
    return {
        name: metric_column(name, metric.unit, metric.better, scenario) for name, metric in METRICS.items()
    }


OTHER_COLUMNS = {
    "points": accuracy_column("Δ pts ↑", points),
    "verdict": accuracy_column("Accuracy kept?", _word, numeric=False),
    "verdict_unseen": accuracy_column("Kept on unseen?", _word, "test unseen", numeric=False),
    "judged_validation": accuracy_column("Validation Δ pts ↑", _bounds, "validation"),
    "judged_test": accuracy_column("Test Δ pts ↑", _bounds, "test", detail=True),
    "judged_unseen": accuracy_column("Unseen Δ pts ↑", _bounds, "test unseen", detail=True),
    "bootstrap": accuracy_column("Bootstrap Δ pts", _bootstrap, detail=True),
    "flips": accuracy_column("Labels changed", lambda v: numbers.quantity(v.flip_rate, numbers.PERCENT)),
    "gained": accuracy_column("Rows gained", lambda verdict: f"{verdict.gained:,}", detail=True),
    "lost": accuracy_column("Rows lost", lambda verdict: f"{verdict.lost:,}", detail=True),
    "mcnemar": accuracy_column("McNemar p", lambda v: numbers.p_value(v.mcnemar_p_value), detail=True),
    "rows_needed": accuracy_column("Rows needed to tell", _rows_needed),
    "faster": speed_column(FASTER, "speedup", lambda result: result.verdicts),
    "faster_same_precision": speed_column(
        FASTER_SAME_PRECISION, "speedup_same_precision", lambda result: result.verdicts
    ),
    "end_to_end": Column(Header("End to end speedup ↑"), _end_to_end),
    "loads_with": Column(Header("Loads with", numeric=False), lambda result: result.loads_with or ABSENT),
}
