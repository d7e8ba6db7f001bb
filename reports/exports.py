"""The formats that runs and comparisons are exported in, by the names that `--export-…` has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.errors import InputError
from bench.nouns.comparison import Comparison
from bench.nouns.run import Run
from reports import content, csv, github, json, junit, latex, markdown, pytest_benchmark, side_by_side
from reports.comparison import comparison_report
from reports.parts import Report

Runs = Mapping[str, Run]
"""One run or several, each by the name it is called by; at least one."""


def report(runs: Runs) -> Report:
    """Everything there is to show of a single run; several side by side."""
    return content.report(*runs.values()) if len(runs) == 1 else side_by_side.report(runs)


def _of_one(name: str, write: Callable[[Run], str]) -> Callable[[Runs], str]:
    """A format that holds one run; several are refused."""

    def document(runs: Runs) -> str:
        if len(runs) > 1:
            raise InputError(f"--export-{name}: a file is of one run, and here are {len(runs)}; export each")
        return write(*runs.values())

    return document


FORMATS: dict[str, Callable[[Runs], str]] = {
    "markdown": lambda runs: markdown.document(report(runs)),
    "csv": csv.document,
    "json": lambda runs: json.document(*runs.values()),
    "latex": lambda runs: latex.document(report(runs)),
    "pytest-benchmark": _of_one("pytest-benchmark", pytest_benchmark.document),
    "junit": _of_one("junit", junit.of_run),
}
COMPARISON_FORMATS: dict[str, Callable[[Comparison], str]] = {
    "markdown": lambda comparison: markdown.document(comparison_report(comparison)),
    "json": lambda comparison: json.text_of(comparison) + "\n",
    "latex": lambda comparison: latex.document(comparison_report(comparison)),
    "junit": junit.document,
    "comment": github.comment,
}
