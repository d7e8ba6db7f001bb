"""JUnit XML: the golden document, counts that hold, verdicts as CI systems read them, hostile names."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.comparison import Comparison
from bench.nouns.run import Run
from reports import junit
from reports.parts import plain
from tests.reports.comparisons import (
    ACCURACY,
    SPEEDUP,
    comparison,
    hostile,
    mismatched,
    passing,
    ratio,
    without,
)

KINDS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def parsed(text: str) -> ElementTree.Element:
    """The one suite of a document, after a look at its totals."""
    root = ElementTree.fromstring(text.encode())
    [suite] = root
    for counted in (root, suite):
        cases = list(suite.iter("testcase"))
        assert int(counted.attrib["tests"]) == len(cases)
        for total, kind in KINDS.items():
            assert int(counted.attrib[total]) == sum(case.find(kind) is not None for case in cases)
        assert float(counted.attrib["time"]) >= 0
    return suite


def verdicts(shown: Comparison) -> dict[tuple[str, str], str]:
    """`failure`, `error`, `skipped` or `passed` by class and name of the test case."""
    found = {}
    for case in parsed(junit.document(shown)).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in KINDS.values()]
        assert len(kinds) <= 1
        found[case.attrib["classname"], case.attrib["name"]] = kinds[0] if kinds else "passed"
    return found


def test_document(golden: Callable[[str, str], None]) -> None:
    golden("junit.xml", junit.document(comparison()))


def test_what_the_gate_says_is_what_a_case_says() -> None:
    assert verdicts(comparison()) == {
        ("dense", "throughput"): "passed",
        ("bmp25", "speedup"): "failure",
        ("bmp25", "accuracy"): "skipped",
        ("bmp25", "disk size"): "passed",
        ("bmp25", "latency b1 p50"): "passed",
        ("bmp25", "peak memory host"): "passed",
        ("bmp25", "latency p50"): "skipped",
        ("bmp25", "latency p90"): "skipped",
        ("bmp:amount=0.4,block=16+kd:layers=2", "speedup"): "passed",
        ("bmp:amount=0.4,block=16+kd:layers=2", "accuracy"): "error",
        ("bmp:amount=0.4,block=16+kd:layers=2", "inference energy per sample gross"): "skipped",
        ("onnx+int8", "variant"): "failure",
        ("fisher50", "variant"): "passed",
    }


def test_a_strict_gate_fails_for_what_is_inconclusive_and_gated() -> None:
    strict = verdicts(comparison(strict=True))
    assert strict["bmp25", "accuracy"] == "failure"
    assert strict["bmp:amount=0.4,block=16+kd:layers=2", "inference energy per sample gross"] == "skipped"


def test_what_is_not_gated_is_skipped_where_it_cannot_be_compared() -> None:
    lacking = without("a", "load_time", "not comparable", "it has no interval")
    assert verdicts(passing(changes=[lacking], thresholds=[])) == {("a", "load time"): "skipped"}


@pytest.mark.parametrize("word", ["same", "worse", "inconclusive"])
def test_a_gated_row_is_judged_by_its_gate_alone(word: str) -> None:
    gated = ratio("a", "speedup", word, 2.0, 0.97, 0.02, threshold=SPEEDUP, gate="passes")
    assert verdicts(passing(changes=[gated], thresholds=[SPEEDUP])) == {("a", "speedup"): "passed"}


def test_what_keeps_runs_from_being_compared_is_one_case_with_every_reason() -> None:
    [case] = parsed(junit.document(mismatched())).iter("testcase")
    [error] = case
    assert error.attrib["message"] == "; ".join(mismatched().mismatches)


def test_a_variant_that_only_the_baseline_has_is_an_error() -> None:
    gone = without("mp", None, "not comparable", "not in nightly", gate="not comparable")
    assert verdicts(passing(changes=[*passing().changes, gone]))["mp", "variant"] == "error"


def test_a_document_is_green_only_where_the_gate_passes() -> None:
    for shown in (comparison(), passing(), mismatched(), passing(thresholds=[ACCURACY])):
        red = {"failure", "error"} & set(verdicts(shown).values())
        assert (not red) == (shown.outcome == "passes")


def test_the_message_has_the_figure_its_interval_and_what_was_allowed() -> None:
    suite = parsed(junit.document(comparison()))
    [failure] = suite.iterfind("testcase[@classname='bmp25'][@name='speedup']/failure")
    assert failure.attrib["message"] == "0.910 (0.890 to 0.930) of what it was, 5 % allowed"


def test_the_suite_says_what_was_compared_and_when() -> None:
    suite = parsed(junit.document(comparison()))
    assert suite.attrib["name"] == "main, then nightly"
    assert suite.attrib["timestamp"] == "2026-05-12T09:30:12"


def test_seeds_are_told_apart() -> None:
    rows = [row.model_copy(update={"seed": seed}) for seed in (1, 2) for row in passing().changes]
    names = [name for _, name in verdicts(passing(changes=rows))]
    assert {"speedup (seed 1)", "speedup (seed 2)"} <= set(names)


@given(st.text())
def test_any_text_is_read_back(text: str) -> None:
    shown = hostile(text)
    readable = "".join(mark if mark.isprintable() or mark == " " else "." for mark in plain(text))
    suite = parsed(junit.document(shown))
    assert len(suite) == len(shown.changes)
    for case, row in zip(suite, shown.changes, strict=True):
        name = case.attrib["classname"]
        assert len(name) == len(plain(row.variant))
        if readable == text:
            assert name == row.variant


def test_characters_that_xml_forbids_are_spelled_out_or_replaced() -> None:
    suite = parsed(junit.document(hostile("\ufffe\x00\x1b")))
    assert suite[0].attrib["classname"] == "dense\N{REPLACEMENT CHARACTER}\\x00\\x1b"


def test_of_run(run: Run) -> None:
    suite = parsed(junit.of_run(run))
    kinds = {
        case.attrib["name"]: [child.tag for child in case] for case in suite if case.attrib["name"] != "dense"
    }
    assert kinds.pop("onnx+int8") == ["failure"]
    assert kinds.pop("fisher50") == ["skipped"]
    assert set(map(tuple, kinds.values())) == {()}
    [failure] = suite.iter("failure")
    assert "out of memory while exporting layer 3" in failure.attrib["message"]
    assert {case.attrib["classname"] for case in suite} == {"ag-news"}
    assert suite.attrib["time"] == "1461.000"
    assert suite.attrib["timestamp"] == "2026-05-11T09:30:12"
    times = {case.attrib["name"]: float(case.attrib["time"]) for case in suite}
    assert times["mp"] == round(sum(next(r for r in run.results if r.variant == "mp").spent.values()), 3)
