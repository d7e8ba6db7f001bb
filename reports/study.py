"""The study beside a run: what it reported, what the run reproduced, and why it could not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.nouns.run import DENSE, Result, Run
from reports.columns import Column, metric_columns
from reports.facts import facts
from reports.legend import with_legend
from reports.names import label, ordered
from reports.numbers import Interval, signed, span, spread
from reports.parts import ABSENT, Fact, Header, Line, Name, Report, Row, Section, Table
from reports.public import Public
from reports.sentence import interval_of, verdict_of
from reports.tables import titled, training_notes

MODEL = "l3cube-pune/marathi-topic-all-doc-v2"
SPEEDUP = 2.56
HEADLINES = ("bmp25+kd:layers=all", "bmp25+kd")
STUDENTS = ("kd:layers=all", "kd")
PRUNINGS = ("", "bmp25", "bmp50", "bmp75")
GRID = (
    "accuracy",
    "speedup",
    "training_speedup",
    "peak_memory_host",
    "peak_memory_allocator",
    "compress_energy",
    "inference_energy_per_sample",
)
SOURCES: tuple[Line, ...] = (
    (
        "accuracy and macro-F1: MahaBERT in Mittal et al., L3Cube-MahaNews: News-Based Short Text and Long "
        "Document Classification Datasets in Marathi, SPELLL 2023, arXiv:2404.18216",
    ),
    (
        f"{SPEEDUP} times: the study's headline, for 25 % block movement pruning and distillation at "
        "unchanged accuracy; it does not say how many layers the student has",
    ),
)
OF_ROWS = ("accuracy", "macro_f1")
ONE_DATA_SET = "MahaBERT, fine-tuned on this data set alone"
THREE_DATA_SETS = "MahaBERT, on the three MahaNews data sets"
UNDEFINED = "the study's computation time is not defined: it may be training's or inference's"
UNREPORTED = "not reported, or not at hand"
ONE_SIDED = "one-sided 95 % bounds"


@dataclass(frozen=True)
class Published:
    """MahaBERT's test accuracy and macro-F1 on one MahaNews data set, shares."""

    accuracy: float
    macro_f1: float


PUBLISHED = {
    "mahanews-shc": Published(0.91163, 0.90230),
    "mahanews-lpc": Published(0.86731, 0.84915),
    "mahanews-ldc": Published(0.94706, 0.93589),
}
ROWS = {
    "mahanews-shc": {"train": 22_014, "test": 2_761},
    "mahanews-lpc": {"train": 42_870, "test": 5_366},
    "mahanews-ldc": {"train": 22_014, "test": 2_761},
}
ROWS["mahanews-all"] = {split: sum(rows[split] for rows in ROWS.values()) for split in ("train", "test")}


class Footnotes:
    """Remarks on cells, numbered in the order in which they first occur."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        """The number that stands beside a cell."""
        if text not in self._texts:
            self._texts.append(text)
        return f"({self._texts.index(text) + 1})"

    def beside(self, cell: str, text: str) -> str:
        """The cell with a remark, where there is one."""
        return f"{cell} {self.mark(text)}" if text else cell

    def absent(self, why: str) -> str:
        """A cell without a figure."""
        return self.beside(ABSENT, why)

    def lines(self) -> tuple[Line, ...]:
        """The remarks, to stand beneath the table."""
        return tuple((f"({number}) {text}",) for number, text in enumerate(self._texts, start=1))


def study_report(run: Run) -> Report:
    """The study's table for the run's task, and its grid of variants; it says no local paths."""
    run = Public(run)(run)
    shown = [fact for fact in facts(run) if not fact.detail and fact.name != "Command"]
    return Report(
        title=f"The study and its reproduction: {run.task.name}",
        facts=(*_orientation(run), *shown),
        tables=with_legend([_headline_table(run), _grid_table(run)]),
        sections=(Section("What is reported", SOURCES),),
        closing=_closing(run),
    )


def _orientation(run: Run) -> Iterator[Fact]:
    """That a run is not of the study's model and data, where it is not."""
    model, task = run.task.model or "one trained from the task's own rows", run.task.name
    foreign = [f"the model is {model}, not {MODEL}"] if model.partition("@")[0] != MODEL else []
    foreign += [f"the data are {task}, not MahaNews"] if task not in ROWS else []
    if foreign:
        yield Fact("For orientation", f"{' and '.join(foreign)}; the reported figures are of another run")


def _headlines(run: Run) -> list[str]:
    """The variants of the headline that the run has, the study's full-depth student where it has none."""
    return [name for name in HEADLINES if run.result(name)] or [HEADLINES[0]]


def _headline_table(run: Run) -> Table:
    notes, rows = Footnotes(), []
    for row, result in _seeds(run, DENSE):
        rows += [Row(row, cells) for cells in _dense_cells(run, result, notes)]
    for name in _headlines(run):
        for row, result in _seeds(run, name):
            rows += [Row(row, cells) for cells in _headline_cells(run, result, notes)]
    headers = (
        Header("Quantity", numeric=False),
        Header("Reported"),
        Header("Reproduced"),
        Header("95 % interval"),
    )
    return Table(titled("Reported and reproduced", run), headers, tuple(rows), notes.lines())


def _seeds(run: Run, name: str) -> list[tuple[str, Result | None]]:
    """A variant's results with their labels; one without a result where the run has none."""
    found = [(label(run, result), result) for result in ordered(run) if result.variant == name]
    return [*found] or [(name, None)]


def _dense_cells(run: Run, result: Result | None, notes: Footnotes) -> Iterator[tuple[str, ...]]:
    """Accuracy and macro-F1, published and reproduced."""
    own = PUBLISHED.get(run.task.name)
    shown, whose = ([own], ONE_DATA_SET) if own else (list(PUBLISHED.values()), THREE_DATA_SETS)
    for title, name, figures in (
        ("Accuracy, %", "accuracy", [published.accuracy for published in shown]),
        ("Macro-F1, %", "macro_f1", [published.macro_f1 for published in shown]),
    ):
        reported = notes.beside(span(figures, lambda share: f"{100 * share:.3f}"), whose)
        yield (title, reported, *_reproduced(run, result, name, lambda share: f"{100 * share:.2f}", notes))


def _headline_cells(run: Run, result: Result | None, notes: Footnotes) -> Iterator[tuple[str, ...]]:
    """The ratios of times that the headline may mean, and the accuracy that goes with it."""
    for title, name, reported, remark in (
        ("Speedup", "speedup", str(SPEEDUP), UNDEFINED),
        ("At same precision", "speedup_same_precision", ABSENT, UNREPORTED),
        ("Training speedup", "training_speedup", str(SPEEDUP), UNDEFINED),
    ):
        yield (title, notes.beside(reported, remark), *_reproduced(run, result, name, spread, notes))
    yield ("Δ accuracy, pts", "unchanged", *_accuracy_change(run, result, notes))


def _reproduced(
    run: Run, result: Result | None, name: str, write: Callable[[float], str], notes: Footnotes
) -> tuple[str, str]:
    """A metric's value and its interval, or why there is none."""
    measurement = result.metrics.get(name) if result else None
    if measurement is None:
        cell = notes.absent(_why_not(run, result, name))
        return cell, cell
    value = notes.beside(write(measurement.value), _rows_lacking(run) if name in OF_ROWS else "")
    interval = interval_of(measurement)
    if interval is None:
        return value, notes.absent(f"no interval: {measurement.source}")
    return value, " to ".join(map(write, interval))


def _accuracy_change(run: Run, result: Result | None, notes: Footnotes) -> tuple[str, str]:
    """Accuracy less dense's in points with the verdict's word, and the bounds."""
    verdict = verdict_of(result) if result else None
    if verdict is None:
        cell = notes.absent(_why_not(run, result, "accuracy"))
        return cell, cell
    value = notes.beside(f"{signed(100 * verdict.difference)}, {verdict.word}", _rows_lacking(run))
    bounds = " to ".join(signed(100 * bound) for bound in (verdict.low, verdict.high))
    return value, notes.beside(bounds, ONE_SIDED)


def _why_not(run: Run, result: Result | None, name: str) -> str:
    """Why the run has no figure."""
    if result is None and run.status != "complete":
        return f"not in this run, which is not complete ({run.status})"
    if result is None:
        return "not in this run; name it with --variants"
    if result.status != "ok":
        return f"{result.status}: {result.reason or 'no reason was recorded'}"
    return f"{name.replace('_', ' ')}: {result.unavailable.get(name, 'not measured')}"


def _rows_lacking(run: Run) -> str:
    """That the run has fewer rows than were published, where it has."""
    fewer = [
        f"{run.task.rows.get(split, 0):,} of the {count:,} published {split} rows"
        for split, count in ROWS.get(run.task.name, {}).items()
        if run.task.rows.get(split, 0) < count
    ]
    return f"with {' and '.join(fewer)}" if fewer else ""


def _grid_table(run: Run) -> Table:
    """Every variant of the study's grid, then what else is in the run."""
    notes, known = Footnotes(), metric_columns(f"batch {run.config.batch_size}")
    columns = {name: known[name] for name in GRID}
    rows = [
        Row(
            row,
            (_reported(name, notes), *_grid_cells(run, result, columns, notes)),
            best=result is not None and result.recommended,
            cached=result is not None and bool(result.cached),
        )
        for name in _grid_names(run)
        for row, result in _seeds(run, name)
    ]
    headers = (Header("Reported speedup"), *(column.header for column in columns.values()))
    lacking = _rows_lacking(run)
    remarks = [*training_notes(run), *([lacking] if lacking else [])]
    lines = (*notes.lines(), *((remark,) for remark in remarks))
    return Table(titled("The grid", run), headers, tuple(rows), lines)


def _reported(name: str, notes: Footnotes) -> str:
    return notes.beside(str(SPEEDUP), UNDEFINED) if name in HEADLINES else notes.absent(UNREPORTED)


def _grid_cells(
    run: Run, result: Result | None, columns: dict[str, Column], notes: Footnotes
) -> Iterator[str]:
    for name, column in columns.items():
        cell = column.cell(result) if result else ABSENT
        yield notes.absent(_why_not(run, result, name)) if cell == ABSENT else cell


def _grid_names(run: Run) -> list[str]:
    """Pruning, distillation and precision combined, with the students that the run has; then the others."""
    variants = [result.variant for result in run.results]
    students = [student for student in STUDENTS if {*_combined(student)} & {*variants}] or [STUDENTS[0]]
    return list(dict.fromkeys([*_combined("", *students), *variants]))


def _combined(*students: str) -> list[str]:
    """Every pruning with each of the students, in float32 and then in half precision."""
    return [
        "+".join(part for part in (pruning, student, precision) if part) or DENSE
        for precision in ("", "mp")
        for student in students
        for pruning in PRUNINGS
    ]


def _closing(run: Run) -> Line:
    """One sentence for each variant of the headline."""
    first, *others = (_conclusion(run, name) for name in _headlines(run))
    return (*first, *(part for line in others for part in (" ", *line)))


def _conclusion(run: Run, name: str) -> Line:
    """Whether inference with the variant reaches the headline's speed-up, by its interval over all seeds."""
    results = [result for _, result in _seeds(run, name)]
    speedups = [result.metrics["speedup"] for result in results if result and "speedup" in result.metrics]
    intervals = [interval for speedup in speedups if (interval := interval_of(speedup))]
    if not intervals:
        return (Name(name), f" has no speed-up to compare: {_why_not(run, results[0], 'speedup')}.")
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    amount = span([speedup.value for speedup in speedups], spread)
    over = f" over {len(intervals)} of {len(results)} seeds" if len(results) > 1 else ""
    verdicts = [verdict for result in results if result and (verdict := verdict_of(result))]
    words = " and ".join(dict.fromkeys(verdict.word for verdict in verdicts)) or "not judged"
    return (
        Name(name),
        f" is {amount} times as fast as ",
        Name(DENSE),
        f" ({spread(low)} to {spread(high)}){over}, {_against((low, high))}; accuracy {words}.",
    )


def _against(interval: Interval) -> str:
    """Where the interval lies beside what the study reports."""
    low, high = interval
    if low >= SPEEDUP:
        return f"at least the reported {SPEEDUP}"
    return f"below the reported {SPEEDUP}" if high < SPEEDUP else f"which leaves the reported {SPEEDUP} open"
