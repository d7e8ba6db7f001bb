"""A comparison as a report: the goldens, what is essential in it, and what its closing line says."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench.nouns.comparison import MARKS, Comparison, Threshold
from reports import console, latex, markdown
from reports.comparison import by_severity, comparison_report, said
from reports.content import essentials
from reports.parts import Line
from tests.reports.comparisons import (
    ACCURACY,
    SPEEDUP,
    changes,
    comparison,
    mismatched,
    passing,
    points,
    ratio,
    without,
)

MORE = "More in the run folder"


def printed(shown: Comparison, width: int = 80) -> str:
    out = io.StringIO()
    console.lay_out(essentials(comparison_report(shown)), Console(file=out, width=width), MORE)
    return out.getvalue()


def closing(shown: Comparison) -> str:
    line: Line = comparison_report(shown).closing
    return "".join(line)


def facts(shown: Comparison) -> dict[str, str]:
    return {fact.name: fact.text for fact in comparison_report(shown).facts}


def test_console_at_80_columns(golden: Callable[[str, str], None]) -> None:
    golden("comparison-80.txt", printed(comparison()))


def test_runs_that_do_not_belong_together_at_80_columns(golden: Callable[[str, str], None]) -> None:
    golden("comparison-80-mismatched.txt", printed(mismatched()))


def test_markdown(golden: Callable[[str, str], None]) -> None:
    golden("comparison.md", markdown.document(comparison_report(comparison())))


def test_latex(golden: Callable[[str, str], None]) -> None:
    golden("comparison.tex", latex.document(comparison_report(comparison())))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_line_fits(width: int) -> None:
    assert max(map(cell_len, printed(comparison(), width).splitlines())) <= width


def test_the_tables_of_a_usual_comparison_are_not_cut_at_80_columns() -> None:
    assert "continued" not in printed(comparison())


def test_every_change_is_in_exactly_one_row() -> None:
    tables = comparison_report(comparison()).tables
    assert sum(len(table.rows) for table in tables) == len(changes())


def test_what_says_nothing_is_a_detail_unless_the_gate_acts_on_it() -> None:
    shown = essentials(comparison_report(comparison()))
    labels = [row.label for table in shown.tables for row in table.rows]
    assert "= disk size" in labels
    assert "x accuracy, %" in labels
    assert not {"= peak memory host", "= throughput", "x latency p50"} & set(labels)


def test_a_reason_that_several_figures_share_is_given_once() -> None:
    [line] = [
        "".join(line)
        for section in comparison_report(comparison()).sections
        for line in section.lines
        if "disturbed machine" in "".join(line)
    ]
    assert line == (
        "bmp25 latency p50, bmp25 latency p90, not comparable: absolute figures of a disturbed machine"
    )


def test_only_the_marks_that_occur_are_explained() -> None:
    words = {row.word for row in passing().changes}
    explained = facts(passing())["Marks"].split("; ")
    assert {text[0] for text in explained} == {MARKS[word] for word in words}


def test_a_change_of_accuracy_is_in_points_and_a_ratio_has_no_unit() -> None:
    assert said(points("a", "accuracy", "worse", 0.9, -0.0234, 0.004)) == "−2.34 (−2.74 to −1.94) points"
    assert said(ratio("a", "speedup", "worse", 2.0, 0.91, 0.02, threshold=SPEEDUP, gate="fails")) == (
        "0.910 (0.890 to 0.930) of what it was, 5 % allowed"
    )


def test_an_exact_change_has_no_interval() -> None:
    assert said(ratio("a", "disk_size", "better", 9e6, 0.5, 0.0)) == "0.500 of what it was"


@pytest.mark.parametrize(
    ("threshold", "allowed"),
    [
        (SPEEDUP, "speedup 5 %"),
        (ACCURACY, "accuracy 1 point"),
        (Threshold(metric="disk_size", amount=0.125), "disk size 12.5 %"),
        (Threshold(metric="accuracy", amount=0.005, points=True), "accuracy 0.5 points"),
    ],
)
def test_what_is_allowed_is_said_as_it_was_asked_for(threshold: Threshold, allowed: str) -> None:
    assert f": {allowed};" in facts(comparison(thresholds=[threshold]))["Gate"]


def test_whether_the_gate_is_strict_is_said() -> None:
    assert "passes (--strict fails it)" in facts(comparison())["Gate"]
    assert "so does one whose interval" in facts(comparison(strict=True))["Gate"]


def test_the_closing_names_what_fails_with_its_interval_and_what_was_allowed() -> None:
    assert closing(comparison()) == (
        "The gate fails: bmp25 speedup 0.910 (0.890 to 0.930) of what it was, 5 % allowed; "
        "onnx+int8 newly failing: RuntimeError: out of memory while exporting layer 3."
    )


def test_a_strict_gate_fails_for_what_is_inconclusive() -> None:
    assert "bmp25 accuracy −0.840" in closing(comparison(strict=True))


def test_the_closing_names_three_and_counts_the_rest() -> None:
    rows = [
        ratio(
            f"v{number}", "speedup", "worse", 2.0, 0.9 - number / 100, 0.01, threshold=SPEEDUP, gate="fails"
        )
        for number in range(5)
    ]
    said_of_five = closing(comparison(changes=rows))
    assert [name for name in ("v0", "v1", "v2", "v3", "v4") if name in said_of_five] == ["v2", "v3", "v4"]
    assert said_of_five.endswith("; and 2 more.")


def test_a_gate_that_passes_says_how_much_it_held_and_what_is_open() -> None:
    assert closing(passing()) == "The gate passes: 2 figures held to a threshold."
    doubtful = points(
        "a", "accuracy", "inconclusive", 0.9, -0.005, 0.01, threshold=ACCURACY, gate="inconclusive"
    )
    assert closing(passing(changes=[*passing().changes, doubtful])) == (
        "The gate passes: 3 figures held to a threshold, 1 of them inconclusive."
    )


def test_without_a_threshold_nothing_is_gated() -> None:
    rows = [row.model_copy(update={"gate": None, "threshold": None}) for row in passing().changes]
    assert closing(passing(changes=rows, thresholds=[])).startswith("Nothing is gated")


def test_a_figure_that_is_not_there_does_not_pass() -> None:
    lacking = without(
        "a", "accuracy", "not comparable", "no predictions", threshold=ACCURACY, gate="not comparable"
    )
    assert closing(passing(changes=[*passing().changes, lacking])) == (
        "The gate cannot tell: a accuracy not comparable: no predictions."
    )


def test_a_threshold_on_what_no_variant_has_does_not_pass() -> None:
    assert closing(passing(thresholds=[*passing().thresholds, ACCURACY])) == (
        "The gate cannot tell: no variant has accuracy."
    )


def test_runs_that_do_not_belong_together_have_no_table_and_say_why() -> None:
    report = comparison_report(mismatched())
    assert report.tables == ()
    assert closing(mismatched()) == (
        "The two cannot be compared: machine: dc52a33a7e70, then 0011223344ff; use --relative; "
        "protocol: 2, then 3."
    )


def test_the_worst_comes_first() -> None:
    names = [(row.variant, row.gate or row.word) for row in by_severity(changes())]
    assert [what for _, what in names] == [
        "fails",
        "newly failing",
        "not comparable",
        "inconclusive",
        "worse",
    ]


def test_of_two_that_fail_the_one_further_beyond_its_threshold_is_worse() -> None:
    slower = ratio("a", "speedup", "worse", 2.0, 0.9, 0.01, threshold=SPEEDUP, gate="fails")
    wronger = points("b", "accuracy", "worse", 0.9, -0.05, 0.01, threshold=ACCURACY, gate="fails")
    assert [row.variant for row in by_severity([slower, wronger])] == ["b", "a"]


def test_half_is_as_far_from_what_it_was_as_twice() -> None:
    def worst(slower: float, heavier: float) -> str:
        rows = [
            ratio("slower", "speedup", "worse", 2.0, slower, 0.0, threshold=SPEEDUP, gate="fails"),
            ratio("heavier", "peak_memory_host", "worse", 2.0, heavier, 0.0, threshold=SPEEDUP, gate="fails"),
        ]
        return by_severity(rows)[0].variant

    assert worst(0.5, 1.9) == "slower"
    assert worst(0.5, 2.1) == "heavier"


def test_a_count_without_a_margin_is_ranked_by_how_much_it_changed() -> None:
    rows = [
        ratio("slightly", "disk_size", "worse", 9e6, 1.0001, 0.0, margin=0.0),
        ratio("slower", "speedup", "worse", 2.0, 0.9, 0.01),
        ratio("greatly", "disk_size", "worse", 9e6, 2.0, 0.0, margin=0.0),
    ]
    assert [row.variant for row in by_severity(rows)] == ["greatly", "slower", "slightly"]


def test_a_variant_that_only_the_baseline_has_is_shown_and_cannot_be_told() -> None:
    gone = without("mp", None, "not comparable", "not in nightly", gate="not comparable")
    shown = passing(changes=[*passing().changes, gone])
    assert closing(shown) == "The gate cannot tell: mp not comparable: not in nightly."
    assert "x mp" in printed(shown)


def test_seeds_are_told_apart() -> None:
    rows = [row.model_copy(update={"seed": seed}) for seed in (1, 2) for row in passing().changes]
    titles = [table.title for table in comparison_report(passing(changes=rows)).tables]
    assert "bmp25 (seed 1)" in titles
    assert "bmp25 (seed 2)" in titles
    assert "bmp25" in [table.title for table in comparison_report(passing()).tables]
