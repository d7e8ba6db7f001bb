"""Several runs beside each other: a table for each quantity, its rows variants and its columns runs.

It draws no verdict between runs: that is for `bench compare`, which knows intervals and noise floors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import InputError
from bench.nouns.measurement import METRICS
from bench.nouns.run import Result, Run
from reports.columns import OTHER_COLUMNS, Column, metric_columns
from reports.environment import said
from reports.facts import facts
from reports.legend import with_legend
from reports.names import named, ordered, several_seeds
from reports.numbers import counted
from reports.parts import ABSENT, Fact, Header, Line, Name, Report, Row, Section, Table
from reports.tables import GROUPS

ESSENTIAL = (
    "speedup",
    "faster",
    "accuracy",
    "points",
    "verdict",
    "speedup_same_precision",
    "latency_b1_p50",
    "latency_p50",
    "peak_memory_host",
    "peak_memory_device",
    "disk_size",
    "compress_energy",
    "inference_energy_per_sample",
)
MEANINGS = {name: metric.meaning for name, metric in METRICS.items()} | {
    "faster": "the speed-up over dense against the margin of its own run",
    "points": "accuracy less that of dense in the same run, in percentage points",
    "verdict": "against dense in the same run",
}
SEVERAL_SEEDS = "of several seeds: the least to the greatest value; of words each that occurs"


@dataclass(frozen=True)
class Agreement:
    """What runs must share for figures to be compared, empty where unknown; what follows `otherwise`."""

    of: Callable[[Run], object]
    otherwise: str


def energy_sources(run: Run) -> set[str]:
    """What the run's energy was read from; empty where it has none."""
    energies = (result.metrics.get("inference_energy_per_sample") for result in run.results)
    return {energy.source for energy in energies if energy}


AGREEMENTS = (
    Agreement(
        lambda run: (run.environment.machine_key, run.config.device),
        "the machines or devices differ: compare no times, memory or energy, and take speed-ups as each "
        "machine's own",
    ),
    Agreement(
        lambda run: (run.environment.threads, run.environment.affinity, run.environment.variables),
        "the threads, cores or environment variables differ: compare no times",
    ),
    Agreement(lambda run: run.fingerprints.get("rows"), "the rows differ: compare no accuracies"),
    Agreement(
        lambda run: run.fingerprints.get("model"),
        "the models differ: compare only what variants gain and lose over their own dense",
    ),
    Agreement(
        lambda run: (run.config.batch_size, run.config.max_length),
        "the batch sizes or greatest lengths differ: compare no times, memory or energy",
    ),
    Agreement(
        lambda run: (
            run.config.epochs,
            run.config.dense_epochs,
            run.config.learning_rate,
            run.config.dense_learning_rate,
        ),
        "the trainings differ: variants of one name are different models",
    ),
    Agreement(
        lambda run: (run.config.budget, run.config.protocol_version),
        "the budgets or protocols differ: some of the runs are measured less finely",
    ),
    Agreement(energy_sources, "energy comes from different sources: compare none of it"),
    Agreement(
        lambda run: (run.config.carbon_intensity, run.config.pue), "the grids that CO2 is reckoned for differ"
    ),
)


def called(places: Sequence[Path]) -> list[str]:
    """What the runs at these places are called: the ends of their paths, as short as tells them apart.

    Raises `InputError` for a run that is named twice.
    """
    folders = [place.parent if place.name == "run.json" else place for place in map(Path.absolute, places)]
    for place, folder in zip(places, folders, strict=True):
        if folders.count(folder) > 1:
            raise InputError(f"{place}: is named twice; name each run once")
    length = 1
    while len(names := {"/".join(folder.parts[-length:]): None for folder in folders}) < len(folders):
        length += 1
    short = [name.removesuffix(".json") for name in names]
    return short if len(set(short)) == len(short) else list(names)


def report(runs: Mapping[str, Run]) -> Report:
    """Everything there is to show of `runs`, by the name that each is called by."""
    return Report(
        title=f"{counted(len(runs), 'run')} side by side",
        facts=(*_cautions(runs), *_facts(runs)),
        tables=with_legend([table for table in _tables(runs) if table.rows]),
        sections=tuple(section for section in _sections(runs) if section.lines),
        closing=tuple(_closing(runs)),
    )


def _cautions(runs: Mapping[str, Run]) -> Iterator[Fact]:
    for agreement in AGREEMENTS:
        known = [value for run in runs.values() if (value := agreement.of(run))]
        if any(value != known[0] for value in known):
            yield Fact("Caution", agreement.otherwise)


def _facts(runs: Mapping[str, Run]) -> Iterator[Fact]:
    """Each fact once where all runs share it, else once for the runs that do."""
    told = {run_name: {fact.name: fact for fact in facts(run)} for run_name, run in runs.items()}
    for name, fact in {name: fact for own in told.values() for name, fact in own.items()}.items():
        sharing: dict[str, list[str]] = {}
        for run_name, own in told.items():
            sharing.setdefault(own[name].text if name in own else ABSENT, []).append(run_name)
        for text, run_names in sharing.items():
            whose = "" if len(sharing) == 1 else f"{', '.join(run_names)}: "
            yield Fact(name, whose + text, fact.detail)


def _tables(runs: Mapping[str, Run]) -> Iterator[Table]:
    """The essential quantities, then every other."""
    columns = {
        run_name: metric_columns(f"batch {run.config.batch_size}") | OTHER_COLUMNS
        for run_name, run in runs.items()
    }
    grouped = (name for group in GROUPS for name in group.names)
    for name in dict.fromkeys((*ESSENTIAL, *grouped)):
        yield _table(name, runs, {run_name: known[name] for run_name, known in columns.items()})


def _table(name: str, runs: Mapping[str, Run], columns: Mapping[str, Column]) -> Table:
    """One quantity; the first table lists every variant, also those without any figure."""
    variants = dict.fromkeys(result.variant for run in runs.values() for result in ordered(run))
    title, numeric = next((column.header.text, column.header.numeric) for column in columns.values())
    headers = (Header(f"{run_name} ({run.config.budget})", numeric) for run_name, run in runs.items())
    rows = (
        Row(variant, tuple(_cell(name, column, _of(variant, runs[run])) for run, column in columns.items()))
        for variant in variants
    )
    meaning = ((MEANINGS[name],),) if name in MEANINGS else ()
    seeds = ((SEVERAL_SEEDS,),) if any(map(several_seeds, runs.values())) else ()
    is_first = name == ESSENTIAL[0]
    return Table(
        title,
        tuple(headers),
        tuple(rows),
        meaning + (seeds if is_first else ()),
        detail=name not in ESSENTIAL,
        every_row=is_first,
    ).filled()


def _of(variant: str, run: Run) -> list[Result]:
    return [result for result in run.results if result.variant == variant]


def _cell(name: str, column: Column, seeds: list[Result]) -> str:
    """What the column shows of a variant's results in one run, which differ by seed."""
    measured = sorted(
        (result for result in seeds if name in result.metrics), key=lambda result: result.metrics[name].value
    )
    shown = [column.cell(result) for result in ((measured[0], measured[-1]) if measured else seeds)]
    texts = dict.fromkeys(text for text in shown if text != ABSENT)
    return (" to " if measured else ", ").join(texts) or ABSENT


def _sections(runs: Mapping[str, Run]) -> Iterator[Section]:
    left_out: list[Line] = [
        (
            f"{run_name}: ",
            *named(run, result),
            f" {result.status}: {result.reason or 'no reason was recorded'}",
        )
        for run_name, run in runs.items()
        for result in ordered(run)
        if result.status != "ok"
    ]
    warnings: list[Line] = [
        (f"{run_name}: {said(caution)}",)
        for run_name, run in runs.items()
        for caution in run.environment.warnings
    ]
    yield Section("Failed or skipped", tuple(left_out))
    yield Section("Warnings", tuple(warnings))


def _closing(runs: Mapping[str, Run]) -> Iterator[str]:
    """Which variant each run recommends, and that nothing is concluded between them."""
    start = "Recommended: "
    for run_name, run in runs.items():
        best = next((result.variant for result in run.results if result.recommended), None)
        yield from (f"{start}{run_name} ", "none" if best is None else Name(best))
        start = ", "
    yield ". No verdict is drawn between runs here; that is for bench compare."
