"""A run as one HTML page: it opens offline, asks nothing of anyone, and shows all there is in the document.

The page computes nothing: every picture is drawn here, and what a reader's accuracy budget changes is
looked up.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import quote

from jinja2 import Environment as Templates
from jinja2 import StrictUndefined
from markupsafe import Markup, escape

from bench.nouns.measurement import METRICS
from bench.nouns.run import Result, Run
from bench.nouns.verdict import AccuracyVerdict, Choice
from bench.visible import visible
from reports import content, pictures, roofline
from reports.columns import OTHER_COLUMNS, Column, metric_columns
from reports.environment import described
from reports.legend import LEGEND, with_legend
from reports.names import label, ordered
from reports.parts import ABSENT, Header, Line, Name, Report, Row, Table, Topic, plain
from reports.pictures import Bars, Curve
from reports.profile import TRACE_VIEWERS, beside_dense, one_by_one, portion_tables, profile_facts, reasons
from reports.roofline import Roofline
from reports.scatter import NARROW, WIDE, Axis, Scatter, axes, scatter
from reports.sentence import closing, gains, verdict_of
from reports.stacks import stacks

TEMPLATE, STYLE, SCRIPT = "report.html.jinja", "report.css", "report.js"
WIDEST_BUDGET = 10.0
STANDING = "standing"
COLUMNS = (
    "accuracy",
    "accuracy_unseen",
    "points",
    "verdict",
    "speedup",
    "faster",
    STANDING,
    "speedup_same_precision",
    "latency_b1_p50",
    "peak_memory_host",
    "peak_memory_device",
    "disk_size",
    "inference_energy_per_sample",
)
FACTS_FIRST = ("Status", "Demonstration", "Rows", "Model", "Device", "Budget")
OWN_PLACE = ("Command", "Warnings")
RENAMED = {"Now": "At the start"}
NONE_RECOMMENDED: Line = ("No variant is shown to be faster and to lose less than this.",)


@dataclass(frozen=True)
class Plot:
    """An axis of the scatter, drawn for a screen and for a phone."""

    axis: Axis
    scatters: tuple[Scatter, ...]


@dataclass(frozen=True)
class Entry:
    """What the page shows of one result alone; `place` is its anchor, `name` its row's.

    `keys` are what the cells of the sortable table are sorted by, empty where nothing is there; `said` is
    where it lies on the headline's axis.
    """

    place: str
    name: str
    result: Result
    cells: tuple[str, ...]
    keys: tuple[str | float, ...]
    said: str
    rounds: tuple[Curve, ...]
    layers: tuple[Bars, ...]
    training: Curve | None


@dataclass(frozen=True)
class Profiled:
    """What the page shows of one result's profile; `traces` are links to its file and that of dense."""

    name: str
    rooflines: tuple[Roofline, ...]
    tables: tuple[Table, ...]
    reasons: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    traces: dict[str, tuple[str, str | None]]


def render(run: Run, choices: Sequence[Choice], in_folder: bool = True) -> str:
    """The page of `run`; `choices` says which variant is recommended from which accuracy budget on.

    Traces are linked where the page is to lie in the run's folder, beside them.
    """
    full = content.report(run)
    budget = 100 * run.config.accuracy_margin
    plots = [Plot(axis, tuple(scatter(axis, f, budget) for f in (WIDE, NARROW))) for axis in axes(run)]
    headline = plots[0].axis if plots else None
    columns = _columns(run, headline)
    entries = _entries(run, headline, columns)
    bars = stacks(run, ordered(run))
    places = {entry.result.variant: entry.place for entry in reversed(entries)}
    style, script = (Markup(_asset(name)) for name in (STYLE, SCRIPT))  # noqa: S704  (our own)
    templates = Templates(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_on_one_line,
    )
    templates.tests["name"] = lambda part: isinstance(part, Name)
    return templates.from_string(_asset(TEMPLATE)).render(
        run=run,
        full=full,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        budget=budget,
        widest_budget=WIDEST_BUDGET,
        choices=_choices(run, choices, places) if _is_to_choose(budget, choices) else None,
        plots=plots,
        nameless=any(mark.label is None for p in plots for s in p.scatters for mark in s.marks),
        words={candidate.standing for plot in plots for candidate in plot.axis.candidates},
        seeds=len(run.config.seeds),
        headers=[(column.header, _first_order(name)) for name, column in columns.items()],
        entries=entries,
        notes=_notes(full, columns, entries),
        places=places,
        picture=(pictures.WIDTH, pictures.HEIGHT),
        facts_first=[(fact.name, fact.text) for fact in full.facts if fact.name in FACTS_FIRST],
        facts=[(fact.name, fact.text) for fact in full.facts if fact.name not in (*FACTS_FIRST, *OWN_PLACE)],
        sections=[section for section in full.sections if section.title not in OWN_PLACE],
        tables=_tables(full, "figures")[1:],
        data=[*_tables(full, "data"), _classes(run)],
        stacks=bars,
        kinds=list(dict.fromkeys(segment.kind for bar in bars for segment in bar.segments)),
        profiles=[table for table in _tables(full, "profile") if not table.detail],
        profiled=list(_profiled(run, in_folder)),
        trace_viewers=TRACE_VIEWERS,
        environment=_environment(run),
        command=[escape(visible(word)) for word in run.config.command.split(" ")],
    )


def _tables(full: Report, topic: Topic) -> list[Table]:
    return [table for table in full.tables if table.topic == topic]


def _asset(name: str) -> str:
    return files("reports").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _on_one_line(value: object) -> object:
    """What an expression of the template writes: text without control and direction marks."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _is_to_choose(budget: float, choices: Sequence[Choice]) -> bool:
    """Whether any budget leads to a variant; the run's own must be among those to choose from."""
    return budget <= WIDEST_BUDGET and any(choice.variant for choice in choices)


def _choices(run: Run, choices: Sequence[Choice], places: dict[str, str]) -> dict[str, object]:
    """What the script looks up: the run's own conclusion at its own margin, and that from each margin on.

    A variant is named by its first result's anchor, which also stands on its points and rows.
    """
    best = next((places[result.variant] for result in run.results if result.recommended), None)
    return {
        "own": {"margin": run.config.accuracy_margin, "variant": best, "line": _parts(closing(run))},
        "from": [
            {
                "margin": choice.margin,
                "variant": places[choice.variant] if choice.variant else None,
                "line": _parts(_gains(run, choice)),
            }
            for choice in choices
        ],
    }


def _gains(run: Run, choice: Choice) -> Line:
    """What the chosen variant gains; its accuracy counts as kept, whatever it is at the run's own margin."""
    if choice.variant is None:
        return NONE_RECOMMENDED
    seeds = [result for result in run.results if result.variant == choice.variant]
    return gains([result.model_copy(update={"accuracy_kept": _kept(result)}) for result in seeds])


def _kept(result: Result) -> dict[str, AccuracyVerdict]:
    return {
        split: verdict.model_copy(update={"word": "kept"}) for split, verdict in result.accuracy_kept.items()
    }


def _parts(line: Line) -> list[dict[str, object]]:
    return [{"text": plain(part), "name": isinstance(part, Name)} for part in line]


def _columns(run: Run, headline: Axis | None) -> dict[str, Column]:
    """The columns of the sortable table in which there is anything, by name."""
    standing = {c.variant: c.standing for c in headline.candidates} if headline else {}
    own = Column(Header("Frontier", numeric=False), lambda result: standing.get(result.variant, ABSENT))
    known = metric_columns(f"batch {run.config.batch_size}") | OTHER_COLUMNS | {STANDING: own}
    return {
        name: known[name]
        for name in COLUMNS
        if any(known[name].cell(result) != ABSENT for result in run.results)
    }


def _entries(run: Run, headline: Axis | None, columns: dict[str, Column]) -> list[Entry]:
    """What there is to show of each result, dense first."""
    said = {c.variant: headline.said(c) for c in headline.candidates} if headline else {}
    return [
        Entry(
            place=f"variant-{number}",
            name=label(run, result.model_copy(update={"recommended": False})),
            result=result,
            cells=tuple(column.cell(result) for column in columns.values()),
            keys=tuple(_key(name, column, result) for name, column in columns.items()),
            said=said.get(result.variant, ""),
            rounds=tuple(pictures.rounds(result)),
            layers=tuple(pictures.layers(run, result)),
            training=pictures.training(result),
        )
        for number, result in enumerate(ordered(run), start=1)
    ]


def _profiled(run: Run, in_folder: bool) -> Iterator[Profiled]:
    """The profiles of the run, each beside that of dense, and their traces."""
    for result in one_by_one(ordered(run)):
        assert result.profile
        drawn = (roofline.roofline(run, result, frame) for frame in (roofline.WIDE, roofline.NARROW))
        yield Profiled(
            name=label(run, result.model_copy(update={"recommended": False})),
            rooflines=tuple(picture for picture in drawn if picture),
            tables=tuple(table for table in portion_tables(run, result) if table.rows),
            reasons=tuple(reasons(result)),
            facts=tuple((fact.name, fact.text) for fact in profile_facts(run, result)),
            # "./", so that no name is taken for an address.
            traces={
                side: (profile.trace, f"./{quote(profile.trace)}" if in_folder else None)
                for side, profile in beside_dense(run, result).items()
                if profile.trace
            },
        )


def _key(name: str, column: Column, result: Result) -> str | float:
    if name in METRICS:
        return result.metrics[name].value if name in result.metrics else ""
    verdict = verdict_of(result)
    if name == "points":
        return verdict.difference if verdict else ""
    text = column.cell(result)
    return "" if text == ABSENT else text


def _first_order(name: str) -> str:
    higher = name == "points" or (name in METRICS and METRICS[name].better == "higher")
    return "descending" if higher else "ascending"


def _notes(full: Report, columns: dict[str, Column], entries: list[Entry]) -> tuple[Line, ...]:
    """The notes of the report's first table, which this one extends, and every mark in it explained."""
    headers = tuple(column.header for column in columns.values())
    rows = tuple(
        Row(entry.name, entry.cells, entry.result.recommended, bool(entry.result.cached)) for entry in entries
    )
    own = tuple(note for table in full.tables[:1] for note in table.notes if note[0] not in LEGEND.values())
    (table,) = with_legend([Table("", headers, rows, own)])
    return table.notes


def _environment(run: Run) -> dict[str, list[tuple[str, str]]]:
    """Everything there is to say of the machine, as it was then."""
    every = described(run.environment).items()
    return {RENAMED.get(title, title): rows for title, rows in every if title not in OWN_PLACE}


def _classes(run: Run) -> Table:
    """How many rows of each class every split has."""
    splits = run.task.audit.splits
    names = dict.fromkeys(name for audit in splits.values() for name in audit.classes)
    rows = (
        Row(name, tuple(f"{audit.classes.get(name, 0):,}" for audit in splits.values())) for name in names
    )
    return Table("Rows by class", tuple(map(Header, splits)), tuple(rows), detail=True, first="Class")
