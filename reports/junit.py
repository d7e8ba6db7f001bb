"""A comparison, or a run, as JUnit XML: what CI systems other than GitHub show of tests.

The format has no standard. This keeps to what Jenkins, GitLab and pytest's `--junit-xml` agree on:
`testsuites`, `testsuite` and `testcase` with `failure`, `error`, `skipped` and `system-out`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from bench.nouns.comparison import Change, Comparison
from bench.nouns.run import Result, Run
from reports import comparison as compared
from reports.names import several_seeds
from reports.parts import plain

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
# Char of XML 1.0, section 2.2: all other characters are forbidden, also where they are escaped.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def document(comparison: Comparison) -> str:
    """A test case per variant and metric; it takes no time, since what is compared was measured before.

    What the gate fails on is a failure, what it cannot compare an error, what it finds inconclusive is
    skipped. So is what no gate acts on where it is inconclusive or not comparable.
    """
    cases = [_of_change(comparison, row) for row in comparison.changes]
    if obstacles := compared.obstacles(comparison):
        cases.insert(0, _case("comparison", "comparable", error="; ".join(obstacles)))
    name = f"{comparison.before.label}, then {comparison.after.label}"
    return _document(name, comparison.after.started_at, 0.0, cases)


def of_run(run: Run) -> str:
    """A test case per variant and seed, with the seconds it took; failed or skipped ones with the reason."""
    cases = [_of_result(run, result) for result in run.results]
    spent = sum(sum(result.spent.values()) for result in run.results)
    return _document(run.task.name, run.started_at, run.wall_time.value if run.wall_time else spent, cases)


def _of_change(comparison: Comparison, row: Change) -> Element:
    name = (compared.spoken(row.metric) if row.metric else "variant") + compared.seed(comparison, row)
    said = compared.said(row)
    output = row.reason if row.change is not None else ""
    if row in comparison.failing:
        return _case(row.variant, name, output=output, failure=said)
    if row.gate == "not comparable":
        return _case(row.variant, name, output=output, error=said)
    verdict = row.gate or row.word
    if verdict in {"inconclusive", "not comparable"}:
        return _case(row.variant, name, output=output, skipped=said)
    return _case(row.variant, name, output=f"{verdict}: {row.reason}")


def _of_result(run: Run, result: Result) -> Element:
    name = f"{result.variant} (seed {result.seed})" if several_seeds(run) else result.variant
    seconds, why = sum(result.spent.values()), result.reason or "no reason was recorded"
    if result.status == "failed":
        return _case(run.task.name, name, seconds, failure=why)
    if result.status == "skipped":
        return _case(run.task.name, name, seconds, skipped=why)
    return _case(run.task.name, name, seconds)


def _case(classname: str, name: str, seconds: float = 0.0, output: str = "", **verdicts: str) -> Element:
    """A test case; `verdicts` is at most one of `failure`, `error` and `skipped`, with its message."""
    case = _element("testcase", classname=classname, name=name, time=f"{seconds:.3f}")
    case.extend(_element(verdict, message=message) for verdict, message in verdicts.items())
    if output:
        SubElement(case, "system-out").text = _allowed(output)
    return case


def _document(name: str, started_at: datetime, seconds: float, cases: Iterable[Element]) -> str:
    cases = list(cases)
    totals = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": f"{seconds:.3f}",
    }
    root = _element("testsuites", name="bench", **totals)
    timestamp = f"{started_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
    suite = _element("testsuite", name=name, timestamp=timestamp, **totals)
    suite.extend(cases)
    root.append(suite)
    indent(root)
    return DECLARATION + tostring(root, encoding="unicode") + "\n"


def _element(tag: str, **attributes: str) -> Element:
    return Element(tag, {key: _allowed(value) for key, value in attributes.items()})


def _allowed(text: str) -> str:
    """`text` on one line, of characters that XML allows."""
    return FORBIDDEN.sub(REPLACEMENT, plain(text))
