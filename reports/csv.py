"""Every metric of one or several runs as CSV in long form: a line for each run, result, scenario and metric.

As RFC 4180 has it: lines end with CR LF, and a cell with a comma, a quote or a line break is quoted. An
apostrophe stands before what a spreadsheet could take for a formula, where a text begins or behind a
semicolon or a line break in it. All else is exact: numbers have all their digits. A cell without a value is
empty.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping

from bench.nouns.measurement import Measurement
from bench.nouns.profile import Profile
from bench.nouns.run import Result, Run
from bench.nouns.verdict import AccuracyVerdict, SpeedVerdict
from reports.profile import kind_shares, launching_share

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
# How OWASP's "CSV injection" and its ASVS (1.2.10) say that a formula begins; full-width forms count where a
# spreadsheet's language is East Asian, and what is unseen before it may be dropped when a file is opened.
FORMULA = re.compile("[\\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\\-@＝＋－＠]")
CONTROL = re.compile("[\x00-\x1f]")
# Where the decimal point is a comma, spreadsheets take a semicolon for the end of a cell, and then, since the
# quotes are none to them, a line break for that of a line.
CELL_END = re.compile("(?<=[;\r\n])")

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
    if result.profile:
        yield from _profiled(result.profile)


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


def _profiled(profile: Profile) -> Iterator[dict[str, Cell]]:
    """Where the time of a batch goes, as lines of the scenario `profile`.

    The time of each kind of module is its share of that without the profiler, on a GPU of its busy time.
    """
    on_gpu = profile.device_time is not None
    busy_s = profile.time if profile.device_time is None else min(profile.device_time, profile.time)
    figures: list[tuple[str, float | None, str, str, bool]] = [
        ("batch_time", profile.time, "s", "wall clock", False),
        *(
            (f"{kind}_time", share * busy_s, "s", "profiler", False)
            for kind, share in kind_shares(profile).items()
        ),
        (
            "launching_share",
            launching_share(profile),
            "1",
            "profiler" if on_gpu else "least batch",
            not on_gpu,
        ),
        ("batch_flops", profile.flops, "FLOP", "count", False),
        ("batch_bytes", profile.bytes, "B", "count", False),
        ("batch_bound", profile.bound, "s", "ceilings", True),
    ]
    for metric, value, unit, source, estimated in figures:
        if value is not None:
            yield {
                "scenario": "profile",
                "metric": metric,
                "value": value,
                "unit": unit,
                "better": "lower",
                "estimated": estimated,
                "source": source,
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
        parts = [f"'{part}" if FORMULA.match(part) else part for part in CELL_END.split(cell)]
        return ("'" if CONTROL.match(parts[0]) else "") + "".join(parts)
    return repr(cell)
