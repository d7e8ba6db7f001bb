"""Markdown: the golden document, and no text from the user that acts as markup."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from bench.nouns.audit import DataAudit, SplitAudit
from bench.nouns.environment import Caution
from bench.nouns.run import Run
from bench.nouns.verdict import AccuracyVerdict
from reports import markdown
from reports.content import report


def hostile(run: Run, text: str) -> Run:
    """`run` with `text` wherever a user's or a library's words can stand."""
    results = [
        result.model_copy(
            update={
                "variant": f"{result.variant}{text}",
                "notes": [text],
                "unavailable": {"latency_p95": text},
                "accuracy_kept": {split: renamed(v, text) for split, v in result.accuracy_kept.items()},
                "reason": text if result.status != "ok" else None,
            }
        )
        for result in run.results
    ]
    audit = DataAudit(
        splits={text: SplitAudit(rows=9, duplicates=1, conflicting=1, classes={text: 9})}, removed={text: 1}
    )
    task = run.task.model_copy(
        update={"name": text, "description": text, "notes": [text], "model": text, "audit": audit}
    )
    warning = Caution(code="steal", text=text, remedy=text)
    environment = run.environment.model_copy(update={"warnings": [warning]})
    return run.model_copy(update={"results": results, "task": task, "environment": environment})


def renamed(verdict: AccuracyVerdict, text: str) -> AccuracyVerdict:
    """`verdict` with `text` as its reason and in every class's name."""
    classes = [change.model_copy(update={"label": f"{change.label}{text}"}) for change in verdict.classes]
    return verdict.model_copy(update={"classes": classes, "reason": text})


def test_markdown(run: Run, golden: Callable[[str, str], None]) -> None:
    golden("report.md", markdown.render(run))


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "<script>alert(1)</script>",
        "`code",
        "two\nlines\r\n\n# heading",
        "*strong* _em_ ~struck~ $x$",
        "![image](http://example.org/x.png)",
        "&lt;",
    ],
)
def test_text_from_outside_never_acts_as_markup(run: Run, text: str) -> None:
    out = markdown.render(hostile(run, text))
    plain_lines = len(markdown.render(hostile(run, "harmless")).splitlines())
    assert len(out.splitlines()) == plain_lines
    assert "<" not in out
    bare = re.sub(r"\\.", "", out)
    assert "![" not in bare
    assert "$" not in bare
    assert "~" not in bare
    assert "_em_" not in bare
    assert "`" not in re.sub(r"`[\w.:=,+/-]+`", "", bare)
    assert text != "&lt;" or "&lt;" not in bare.replace("&lt; 0.001", "")


def test_every_row_of_a_table_has_the_same_columns(run: Run, slowed: Run) -> None:
    for shown in (run, hostile(run, "a|b"), slowed):
        tables = re.findall(r"(?:^\|.*\n)+", markdown.render(shown), flags=re.M)
        assert len(tables) == len(report(shown).tables)
        for table in tables:
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(counts) == 1


def test_raw_rounds_are_summed_up_and_never_listed(run: Run) -> None:
    longer = run.model_copy(deep=True)
    for result in longer.results:
        for scenario in result.scenarios.values():
            for series in scenario.raw.machine.values() if scenario.raw else ():
                series.values *= 500
    assert any(scenario.raw for result in run.results for scenario in result.scenarios.values())
    assert markdown.render(longer) == markdown.render(run)


@pytest.mark.parametrize("start", ["- item", "+ item", "# heading", "1. item", "12) item"])
def test_a_note_that_begins_like_a_block_stays_a_note(run: Run, start: str) -> None:
    out = markdown.render(run.model_copy(update={"task": run.task.model_copy(update={"notes": [start]})}))
    mark, _, rest = start.partition(" ")
    assert f"- {mark[:-1]}\\{mark[-1]} {rest}\n" in out


def test_the_same_run_gives_the_same_document(run: Run) -> None:
    assert markdown.render(run) == markdown.render(Run.model_validate_json(run.model_dump_json()))
