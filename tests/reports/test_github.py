"""GitHub: the golden comment, limits, the worst annotations first, and nothing from outside that acts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.nouns.comparison import Comparison
from bench.nouns.run import Run
from reports import github
from tests.reports.comparisons import (
    ACCURACY,
    SPEEDUP,
    comparison,
    hostile,
    mismatched,
    passing,
    points,
    ratio,
    without,
)


def many(rows: int, name: str = "variant") -> Comparison:
    """A comparison in which that many variants fail the gate, each a little more than the one before."""
    return comparison(
        thresholds=[SPEEDUP],
        changes=[
            ratio(
                f"{name}{number}",
                "speedup",
                "worse",
                2.0,
                0.9 - number / 1e5,
                0.001,
                threshold=SPEEDUP,
                gate="fails",
            )
            for number in range(rows)
        ],
    )


def unescaped(command: str) -> tuple[str, str, str]:
    """Level, title and message of a workflow command, as GitHub's runner reads them."""
    found = re.fullmatch(r"::(error|warning|notice) title=([^:,\r\n]*)::([^\r\n]*)", command)
    assert found, command
    title, message = (
        re.sub("%(0D|0A|3A|2C|25)", lambda code: chr(int(code[1], 16)), text) for text in found.groups()[1:]
    )
    return found[1], title, message


def test_comment(golden: Callable[[str, str], None]) -> None:
    golden("github-comment.md", github.comment(comparison()))


def test_the_comment_is_the_summary_under_a_marker() -> None:
    assert github.comment(comparison()) == f"{github.MARKER}\n\n{github.summary(comparison())}"


def test_gated_rows_stand_first_and_what_is_the_same_is_folded_away() -> None:
    shown, _, folded = github.summary(comparison()).partition("<details>")
    gates = [line.rstrip(" |").rpartition(" ")[2] for line in shown.splitlines() if "| bmp" in line]
    assert "–" in gates
    assert set(gates[gates.index("–") :]) == {"–"}
    assert "peak memory host" not in shown
    assert "peak memory host" in folded


def test_every_fold_is_closed() -> None:
    for shown in (comparison(), passing(), mismatched()):
        text = github.summary(shown)
        assert text.count("<details><summary>") == text.count("</details>") >= 1


@pytest.mark.parametrize(
    ("rows", "name", "cut"),
    [(1, "a", (False, False)), (1000, "a", (True, False)), (400, "a" * 4000, (True, True))],
)
def test_limits_are_kept_and_what_is_left_out_is_said(rows: int, name: str, cut: tuple[bool, bool]) -> None:
    comment, summary = (write(many(rows, name)) for write in (github.comment, github.summary))
    assert len(comment) <= 65_536
    assert len(summary.encode()) <= 1024 * 1024
    for text, is_cut in zip((comment, summary), cut, strict=True):
        assert ("for which there is no room here" in text) == is_cut
        assert text.count("<details>") == text.count("</details>") == 1


def test_names_too_long_for_any_table_leave_the_outcome() -> None:
    comment = github.comment(many(20, "x" * 50_000))
    assert len(comment) <= 65_536
    assert comment.startswith(github.MARKER)
    assert "**fails**" in comment


@pytest.mark.parametrize(
    "text",
    [
        "@someone",
        "a@b.example",
        "#12 owner/name#12 GH-12",
        "https://github.com/owner/name/issues/1 www.example.org",
        "a|b",
        "<img src=x onerror=alert(1)></details>",
        "-->",
        "![x](y) [x](y) `x` *x* _x_",
        "two\nlines\n\n# heading",
    ],
)
@pytest.mark.parametrize("write", [github.comment, github.summary])
def test_text_from_outside_never_acts(write: Callable[[Comparison], str], text: str) -> None:
    out = write(hostile(text))
    bare = re.sub(r"\\.", "", out.replace(github.MARKER, ""))
    assert not re.search(r"@\w|#\d|GH-\d|://|www\.|\[", bare)
    assert set(re.findall(r"</?\w+", bare)) == {"<details", "</details", "<summary", "</summary"}
    assert len(out.splitlines()) == len(write(hostile("harmless")).splitlines())


@pytest.mark.parametrize(
    "name", ["load:https://hub.example/org/name", "load:www.example.org", "load:./GH-12/x", "load:org/name"]
)
def test_a_name_in_code_can_be_copied(name: str) -> None:
    gone = without(name, None, "not comparable", "gone", gate="not comparable")
    assert f"`{name}`" in github.comment(passing(changes=[gone]))


def test_what_looks_like_code_but_is_not_stays_inert() -> None:
    text = "\\`@someone` https://example.org"
    gone = without(text, None, "not comparable", text, gate="not comparable")
    out = github.comment(passing(changes=[gone]))
    assert not re.search(r"@\w|://", out)


def test_a_variant_that_only_the_baseline_has_is_an_error_and_a_row() -> None:
    gone = without("mp", None, "not comparable", "not in nightly", gate="not comparable")
    shown = passing(changes=[*passing().changes, gone])
    assert ("error", "mp: the gate cannot tell", "not comparable: not in nightly") in map(
        unescaped, github.annotations(shown)
    )
    assert "| x | mp | – |" in github.summary(shown).partition("<details>")[0]


def test_commands_are_stopped_and_resumed_by_the_same_token() -> None:
    assert github.stop("5f1a") == "::stop-commands::5f1a"
    assert github.resume("5f1a") == "::5f1a::"


def test_annotations_are_the_worst_ten() -> None:
    found = [unescaped(line) for line in github.annotations(many(12))]
    assert [title for _, title, _ in found] == [
        f"variant{number} speedup: the gate fails" for number in range(11, 1, -1)
    ]
    assert {level for level, _, _ in found} == {"error"}


def test_the_level_says_what_makes_the_command_fail() -> None:
    levels = {title: level for level, title, _ in map(unescaped, github.annotations(comparison()))}
    assert levels == {
        "bmp25 speedup: the gate fails": "error",
        "onnx+int8: newly failing": "error",
        "bmp:amount=0.4,block=16+kd:layers=2 accuracy: the gate cannot tell": "error",
        "bmp25 accuracy: the gate is inconclusive": "warning",
        "bmp25 latency b1 p50: worse": "notice",
    }
    strict = {title: level for level, title, _ in map(unescaped, github.annotations(comparison(strict=True)))}
    assert strict["bmp25 accuracy: the gate is inconclusive"] == "error"


@pytest.mark.parametrize(
    "shown",
    [
        mismatched(),
        passing(thresholds=[ACCURACY]),
        passing(changes=[without("a", "accuracy", "not comparable", "gone", gate="not comparable")]),
        passing(changes=[points("a", "accuracy", "worse", 0.9, -0.1, 0.01, gate="fails")]),
    ],
)
def test_whatever_does_not_pass_has_an_error(shown: Comparison) -> None:
    assert shown.outcome != "passes"
    assert "error" in {unescaped(line)[0] for line in github.annotations(shown)}


def test_what_passes_has_no_error() -> None:
    assert passing().outcome == "passes"
    assert "error" not in {unescaped(line)[0] for line in github.annotations(passing())}


@given(st.text())
@example("100 %25, a:b\r\n::error::x")
def test_an_annotation_is_one_line_whatever_is_in_it(text: str) -> None:
    for line in github.annotations(hostile(text)):
        assert len(line.splitlines()) == 1
        _, title, message = unescaped(line)
        assert "%25" not in title + message or "%25" in text


def test_the_summary_of_a_run_is_its_conclusion_first_table_and_failures(run: Run) -> None:
    out = github.summary_of_run(run)
    assert out.startswith("## ag-news: English news, four topics\n\n**`bmp25+kd+mp` is 3.10")
    assert out.count("| Variant |") == 1
    assert "`fisher50` skipped: fisher cannot prune DebertaV2 (deberta-v2)" in out
    assert len(out) < 4000
