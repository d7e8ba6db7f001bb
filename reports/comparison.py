"""A comparison as plain text for any renderer: what changed since, why, and whether the gate lets it pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from bench.nouns.comparison import MARKS, Change, ChangeWord, Comparison, GateWord, Side, Threshold
from reports.columns import SHOWN
from reports.numbers import HUNDREDTHS, PLAIN, Interval, counted, quantity, spread
from reports.parts import ABSENT, Fact, Header, Line, Name, Report, Row, Section, Table

MEANINGS: dict[ChangeWord, str] = {
    "worse": "worse, beyond the margin",
    "better": "better, beyond the margin",
    "same": "same, within the margin",
    "inconclusive": "inconclusive, across the margin",
    "not comparable": "not comparable",
    "newly failing": "newly failing",
    "fixed": "fixed",
}
GATES: dict[GateWord, str] = {
    "passes": "the gate passes",
    "fails": "the gate fails",
    "inconclusive": "the gate is inconclusive",
    "not comparable": "the gate cannot tell",
}
FIGURES = (Header("Before"), Header("After"), Header("Change"))
WORDS = (Header("Verdict", numeric=False), Header("Gate", numeric=False))
NAMED = 3
LEAST_ALLOWED = 0.01


def comparison_report(comparison: Comparison) -> Report:
    """Everything there is to show of `comparison`.

    Its essentials are what changed, what cannot be told and what the gate acts on.
    """
    return Report(
        title=f"{comparison.before.label}, then {comparison.after.label}",
        facts=tuple(_facts(comparison)),
        tables=tuple(_tables(comparison)),
        sections=_sections(comparison),
        closing=closing(comparison),
    )


def closing(comparison: Comparison) -> Line:
    """Whether the gate passes, and if not, what keeps it from passing."""
    if comparison.mismatches:
        return (f"The two cannot be compared: {'; '.join(comparison.mismatches)}.",)
    if comparison.failing:
        return ("The gate fails: ", *_listed(comparison, comparison.failing), ".")
    if not comparison.thresholds:
        return ("Nothing is gated: no threshold is set; add --fail-on, as in --fail-on speedup:5%.",)
    if comparison.outcome == "not comparable":
        unknown = [row for row in comparison.changes if row.gate == "not comparable"]
        return ("The gate cannot tell: ", *(_listed(comparison, unknown) or obstacles(comparison)), ".")
    gated = [row for row in comparison.changes if row.gate]
    open_ones = sum(row.gate == "inconclusive" for row in gated)
    doubt = f", {open_ones} of them inconclusive" if open_ones else ""
    return (f"The gate passes: {counted(len(gated), 'figure')} held to a threshold{doubt}.",)


def obstacles(comparison: Comparison) -> list[str]:
    """What keeps the whole from being judged, beside single rows: mismatches, a gated metric nobody has."""
    present = {row.metric for row in comparison.changes}
    absent = [spoken(each.metric) for each in comparison.unjudged if each.metric not in present]
    return comparison.mismatches or ([f"no variant has {', '.join(absent)}"] if absent else [])


def by_severity(rows: Iterable[Change]) -> list[Change]:
    """The rows somebody must look at, the worst first.

    What fails the gate, variants that fail now, what the gate cannot compare, what it finds inconclusive, and
    what became worse without a gate; of each kind what exceeds its threshold, or margin, most.
    """
    ranked = [(rank, row) for row in rows if (rank := _rank(row)) is not None]
    return [row for _, row in sorted(ranked, key=lambda pair: (pair[0], -_excess(pair[1])))]


def subject(comparison: Comparison, row: Change) -> Line:
    """What a row is about: the variant, its seed where there are several, and the metric."""
    return (Name(row.variant), seed(comparison, row), f" {spoken(row.metric)}" if row.metric else "")


def seed(comparison: Comparison, row: Change) -> str:
    """` (seed 2)` where the changes are of more than one seed."""
    several = len({change.seed for change in comparison.changes}) > 1
    return f" (seed {row.seed})" if several else ""


def spoken(metric: str) -> str:
    """A metric's name in words."""
    return metric.replace("_", " ")


def headed(row: Change) -> str:
    """The metric as a table names it, with the unit of figures that are written without one."""
    assert row.metric
    return spoken(row.metric) + (", %" if row.difference else "")


def figures(row: Change) -> tuple[str, str, str]:
    """Before, after and the change with its interval, as `FIGURES` heads them."""
    return _value(row, row.before), _value(row, row.after), _change(row)


def words(row: Change) -> tuple[str, str]:
    """The verdict and what the gate says, as `WORDS` heads them."""
    return row.word, row.gate or ABSENT


def said(row: Change) -> str:
    """`0.910 (0.890 to 0.930) of what it was, 5 % allowed`; without a change the word and the reason."""
    if row.change is None:
        return f"{row.word}: {row.reason}"
    interval = _interval(row)
    write = _points if row.difference else spread
    reach = f" ({write(interval[0])} to {write(interval[1])})" if interval else ""
    allowed = f", {amount(row.threshold)} allowed" if row.threshold else ""
    return f"{write(row.change)}{reach} {'points' if row.difference else 'of what it was'}{allowed}"


def amount(threshold: Threshold) -> str:
    """How much worse a metric may become: `5 %`, `1 point`."""
    allowed = 100 * threshold.amount
    return counted(allowed, "point") if threshold.points else f"{allowed:g} %"


def is_shown(row: Change) -> bool:
    """Whether a row is essential: it changed, may have changed, or the gate acts on it."""
    return row.word not in {"same", "not comparable"} or row.gate is not None


def decisive_first(rows: Iterable[Change]) -> list[Change]:
    """The rows that the outcome rests on, then the others, each in their own order."""
    return sorted(rows, key=lambda row: row.gate is None and row.word != "newly failing")


def _facts(comparison: Comparison) -> Iterator[Fact]:
    before, after = comparison.before, comparison.after
    yield Fact("Before", _side(before))
    yield Fact("After", _side(after))
    if before.machine_key == after.machine_key:
        yield Fact("Machine", f"{before.machine_key}, both")
    else:
        yield Fact("Machine", f"{before.machine_key}, then {after.machine_key}")
    if comparison.relative:
        yield Fact("Figures", "each over that of its own dense")
    if comparison.thresholds:
        yield Fact("Gate", _gate(comparison))
    counts = Counter(row.word for row in comparison.changes)
    if counts:
        yield Fact("Changes", ", ".join(f"{counts[word]} {word}" for word in MARKS if counts[word]))
        yield Fact("Marks", "; ".join(f"{MARKS[word]} {MEANINGS[word]}" for word in MARKS if counts[word]))
        yield Fact("Change", _how(comparison))


def _side(side: Side) -> str:
    commit = f"commit {side.commit}" if side.commit else "no commit recorded"
    return f"{side.label}, run {side.run}, {side.started_at:%Y-%m-%d %H:%M %Z}".rstrip() + f", {commit}"


def _gate(comparison: Comparison) -> str:
    allowed = ", ".join(f"{spoken(each.metric)} {amount(each)}" for each in comparison.thresholds)
    across = (
        "so does one whose interval reaches across it (--strict)"
        if comparison.strict
        else "one whose interval reaches across it passes (--strict fails it)"
    )
    return f"fails what is worse by more than: {allowed}; {across}"


def _how(comparison: Comparison) -> str:
    """How the column of that name is to be read."""
    kinds = {row.difference for row in comparison.changes if row.change is not None}
    ways = {False: "after over before", True: "with a sign: after less before, in points"}
    return "; ".join(way for kind, way in ways.items() if kind in kinds) or "none could be had"


def _tables(comparison: Comparison) -> Iterator[Table]:
    """Variants that have no figures, then for each variant the essential rows, and as details the rest."""
    bare = [row for row in comparison.changes if row.metric is None]
    if bare:
        rows = (Row(_label(row, row.variant + seed(comparison, row)), words(row)) for row in bare)
        yield Table("Variants without figures", WORDS, tuple(rows))
    measured = [row for row in comparison.changes if row.metric is not None]
    variants = [list(rows) for _, rows in groupby(measured, lambda row: (row.variant, row.seed))]
    for shown in (True, False):
        for rows_of_one in variants:
            if chosen := [row for row in rows_of_one if is_shown(row) is shown]:
                yield _table(comparison, chosen, detail=not shown)


def _table(comparison: Comparison, rows: list[Change], detail: bool) -> Table:
    title = f"{rows[0].variant}{seed(comparison, rows[0])}{', the rest' if detail else ''}"
    lines = (Row(_label(row, headed(row)), (*figures(row), *words(row))) for row in decisive_first(rows))
    return Table(title, FIGURES + WORDS, tuple(lines), detail=detail, first="Metric")


def _label(row: Change, text: str) -> str:
    return f"{row.mark} {text}"


def _sections(comparison: Comparison) -> tuple[Section, ...]:
    rows = decisive_first(comparison.changes)
    told = [row for row in rows if _is_told(row)]
    rest = [row for row in rows if not _is_told(row)]
    found = (
        Section("Cannot be compared", _lines(comparison.mismatches)),
        Section("Reasons", tuple(_reasons(comparison, told))),
        Section("Reasons of the rest", tuple(_reasons(comparison, rest)), detail=True),
        Section("What differs besides", _lines(comparison.differences)),
        Section("On one side only", _lines(comparison.unmatched)),
        Section("Notes", _lines(comparison.notes)),
    )
    return tuple(section for section in found if section.lines)


def _lines(texts: list[str]) -> tuple[Line, ...]:
    return tuple((text,) for text in texts)


def _is_told(row: Change) -> bool:
    """Whether the reason of a row is essential, too: where a gate does not pass it, or there is no figure."""
    return row.gate not in (None, "passes") or row.metric is None


def _reasons(comparison: Comparison, rows: list[Change]) -> Iterator[Line]:
    """One line for each reason: what it is the reason of, and what was said of it."""
    alike: dict[tuple[str, str | None, str], list[Change]] = {}
    for row in rows:
        alike.setdefault((row.word, row.gate, row.reason), []).append(row)
    for (word, _, reason), same in alike.items():
        gate = f", {GATES[same[0].gate]}" if same[0].gate else ""
        yield (*_joined([subject(comparison, row) for row in same], ", "), f", {word}{gate}: {reason}")


def _joined(lines: list[Line], between: str) -> Line:
    parts = [part for line in lines for part in (between, *line)]
    return tuple(parts[1:])


def _listed(comparison: Comparison, rows: list[Change]) -> Line:
    """The worst few, each with its figure, and how many more there are."""
    worst = by_severity(rows)
    parts = _joined([(*subject(comparison, row), f" {said(row)}") for row in worst[:NAMED]], "; ")
    more = len(worst) - NAMED
    return (*parts, f"; and {more} more") if more > 0 else parts


def _rank(row: Change) -> int | None:
    """How bad a row is, 0 the worst; None where nobody has to look."""
    grades = (
        row.gate == "fails",
        row.word == "newly failing",
        row.gate == "not comparable",
        row.gate == "inconclusive",
        row.gate is None and row.word == "worse",
    )
    return grades.index(True) if any(grades) else None


def _excess(row: Change) -> float:
    """By how many times its threshold, or margin, a figure changed; half is as far away as twice.

    Counts have no margin: theirs is taken to be `LEAST_ALLOWED`.
    """
    if row.change is None:
        return 0.0
    allowed = row.threshold.amount if row.threshold else row.margin or 0.0
    distance = row.change if row.difference else math.log(row.change)
    return abs(distance) / max(allowed, LEAST_ALLOWED)


def _value(row: Change, value: float | None) -> str:
    if value is None:
        return ABSENT
    if row.difference:
        return quantity(value, HUNDREDTHS)
    if row.metric in SHOWN:
        return quantity(value, SHOWN[row.metric].ladder)
    return f"{quantity(value, PLAIN)} {row.unit if row.unit != '1' else ''}".rstrip()


def _change(row: Change) -> str:
    if row.change is None:
        return ABSENT
    return _points(row.change, _interval(row)) if row.difference else spread(row.change, _interval(row))


def _points(share: float, interval: Interval | None = None) -> str:
    """A difference of shares in percentage points, with its sign."""
    scaled = (100 * interval[0], 100 * interval[1]) if interval else None
    return ("+" if share > 0 else "") + spread(100 * share, scaled)


def _interval(row: Change) -> Interval | None:
    """The interval, or None where the change is exact."""
    return None if row.low is None or row.high is None or row.low == row.high else (row.low, row.high)
