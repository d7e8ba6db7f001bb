"""What every renderer shows of a `Run`: facts, tables, lists and a conclusion, as plain text."""

from __future__ import annotations

from dataclasses import replace

from bench.nouns.run import Run
from reports.facts import facts
from reports.names import ordered
from reports.parts import Report
from reports.sections import sections
from reports.sentence import closing
from reports.tables import tables


def report(run: Run) -> Report:
    """Everything there is to show of `run`."""
    results = ordered(run)
    return Report(
        title=f"{run.task.name}: {run.task.description}",
        facts=facts(run),
        tables=tables(run, results),
        sections=sections(run, results),
        closing=closing(run),
    )


def essentials(full: Report) -> Report:
    """`full` without its details: what is worth reading on a terminal."""
    shown = (table.essential() for table in full.tables if not table.detail)
    return replace(
        full,
        facts=tuple(fact for fact in full.facts if not fact.detail),
        tables=tuple(table for table in shown if table.rows),
        sections=tuple(section for section in full.sections if not section.detail),
    )
