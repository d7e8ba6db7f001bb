"""Every metric of one or several runs as CSV in long form: a line for each run, result, scenario and metric.

As RFC 4180 has it: lines end with CR LF, and a cell with a comma, a quote or a line break is quoted. A text
that a spreadsheet would take for a formula begins with an apostrophe. Numbers have all their digits; a cell
without a value is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from bench.nouns.measurement import Measurement
from bench.nouns.run import Result, Run
from bench.nouns.verdict import AccuracyVerdict, SpeedVerdict

COLUMNS = (
    "run",
    "variant",
    "seed",
    "status",
    "recommended",
    "scenario",
    "padding",
    "converged",
    "metric",
    "value",
    "unit",
    "better",
    "ci_low",
    "ci_high",
    "estimated",
    "source",
    "verdict",
    "reason",
)
# The first characters that OWASP lists under "CSV injection".
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Cell = str | float | bool | None


def document(runs: Mapping[str, Run]) -> str:
    """All `runs`, by the name that each has in the first column.

    `scenario` is empty for what holds of the result as a whole. `accuracy_difference…` is that to dense, with
    the paired bootstrap's interval. `reason` is that of the verdict; where there is no value, of its absence.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for name, run in runs.items():
        for result in run.results:
            of_result: dict[str, Cell] = {
                "run": name,
                "variant": result.variant,
                "seed": result.seed,
                "status": result.status,
                "recommended": result.recommended,
            }
            for line in _lines(result):
                writer.writerow({column: _written(cell) for column, cell in (of_result | line).items()})
    return out.getvalue()


def _lines(result: Result) -> Iterator[dict[str, Cell]]:
    """What is told of one result, each line without the columns that all its lines share."""
    if result.status != "ok":
        yield {"reason": result.reason}
    for metric, measurement in result.metrics.items():
        yield _measured(metric, measurement, result.verdicts.get(metric))
    for split, verdict in result.accuracy_kept.items():
        yield _difference(split, verdict)
    for metric, reason in result.unavailable.items():
        yield {"metric": metric, "reason": reason}
    for name, scenario in result.scenarios.items():
        how: dict[str, Cell] = {
            "scenario": name,
            "padding": scenario.padding,
            "converged": scenario.converged,
        }
        for metric, measurement in scenario.metrics.items():
            yield how | _measured(metric, measurement, scenario.verdicts.get(metric))


def _measured(metric: str, measurement: Measurement, verdict: SpeedVerdict | None) -> dict[str, Cell]:
    return {
        "metric": metric,
        "value": measurement.value,
        "unit": measurement.unit,
        "better": measurement.better,
        "ci_low": measurement.ci_low,
        "ci_high": measurement.ci_high,
        "estimated": measurement.estimated,
        "source": measurement.source,
        "verdict": verdict.word if verdict else None,
        "reason": verdict.reason if verdict else None,
    }


def _difference(split: str, verdict: AccuracyVerdict) -> dict[str, Cell]:
    rows = split.removeprefix("test").strip()
    return {
        "metric": f"accuracy_difference_{rows}" if rows else "accuracy_difference",
        "value": verdict.difference,
        "unit": "1",
        "better": "higher",
        "ci_low": verdict.bootstrap_low,
        "ci_high": verdict.bootstrap_high,
        "estimated": False,
        "source": "predictions",
        "verdict": verdict.word,
        "reason": verdict.reason,
    }


def _written(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(FORMULA) else cell
    return repr(cell)
