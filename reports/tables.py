"""The tables: what stands in each, over variants, seeds, scenarios and the rows of the task."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from bench.nouns.audit import SplitAudit
from bench.nouns.run import Result, Run
from reports import numbers
from reports.attribution import attribution_table
from reports.columns import (
    END_TO_END,
    OTHER_COLUMNS,
    Column,
    metric_column,
    metric_columns,
    rounds_columns,
)
from reports.legend import with_legend
from reports.names import BEST, CACHED, by_variant, label, several_seeds
from reports.parts import ABSENT, Header, Row, Table
from reports.profile import profile_tables
from reports.sentence import verdict_of

MATCHING = re.compile(r"\bkd\b(?!:student=)")
MACHINE = {
    "steal": ("Taken by other guests", numbers.PERCENT),
    "throttled": ("Halted by the quota", numbers.PERCENT),
    "others": ("Used by other processes", numbers.PERCENT),
    "sm_clock": ("SM clock", numbers.HERTZ),
    "temperature": ("GPU, °C", numbers.PLAIN),
    "power": ("GPU power", numbers.WATTS),
}


@dataclass(frozen=True)
class Group:
    """Which columns stand in one table. The title may name fields of the run's `config`."""

    title: str
    names: tuple[str, ...]
    notes: Callable[[Run], Iterator[str]] = lambda run: iter(())


def _accuracy_and_speed_notes(run: Run) -> Iterator[str]:
    yield "Δ pts: accuracy less that of dense on the same rows, in percentage points"
    if any("accuracy_unseen" in result.metrics for result in run.results):
        yield "unseen rows: the test rows whose text is not in the training file"
    margins = {verdict.margin for result in run.results for verdict in result.verdicts.values()}
    if margins:
        factor = " or ".join(f"{1 + margin:.4g}" for margin in sorted(margins))
        yield f"faster, slower: the whole interval is beyond a factor of {factor}; same: within it"


def _accuracy_notes(run: Run) -> Iterator[str]:
    if any(result.accuracy_kept for result in run.results):
        yield "± of Δ pts reaches to the further one-sided 95 % bound, rounded up"
        yield "labels changed: the share of the test rows that dense puts into another class"


def _throughput_notes(run: Run) -> Iterator[str]:
    if any("speedup_same_precision" in result.metrics for result in run.results):
        yield "at same precision: over dense in the variant's precision, and run by the same engine"
    if any(END_TO_END in result.scenarios for result in run.results):
        yield "end to end: from texts to labels, tokenising included"
    yield from training_notes(run)


def training_notes(run: Run) -> Iterator[str]:
    """What the training speedup compares, and that no verdict rests on it."""
    rows = [result for result in run.results if "training_speedup" in result.metrics]
    controls = [row.variant for row in rows if row.metrics["training_speedup"].source == "definition"]
    if controls:
        yield (
            f"training speedup: the time of a step of {' or '.join(dict.fromkeys(controls))}'s training over "
            "the variant's, one after the other, not paired, so without verdict; dense's logits are not in it"
        )
    if any(_runs_dense_in_training(row) for row in rows):
        yield (
            "kd where half of the encoder or more is pruned: dense runs in every step, since its hidden "
            "states are matched, and is in the step's time"
        )


def _runs_dense_in_training(result: Result) -> bool:
    """Whether it is a student that lost half; what was pruned differs a little from what was asked."""
    pruned = result.metrics.get("pruned_fraction")
    return pruned is not None and pruned.value > 0.45 and MATCHING.search(result.variant) is not None


def _memory_notes(run: Run) -> Iterator[str]:
    if any(result.loads_with for result in run.results):
        yield "loads with: what an artifact needs to be loaded; bench export puts a .py file beside it"


def _cost_notes(run: Run) -> Iterator[str]:
    idle = [result.metrics["idle_power"].value for result in run.results if "idle_power" in result.metrics]
    if idle:
        drawn = numbers.span(idle, lambda value: numbers.quantity(value, numbers.WATTS))
        yield f"energy is net: the {drawn} drawn when nothing runs is not in it"
    if any("break_even" in result.metrics for result in run.results):
        yield (
            "break-even: so many texts repay the energy of compressing, each by what it takes less than with "
            "dense; its ± is that of the saving"
        )
    yield f"carbon intensity from {run.config.carbon_source}; PUE {run.config.pue:g}"


# The first table lists every variant, also those without any figure.
GROUPS = (
    Group(
        "Speed and accuracy",
        ("accuracy", "accuracy_unseen", "points", "verdict", "speedup", "faster"),
        _accuracy_and_speed_notes,
    ),
    Group(
        "Throughput and training, batch size {config.batch_size}",
        (
            "speedup_same_precision",
            "faster_same_precision",
            "end_to_end",
            "throughput",
            "training_speedup",
            "training_step_time",
        ),
        _throughput_notes,
    ),
    Group(
        "Accuracy in detail",
        (
            "macro_f1",
            "judged_validation",
            "judged_test",
            "judged_unseen",
            "verdict_unseen",
            "bootstrap",
            "flips",
            "gained",
            "lost",
            "mcnemar",
            "calibration_error",
            "truncated_share",
            "rows_needed",
        ),
        _accuracy_notes,
    ),
    Group(
        "Latency, batch size {config.batch_size}",
        (
            "latency_b1_p50",
            "latency_b1_p90",
            "latency_b1_p95",
            "latency_b1_p99",
            "latency_b1_p99.9",
            "latency_p50",
            "latency_p90",
            "latency_p95",
            "latency_p99",
            "latency_p99.9",
            "load_time",
            "first_call_time",
            "compile_time",
        ),
    ),
    Group(
        "Memory and disk",
        (
            "peak_memory_host",
            "peak_memory_allocator",
            "peak_memory_reserved",
            "peak_memory_device",
            "disk_size",
            "loads_with",
        ),
        _memory_notes,
    ),
    Group(
        "Size and work",
        (
            "parameters",
            "encoder_parameters",
            "pruned_fraction",
            "encoder_reduction",
            "flops_per_sample",
            "predicted_speedup",
        ),
    ),
    Group(
        "Cost, CO2 for {config.country} at {config.carbon_intensity:g} g/kWh",
        (
            "compress_wall_time",
            "inference_wall_time",
            "compress_energy",
            "compress_energy_gross",
            "inference_energy_per_sample",
            "inference_energy_per_sample_gross",
            "break_even",
            "idle_power",
            "compress_co2",
            "inference_co2_per_sample",
        ),
        _cost_notes,
    ),
)


def tables(run: Run, results: list[Result]) -> tuple[Table, ...]:
    """Every table in which there is anything, each mark explained beneath the first that uses it."""
    headline, *others = _metric_tables(run, results)
    scenarios = _scenario_tables(run, results)
    every = [
        headline,
        _seeds_table(run, results),
        attribution_table(run, results),
        *others,
        *profile_tables(run, results),
        *scenarios,
        _spent_table(run, results),
        _data_table(run),
    ]
    return with_legend([table for table in every if table.rows])


def _metric_tables(run: Run, results: list[Result]) -> Iterator[Table]:
    headline = f"batch {run.config.batch_size}"
    known = metric_columns(headline) | OTHER_COLUMNS
    for group in (*GROUPS, _others(results)):
        columns = [known.get(name) or _other_column(results, name, headline) for name in group.names]
        title = titled(group.title.format(config=run.config), run)
        table = _table(run, title, results, columns, every_row=group is GROUPS[0])
        yield replace(table, notes=tuple((note,) for note in group.notes(run)))


def titled(text: str, run: Run) -> str:
    """A table's title, which names the budget that its figures were measured with."""
    return f"{text} ({run.config.budget} budget)"


def _others(results: list[Result]) -> Group:
    """The metrics a result carries that no group names."""
    grouped = {name for group in GROUPS for name in group.names}
    names = dict.fromkeys(name for result in results for name in result.metrics if name not in grouped)
    return Group("Other", tuple(names))


def _other_column(results: list[Result], name: str, scenario: str) -> Column:
    example = next(result.metrics[name] for result in results if name in result.metrics)
    return metric_column(name, example.unit, example.better, scenario)


def _table(
    run: Run, title: str, results: list[Result], columns: list[Column], every_row: bool = False
) -> Table:
    """The rows and columns in which anything is present."""
    rows = (
        Row(
            label(run, result),
            tuple(column.cell(result) for column in columns),
            best=result.recommended,
            cached=bool(result.cached),
        )
        for result in results
    )
    headers = tuple(column.header for column in columns)
    return Table(title, headers, tuple(rows), every_row=every_row).filled()


def _seeds_table(run: Run, results: list[Result]) -> Table:
    """One row for each variant, over all its seeds; none where there is but one seed."""
    variants = by_variant(results) if several_seeds(run) else []
    headers = (
        Header("Mean accuracy, % ↑"),
        Header("Accuracy, %", detail=True),
        Header("Δ pts ↑"),
        Header("Kept in"),
        Header("Speedup over dense ↑", opens=True),
        Header("Faster in"),
    )
    rows = (
        Row(
            f"{BEST} {own[0].variant}" if own[0].recommended else own[0].variant,
            _over_seeds(own),
            best=own[0].recommended,
        )
        for own in variants
    )
    title = titled(f"Over {len(run.config.seeds)} seeds, from the least to the greatest", run)
    return Table(title, headers, tuple(rows)).filled()


def _over_seeds(results: list[Result]) -> tuple[str, ...]:
    """The cells of one variant's results, in the order of the headers."""
    accuracies = [r.metrics["accuracy"].value for r in results if "accuracy" in r.metrics]
    ratios = [r.metrics["speedup"].value for r in results if "speedup" in r.metrics]
    verdicts = [verdict for verdict in map(verdict_of, results) if verdict]
    judged = [result for result in results if "speedup" in result.verdicts]
    differences = [100 * verdict.difference for verdict in verdicts]
    hundredths = partial(numbers.quantity, ladder=numbers.HUNDREDTHS)
    kept = sum(verdict.word == "kept" for verdict in verdicts)
    return (
        hundredths(statistics.fmean(accuracies)) if accuracies else ABSENT,
        numbers.span(accuracies, hundredths) if accuracies else ABSENT,
        numbers.span(differences, numbers.signed) if differences else ABSENT,
        f"{kept} of {len(results)}" if verdicts else ABSENT,
        numbers.span(ratios, numbers.spread) if ratios else ABSENT,
        f"{sum(result.is_faster for result in judged)} of {len(results)}" if judged else ABSENT,
    )


def _scenario_tables(run: Run, results: list[Result]) -> Iterator[Table]:
    """One table for each way of feeding the model, so that what stands in a table is comparable."""
    kinds = dict.fromkeys(
        (name, scenario.batch_size, scenario.padding)
        for result in results
        for name, scenario in result.scenarios.items()
    )
    for name, batch_size, padding in kinds:
        members = [
            result.model_copy(update={"metrics": scenario.metrics})
            for result in results
            if (scenario := result.scenarios.get(name))
            and (scenario.batch_size, scenario.padding) == (batch_size, padding)
        ]
        told = name.startswith((f"batch {batch_size}", f"{batch_size}x"))
        size = "" if told else f", batch size {batch_size}"
        metrics = dict.fromkeys(metric for member in members for metric in member.metrics)
        columns = rounds_columns(name)
        columns += [_other_column(members, metric, name) for metric in metrics]
        columns += [_machine_column(name, reading) for reading in MACHINE]
        table = _table(run, titled(f"Scenario {name}{size}", run), members, columns)
        notes = () if padding == "none" else ((f"padding: {padding}",),)
        yield replace(table, notes=notes, detail=True)


def _machine_column(scenario: str, reading: str) -> Column:
    """The mean of what the machine did during the scenario's rounds."""
    title, ladder = MACHINE[reading]

    def cell(result: Result) -> str:
        raw = result.scenarios[scenario].raw
        series = raw.machine.get(reading) if raw else None
        values = [value for value in series.values if value is not None] if series else []
        return numbers.quantity(statistics.fmean(values), ladder) if values else ABSENT

    return Column(Header(title), cell)


def _spent_table(run: Run, results: list[Result]) -> Table:
    """Where the wall time went."""
    activities = dict.fromkeys(activity for result in results for activity in result.spent)

    def spent(activity: str) -> Callable[[Result], str]:
        def cell(result: Result) -> str:
            time_s = result.spent.get(activity)
            return ABSENT if time_s is None else numbers.quantity(time_s, numbers.SECONDS)

        return cell

    def altogether(result: Result) -> str:
        return numbers.quantity(sum(result.spent.values()), numbers.SECONDS) if result.spent else ABSENT

    columns = [Column(Header(activity.capitalize()), spent(activity)) for activity in activities]
    columns.append(Column(Header("Together"), altogether))
    table = _table(run, titled("Where the time went", run), results, columns)
    return replace(table, notes=tuple((note,) for note in _spent_notes(run)), detail=True)


def _spent_notes(run: Run) -> Iterator[str]:
    if any(result.cached for result in run.results):
        yield f"steps taken over {CACHED} are not counted here"
    if run.wall_time:
        yield f"the whole run took {numbers.quantity(run.wall_time.value, numbers.SECONDS)}"


def _data_table(run: Run) -> Table:
    """The audit of the rows, before anything was removed, and what then was."""
    headers = (
        Header("Rows"),
        Header("Repeated"),
        Header("Conflicting labels"),
        Header("In the training file"),
        Header("Smallest class"),
        Header("Largest class"),
    )
    audits = run.task.audit.splits
    rows = (Row(split, _audited(audit)) for split, audit in audits.items())
    title = "Data, before --deduplicate" if run.config.deduplicate else "Data"
    removed = "; ".join(f"{what}, {count:,} rows" for what, count in run.task.audit.removed.items())
    notes = ((f"removed: {removed}",),) if removed else ()
    return Table(title, headers, tuple(rows), notes, detail=True, first="Split", topic="data")


def _audited(audit: SplitAudit) -> tuple[str, ...]:
    """The cells of one split, in the order of the headers."""

    def of_rows(count: int) -> str:
        return f"{count:,} ({numbers.percent(count / audit.rows)})" if count and audit.rows else f"{count:,}"

    sizes = sorted(audit.classes.items(), key=lambda item: item[1])
    ends = [f"{name}: {of_rows(size)}" for name, size in (sizes[0], sizes[-1])] if sizes else [ABSENT] * 2
    return (
        f"{audit.rows:,}",
        *map(of_rows, (audit.duplicates, audit.conflicting, audit.in_train)),
        *ends,
    )
