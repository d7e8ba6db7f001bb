"""What every renderer shows of a `Run`: facts, tables, notes and a conclusion, as plain text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bench.nouns.measurement import METRICS, Better, Measurement
from bench.nouns.run import DENSE, Result, Run
from reports import numbers
from reports.numbers import Ladder, counted
from reports.sentence import Line, Name, closing, interval_of, points, verdict_of

ABSENT = "–"
BIDI = "\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INTERVAL = "±"
ESTIMATED = "~"
UNCONVERGED = "*"
CACHED = "(c)"
BEST = "★"

LEGEND = {
    INTERVAL: "± reaches to the further end of the 95 % interval, rounded up",
    ESTIMATED: "~ estimated: a modelled value, not a measured one; no verdict rests on it",
    UNCONVERGED: "* not converged: the interval was still too wide when measuring stopped",
    CACHED: "(c) taken over from an earlier run; its costs are the original ones",
    BEST: "★ best: recommended; chosen on validation data, judged on the test rows",
}
POINTS = "Δ pts: accuracy less that of dense on the same rows, in percentage points"
BOUNDS = "± of Δ pts reaches to the further one-sided 95 % bound, rounded up"
DEMONSTRATION = "a small built-in task that shows the product; its figures say nothing about your model"
SOFTWARE = ("bench", "python", "torch", "transformers")


@dataclass(frozen=True)
class Fact:
    """One line about the run as a whole. A `detail`, here and below, is left out of `essentials`."""

    name: str
    text: str
    detail: bool = False


@dataclass(frozen=True)
class Header:
    """A column's head; `numeric` columns are aligned right."""

    text: str
    numeric: bool = True
    detail: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table; `best` is the recommended variant, `cached` one from an earlier run."""

    label: str
    cells: tuple[str, ...]
    best: bool = False
    cached: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table, its first column headed `Variant`, and the notes beneath it."""

    title: str
    headers: tuple[Header, ...]
    rows: tuple[Row, ...]
    notes: tuple[Line, ...] = ()
    detail: bool = False

    def columns(self, indices: Sequence[int]) -> Table:
        """The same table with these columns only."""
        return replace(
            self,
            headers=tuple(self.headers[index] for index in indices),
            rows=tuple(replace(row, cells=tuple(row.cells[index] for index in indices)) for row in self.rows),
        )


@dataclass(frozen=True)
class Section:
    """A heading and its lines."""

    title: str
    lines: tuple[Line, ...]
    detail: bool = False


@dataclass(frozen=True)
class Report:
    """Everything a renderer shows, in the order in which it shows it."""

    title: str
    facts: tuple[Fact, ...]
    tables: tuple[Table, ...]
    sections: tuple[Section, ...]
    closing: Line


@dataclass(frozen=True)
class Shown:
    """How one metric is headed and written. `paired` ones can fail to converge."""

    title: str
    ladder: Ladder
    interval: bool = False
    paired: bool = False


SHOWN = {
    "accuracy": Shown("Accuracy, %", numbers.HUNDREDTHS, interval=True),
    "macro_f1": Shown("Macro-F1, %", numbers.HUNDREDTHS, interval=True),
    "speedup": Shown("Speedup over dense", numbers.PLAIN, interval=True, paired=True),
    "speedup_same_precision": Shown("At same precision", numbers.PLAIN, interval=True, paired=True),
    "throughput": Shown("Samples per second", numbers.PLAIN, paired=True),
    "tokens_per_second": Shown("Tokens per second", numbers.COUNT, paired=True),
    "padding_share": Shown("Padding", numbers.PERCENT),
    "latency_b1_p50": Shown("One row p50", numbers.SECONDS),
    "latency_b1_p95": Shown("One row p95", numbers.SECONDS),
    "latency_p50": Shown("Batch p50", numbers.SECONDS),
    "latency_p95": Shown("Batch p95", numbers.SECONDS),
    "peak_memory_host": Shown("Host peak", numbers.BYTES),
    "peak_memory_allocator": Shown("Allocator peak", numbers.BYTES),
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
    "inference_energy_per_sample": Shown("Energy per row", numbers.JOULES),
    "compress_co2": Shown("Compress CO2", numbers.GRAMS),
    "inference_co2_per_sample": Shown("CO2 per row", numbers.GRAMS),
}


@dataclass(frozen=True)
class Column:
    """A table's column: its head, and what it shows of a result."""

    header: Header
    cell: Callable[[Result], str]


@dataclass(frozen=True)
class Group:
    """Which columns stand in one table. Title and note may name fields of the run's `config`."""

    title: str
    names: tuple[str, ...]
    note: str = ""


# The first table lists every variant, also those without any figure.
GROUPS = (
    Group(
        "Speed and accuracy", ("accuracy", "points", "verdict", "speedup", "speedup_same_precision"), POINTS
    ),
    Group("Accuracy in detail", ("macro_f1", "judged_validation", "judged_test", "rows_needed"), BOUNDS),
    Group(
        "Throughput and latency, batch size {config.batch_size}",
        ("throughput", "latency_b1_p50", "latency_b1_p95", "latency_p50", "latency_p95"),
    ),
    Group("Memory", ("peak_memory_host", "peak_memory_allocator", "peak_memory_device", "disk_size")),
    Group(
        "Size and work",
        ("parameters", "encoder_parameters", "pruned_fraction", "encoder_reduction", "flops_per_sample"),
    ),
    Group(
        "Cost, CO2 for {config.country} at {config.carbon_intensity:g} g/kWh",
        (
            "compress_wall_time",
            "inference_wall_time",
            "compress_energy",
            "inference_energy_per_sample",
            "compress_co2",
            "inference_co2_per_sample",
        ),
        "carbon intensity from {config.carbon_source}; PUE {config.pue:g}",
    ),
)


def report(run: Run) -> Report:
    """Everything there is to show of `run`."""
    results = ordered(run)
    return Report(
        title=f"{run.task.name}: {run.task.description}",
        facts=_facts(run),
        tables=_with_legend([*_metric_tables(run, results), *_scenario_tables(run, results)]),
        sections=tuple(section for section in _sections(run, results) if section.lines),
        closing=closing(run),
    )


def essentials(full: Report) -> Report:
    """`full` without its details: what is worth reading on a terminal."""
    tables = (
        table.columns([index for index, header in enumerate(table.headers) if not header.detail])
        for table in full.tables
        if not table.detail
    )
    return replace(
        full,
        facts=tuple(fact for fact in full.facts if not fact.detail),
        tables=tuple(table for table in tables if table.headers),
        sections=tuple(section for section in full.sections if not section.detail),
    )


def plain(text: str) -> str:
    """`text` on one line, without control and direction marks, so that nothing in it acts on a terminal."""
    shown = (" " if unicodedata.category(mark) in {"Cc", "Cs"} or mark in BIDI else mark for mark in text)
    return re.sub(r"\s+", " ", "".join(shown))


def ordered(run: Run) -> list[Result]:
    """The run's results, dense first, else in their own order."""
    return sorted(run.results, key=lambda result: result.variant != DENSE)


def label(run: Run, result: Result) -> str:
    """A row's name: the variant, its seed where there are several, and its marks."""
    marks = (
        (BEST, result.recommended),
        (result.variant, True),
        (f"(seed {result.seed})", _seeded(run)),
        (CACHED, bool(result.cached)),
        (result.status, result.status != "ok"),
    )
    return " ".join(text for text, applies in marks if applies)


def _metric_cell(name: str, shown: Shown) -> Callable[[Result], str]:
    def cell(result: Result) -> str:
        measurement = result.metrics.get(name)
        if measurement is None:
            return ABSENT
        late = UNCONVERGED if shown.paired and _unconverged(result, name) else ""
        return written(measurement, shown) + late

    return cell


def written(measurement: Measurement, shown: Shown) -> str:
    """The measurement as its column shows it, marked where it is estimated."""
    interval = interval_of(measurement) if shown.interval else None
    mark = ESTIMATED if measurement.estimated else ""
    return mark + numbers.quantity(measurement.value, shown.ladder, interval)


def _unconverged(result: Result, name: str) -> bool:
    """Whether the scenario a paired metric came from (every one, where none is named) did not converge.

    The speedup of dense over itself is exact: there is nothing to converge.
    """
    if result.variant == DENSE and name.startswith("speedup"):
        return False
    value = result.metrics[name].value
    own = [s for s in result.scenarios.values() if name in s.metrics and s.metrics[name].value == value]
    return any(scenario.converged is False for scenario in own or result.scenarios.values())


def _metric_column(name: str, unit: str, better: Better) -> Column:
    spoken = name.replace("_", " ").capitalize()
    shown = SHOWN.get(name) or Shown(spoken if unit == "1" else f"{spoken}, {unit}", numbers.PLAIN)
    return Column(_header(shown, better), _metric_cell(name, shown))


def _header(shown: Shown, better: Better) -> Header:
    return Header(f"{shown.title} {'↑' if better == 'higher' else '↓'}")


def _points(result: Result) -> str:
    verdict = verdict_of(result)
    return points(verdict) if verdict else ABSENT


def _word(result: Result) -> str:
    verdict = verdict_of(result)
    return verdict.word if verdict else ABSENT


def _judged_on(split: str) -> Callable[[Result], str]:
    def cell(result: Result) -> str:
        verdict = result.accuracy_kept.get(split)
        if verdict is None:
            return ABSENT
        sign = "+" if verdict.difference > 0 else ""
        return sign + numbers.spread(100 * verdict.difference, (100 * verdict.low, 100 * verdict.high))

    return cell


def _rows_needed(result: Result) -> str:
    verdict = verdict_of(result)
    return f"{verdict.rows_needed:,}" if verdict and verdict.rows_needed else ABSENT


COLUMNS = {name: _metric_column(name, metric.unit, metric.better) for name, metric in METRICS.items()} | {
    "points": Column(Header("Δ pts ↑"), _points),
    "verdict": Column(Header("Accuracy kept?", numeric=False), _word),
    "judged_validation": Column(Header("Validation Δ pts ↑"), _judged_on("validation")),
    "judged_test": Column(Header("Test Δ pts ↑", detail=True), _judged_on("test")),
    "rows_needed": Column(Header("Rows needed to tell"), _rows_needed),
}


def _metric_tables(run: Run, results: list[Result]) -> Iterable[Table]:
    for group in (*GROUPS, _others(results)):
        columns = [COLUMNS.get(name) or _other_column(results, name) for name in group.names]
        title = _title(group.title.format(config=run.config), run)
        table = _table(run, title, results, columns, every_row=group is GROUPS[0])
        note = group.note.format(config=run.config)
        if table.rows:
            yield replace(table, notes=((note,),) if note else ())


def _title(text: str, run: Run) -> str:
    return f"{text} ({run.config.budget} budget)"


def _others(results: list[Result]) -> Group:
    """The metrics a result carries that no group names."""
    grouped = {name for group in GROUPS for name in group.names}
    names = dict.fromkeys(name for result in results for name in result.metrics if name not in grouped)
    return Group("Other", tuple(names))


def _other_column(results: list[Result], name: str) -> Column:
    example = next(result.metrics[name] for result in results if name in result.metrics)
    return _metric_column(name, example.unit, example.better)


def _table(
    run: Run, title: str, results: list[Result], columns: list[Column], every_row: bool = False
) -> Table:
    """The rows and columns in which anything is present."""
    grid = [[column.cell(result) for column in columns] for result in results]
    used = [index for index in range(len(columns)) if any(cells[index] != ABSENT for cells in grid)]
    rows = (
        Row(
            label(run, result),
            tuple(cells[index] for index in used),
            best=result.recommended,
            cached=bool(result.cached),
        )
        for result, cells in zip(results, grid, strict=True)
        if every_row or any(cell != ABSENT for cell in cells)
    )
    return Table(title, tuple(columns[index].header for index in used), tuple(rows))


def _with_legend(tables: list[Table]) -> tuple[Table, ...]:
    """`tables`, each mark explained beneath the first one that uses it."""
    explained: set[str] = set()
    with_legend = []
    for table in tables:
        new = [mark for mark in LEGEND if mark in _marks(table) - explained]
        explained.update(new)
        with_legend.append(replace(table, notes=(*table.notes, *((LEGEND[mark],) for mark in new))))
    return tuple(with_legend)


def _marks(table: Table) -> set[str]:
    cells = [cell for row in table.rows for cell in row.cells]
    used = {
        INTERVAL: any(" ± " in cell for cell in cells),
        ESTIMATED: any(cell.startswith(ESTIMATED) for cell in cells),
        UNCONVERGED: any(cell.endswith(UNCONVERGED) for cell in cells),
        CACHED: any(row.cached for row in table.rows),
        BEST: any(row.best for row in table.rows),
    }
    return {mark for mark, applies in used.items() if applies}


def _scenario_tables(run: Run, results: list[Result]) -> Iterable[Table]:
    """One table for each way of feeding the model, so that what stands in a table is comparable."""
    kinds = dict.fromkeys(
        (name, scenario.batch_size, scenario.padding)
        for result in results
        for name, scenario in result.scenarios.items()
    )
    for name, batch_size, padding in kinds:
        members = [
            result.model_copy(update={"metrics": scenario.metrics, "scenarios": {name: scenario}})
            for result in results
            if (scenario := result.scenarios.get(name))
            and (scenario.batch_size, scenario.padding) == (batch_size, padding)
        ]
        size = "" if str(batch_size) in name.split() else f", batch size {batch_size}"
        padded = "no padding" if padding == "none" else f"padded to the {padding}"
        title = _title(f"Scenario {name}{size}: {padded}", run)
        metrics = dict.fromkeys(metric for member in members for metric in member.metrics)
        columns = [_rounds_column(name), _converged_column(name)]
        columns += [_other_column(members, metric) for metric in metrics]
        yield replace(_table(run, title, members, columns), detail=True)


def _rounds_column(scenario: str) -> Column:
    return Column(Header("Rounds"), lambda result: str(result.scenarios[scenario].rounds or ABSENT))


def _converged_column(scenario: str) -> Column:
    words = {True: "yes", False: "no", None: ABSENT}
    return Column(
        Header("Converged?", numeric=False), lambda result: words[result.scenarios[scenario].converged]
    )


def _facts(run: Run) -> tuple[Fact, ...]:
    task, config, environment = run.task, run.config, run.environment
    accelerators = [] if config.device == "cpu" else [device.name for device in environment.devices]
    threads = counted(environment.threads, "thread")
    rows = ", ".join(f"{count:,} {split}" for split, count in task.rows.items())
    seeds = ", ".join(str(seed) for seed in config.seeds)
    software, libraries = _versions(environment.versions)
    facts = (
        Fact("Status", "" if run.status == "complete" else f"{run.status}: not every variant is here"),
        Fact("Demonstration", DEMONSTRATION if task.demonstration else ""),
        Fact("Rows", f"{rows}; {len(task.labels)} labels"),
        Fact("Dropped", ", ".join(f"{count:,} {why}" for why, count in task.dropped.items())),
        Fact("Model", task.model or "trained from the task's own rows"),
        Fact("Device", ", ".join((config.device, *accelerators, environment.cpu_model, threads))),
        Fact("Machine", _machine(run), detail=True),
        Fact("Software", software),
        Fact("Libraries", libraries, detail=True),
        Fact("Budget", f"{config.budget}, {'seeds' if len(config.seeds) > 1 else 'seed'} {seeds}"),
        Fact("Training", _training(run)),
        Fact("Run", f"{run.id}, started {run.started_at:%Y-%m-%d %H:%M %Z}".rstrip()),
        Fact("Command", config.command),
    )
    return tuple(fact for fact in facts if fact.text)


def _versions(versions: dict[str, str]) -> tuple[str, str]:
    """What a figure depends on most, and the rest."""
    main = [f"{name} {version}" for name, version in versions.items() if name in SOFTWARE]
    rest = [f"{name} {version}" for name, version in versions.items() if name not in SOFTWARE]
    return ", ".join(main), ", ".join(rest)


def _machine(run: Run) -> str:
    environment = run.environment
    virtual = ", virtualised" if environment.virtualised else ""
    memory = numbers.quantity(environment.memory, numbers.BYTES)
    return (
        f"{counted(environment.cpu_cores, 'core')}{virtual}, {memory} of memory, {environment.platform}, "
        f"fp32 precision {environment.fp32_precision}"
    )


def _training(run: Run) -> str:
    config = run.config
    dense = counted(config.dense_epochs, "epoch") if config.dense_epochs else "used as it came"
    return (
        f"variants {counted(config.epochs, 'epoch')} at {config.learning_rate:g}, dense {dense}; "
        f"batch size {config.batch_size}, at most {config.max_length} tokens"
    )


def _sections(run: Run, results: list[Result]) -> Iterable[Section]:
    yield Section("Failed or skipped", tuple(_left_out(run, results)))
    yield Section("Accuracy not shown to be kept", tuple(_accuracy_reasons(run, results)), detail=True)
    yield Section("Stopped before converging", tuple(_stopped(run, results)), detail=True)
    yield Section("Not available", tuple(_unavailable(run, results)))
    yield Section("Notes", tuple((note,) for note in run.task.notes))
    yield Section("Notes on single variants", tuple(_own_notes(run, results)), detail=True)
    yield Section("Warnings", tuple((warning,) for warning in run.environment.warnings))


def _left_out(run: Run, results: list[Result]) -> Iterable[Line]:
    for result in results:
        if result.status != "ok":
            yield (*_named(run, result), f" {result.status}: {result.reason or 'no reason was recorded'}")


def _accuracy_reasons(run: Run, results: list[Result]) -> Iterable[Line]:
    for result in results:
        verdict = verdict_of(result)
        if verdict and verdict.word != "kept":
            yield (*_named(run, result), f" {verdict.word}: {verdict.reason}")


def _stopped(run: Run, results: list[Result]) -> Iterable[Line]:
    for result in results:
        for name, scenario in result.scenarios.items():
            if scenario.converged is False:
                why = scenario.stopped or "no reason was recorded"
                yield (*_named(run, result), f", scenario {name}, after {scenario.rounds} rounds: {why}")


def _unavailable(run: Run, results: list[Result]) -> Iterable[Line]:
    """One line for each reason: the metrics it cost, and which variants lack them."""
    lacking: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        for metric, reason in result.unavailable.items():
            lacking.setdefault(reason, {}).setdefault(metric, []).append(result)
    for reason, metrics in lacking.items():
        groups: dict[str, list[str]] = {}
        for metric, lackers in metrics.items():
            groups.setdefault(_who(run, results, lackers), []).append(metric.replace("_", " "))
        what = "; ".join(f"{', '.join(names)} ({who})" for who, names in groups.items())
        yield (f"{what}: {reason}",)


def _who(run: Run, results: list[Result], some: list[Result]) -> str:
    if some == [result for result in results if result.status == "ok"]:
        return "all variants"
    return ", ".join("".join(_named(run, result)) for result in some)


def _own_notes(run: Run, results: list[Result]) -> Iterable[Line]:
    for result in results:
        for note in result.notes:
            yield (*_named(run, result), f": {note}")


def _named(run: Run, result: Result) -> Line:
    return (Name(result.variant), f" (seed {result.seed})") if _seeded(run) else (Name(result.variant),)


def _seeded(run: Run) -> bool:
    return len({result.seed for result in run.results}) > 1
