"""CSV: the golden table, every metric read back exactly, and no cell that a spreadsheet would calculate."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.measurement import METRICS, Measurement
from bench.nouns.run import Result, Run, Scenario
from reports import csv as report
from tests.bench.meters.documents import run_of

STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
SPACES = "".join(filter(str.isspace, map(chr, range(0x110000))))
CONTROLS = "".join(map(chr, range(0x20)))
UNSEEN = SPACES + CONTROLS + "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
CELL_ENDS = re.compile("(?<=[;\r\n])")
NUMBERS = {"seed", "value", "ci_low", "ci_high"}


def measurement(interval: tuple[float, float] | None, **fields: Any) -> Measurement:
    """A measurement with both ends of an interval, or with neither."""
    low, high = sorted(interval) if interval else (None, None)
    return Measurement(ci_low=low, ci_high=high, **fields)


numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text(st.sampled_from([*STARTS, *UNSEEN, "a", "1", ",", ";"]), max_size=4),
)
metrics = st.dictionaries(
    st.sampled_from(sorted(METRICS)),
    st.builds(
        measurement,
        value=numbers,
        unit=texts,
        better=st.sampled_from(["higher", "lower"]),
        interval=st.none() | st.tuples(numbers, numbers),
        source=texts,
        estimated=st.booleans(),
    ),
    max_size=4,
)
scenarios = st.builds(Scenario, batch_size=st.just(1), padding=texts, metrics=metrics)
results = st.builds(
    Result,
    variant=texts,
    seed=st.integers(0, 3),
    status=st.sampled_from(["ok", "failed", "skipped"]),
    reason=st.none() | texts,
    metrics=metrics,
    unavailable=st.dictionaries(st.sampled_from(sorted(METRICS)), texts, max_size=2),
    scenarios=st.dictionaries(texts.filter(bool), scenarios, max_size=2),
)
several = st.lists(results, max_size=3, unique_by=lambda result: (result.variant, result.seed))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def guarded(text: str) -> str:
    first, *others = CELL_ENDS.split(text)
    others = [f"'{part}" if begins_one(part) else part for part in others]
    return "".join(["'" if begins_one(first) or "\0" <= text[:1] < " " else "", first, *others])


def is_formula(text: str) -> bool:
    """Whether a spreadsheet could take any of it for one, also where it ends cells by semicolons."""
    return any(map(begins_one, CELL_ENDS.split(text))) or "\0" <= text[:1] < " "


def begins_one(text: str) -> bool:
    return text.lstrip(UNSEEN).startswith(STARTS)


def table(run: Run) -> list[dict[str, str]]:
    return read(report.document({"one": run}))


def test_csv(run: Run, golden: Callable[[str, str], None]) -> None:
    text = report.document({"quick": run})
    assert text.count("\r\n") == text.count("\n") == 1 + len(read(text))
    golden("runs.csv", text.replace("\r\n", "\n"))


@given(several)
def test_every_metric_is_read_back_exactly(results: list[Result]) -> None:
    read_back = {
        (row["variant"], int(row["seed"]), row["scenario"], row["metric"]): (
            float(row["value"]),
            *(float(row[end]) if row[end] else None for end in ("ci_low", "ci_high")),
            row["unit"],
            row["better"],
            row["source"],
            row["estimated"] == "true",
        )
        for row in table(run_of(*results))
        if row["value"]
    }
    assert read_back == {
        (guarded(result.variant), result.seed, guarded(scenario), name): (
            metric.value,
            metric.ci_low,
            metric.ci_high,
            guarded(metric.unit),
            metric.better,
            guarded(metric.source),
            metric.estimated,
        )
        for result in results
        for scenario, metrics in {
            "": result.metrics,
            **{name: held.metrics for name, held in result.scenarios.items()},
        }.items()
        for name, metric in metrics.items()
    }


@given(several)
def test_no_text_is_a_formula_and_no_line_is_lost(results: list[Result]) -> None:
    rows = table(run_of(*results))
    for row in rows:
        assert set(row) == set(report.COLUMNS)
        for column, cell in row.items():
            assert column in NUMBERS or not is_formula(cell)
    left_out = [row for row in rows if not row["metric"]]
    assert [(row["variant"], row["status"], row["reason"]) for row in left_out] == [
        (guarded(result.variant), result.status, guarded(result.reason or ""))
        for result in results
        if result.status != "ok"
    ]


def test_a_metric_that_could_not_be_had_has_its_reason_and_no_value(run: Run) -> None:
    rows = [row for row in table(run) if row["variant"] == "mp" and row["metric"] == "training_speedup"]
    assert [(row["value"], row["reason"]) for row in rows] == [("", "nothing is trained")]


def test_verdicts_stand_beside_what_they_judge(run: Run) -> None:
    rows = {row["metric"]: row for row in table(run) if row["variant"] == "mp" and not row["scenario"]}
    assert (rows["speedup"]["verdict"], rows["accuracy_difference"]["verdict"]) == ("slower", "inconclusive")
    assert float(rows["accuracy_difference"]["value"]) == -0.0071
    assert rows["accuracy_difference_validation"]["verdict"] == "inconclusive"


def test_several_runs_are_told_apart(run: Run, sixteen: Run) -> None:
    rows = read(report.document({"=first": run, "second": sixteen}))
    assert {row["run"] for row in rows} == {"'=first", "second"}
    assert {row["variant"] for row in rows if row["run"] == "second"} == {r.variant for r in sixteen.results}
