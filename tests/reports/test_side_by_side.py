"""Side by side: the golden print, what is shared said once, what differs named, no verdict between runs."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bench.errors import InputError
from bench.nouns.environment import Caution
from bench.nouns.run import Run
from reports import console, latex, markdown
from reports.content import essentials
from reports.parts import ABSENT, Table
from reports.side_by_side import called, report
from tests.reports.test_markdown import hostile

ELSEWHERE = {"machine_key": "77aa", "cpu_model": "AMD EPYC 9354", "warnings": []}


def altered(run: Run, part: str, **update: object) -> Run:
    """The run with some fields of one of its parts replaced."""
    return run.model_copy(update={part: getattr(run, part).model_copy(update=update)})


@pytest.fixture
def both(run: Run, sixteen: Run) -> dict[str, Run]:
    """A quick run, and one of sixteen variants on another machine with another budget."""
    other = altered(altered(sixteen, "environment", **ELSEWHERE), "config", budget="standard")
    return {"office": run, "server": other}


def printed(runs: dict[str, Run], width: int = 80) -> str:
    out = io.StringIO()
    console.lay_out(essentials(report(runs)), Console(file=out, width=width), "More in --export-markdown")
    return out.getvalue()


def cautions(runs: dict[str, Run]) -> list[str]:
    return [fact.text for fact in report(runs).facts if fact.name == "Caution"]


def table(runs: dict[str, Run], title: str) -> Table:
    [found] = [table for table in report(runs).tables if table.title == title]
    return found


def cells(runs: dict[str, Run], title: str) -> dict[str, tuple[str, ...]]:
    return {row.label: row.cells for row in table(runs, title).rows}


def test_two_runs_at_80_columns(both: dict[str, Run], golden: Callable[[str, str], None]) -> None:
    golden("side-by-side-80.txt", printed(both))


def test_a_column_is_a_run_with_its_budget_and_a_row_a_variant(both: dict[str, Run]) -> None:
    speedups = table(both, "Speedup over dense ↑")
    assert [header.text for header in speedups.headers] == ["office (quick)", "server (standard)"]
    variants = {result.variant for run in both.values() for result in run.results}
    assert {row.label for row in speedups.rows} == variants
    shown = cells(both, "Speedup over dense ↑")
    assert shown["kd"] == (ABSENT, "1.93 ± 0.05")
    assert shown["bmp25+kd+mp"] == ("3.10 ± 0.13", "2.07 ± 0.06")
    assert next(iter(shown)) == "dense"


def test_a_fact_that_is_shared_is_said_once_and_one_that_is_not_names_its_runs(both: dict[str, Run]) -> None:
    facts = {name: [f.text for f in report(both).facts if f.name == name] for name in ("Rows", "Budget")}
    assert len(facts["Rows"]) == 1
    assert not facts["Rows"][0].startswith("office")
    assert facts["Budget"] == ["office: quick, seed 1", "server: standard, seed 1"]


def test_a_fact_that_only_one_run_has_is_absent_from_the_other(run: Run) -> None:
    clean = altered(run, "task", dropped={})
    texts = [fact.text for fact in report({"a": run, "b": clean}).facts if fact.name == "Dropped"]
    assert texts == ["a: 3 empty text", f"b: {ABSENT}"]


@pytest.mark.parametrize(
    ("part", "update", "word"),
    [
        ("environment", {"machine_key": "77aa"}, "machines"),
        ("environment", {"threads": 8}, "threads"),
        ("config", {"device": "cuda"}, "devices"),
        ("config", {"batch_size": 8}, "batch sizes"),
        ("config", {"epochs": 9}, "trainings"),
        ("config", {"budget": "thorough"}, "budgets"),
        ("config", {"protocol_version": 99}, "protocols"),
        ("config", {"carbon_intensity": 21.0}, "CO2"),
    ],
)
def test_what_makes_figures_not_comparable_is_said(
    run: Run, part: str, update: dict[str, object], word: str
) -> None:
    [caution] = cautions({"a": run, "b": altered(run, part, **update)})
    assert word in caution


def test_other_rows_and_other_models_are_said(run: Run) -> None:
    other = run.model_copy(update={"fingerprints": {"rows": "zz", "model": "yy", "code": "ef56"}})
    assert [text.split(" differ")[0] for text in cautions({"a": run, "b": other})] == [
        "the rows",
        "the models",
    ]


def test_runs_that_agree_have_no_caution_though_code_and_software_differ(run: Run) -> None:
    other = altered(run, "environment", versions={"torch": "2.99"}, commit="abc")
    other = other.model_copy(update={"id": "another", "fingerprints": run.fingerprints | {"code": "new"}})
    assert cautions({"a": run, "b": other}) == []
    assert cautions({"a": run, "b": run}) == []


def test_energy_of_another_source_is_said_and_one_that_is_missing_is_not(run: Run) -> None:
    def metered(source: str) -> Run:
        results = [
            result.model_copy(
                update={
                    "metrics": {
                        name: metric.model_copy(update={"source": source})
                        for name, metric in result.metrics.items()
                        if source or "energy" not in name
                    }
                }
            )
            for result in run.results
        ]
        return run.model_copy(update={"results": results})

    [caution] = cautions({"a": run, "b": metered("NVML")})
    assert caution.startswith("energy comes from different sources")
    assert cautions({"a": run, "b": metered("")}) == []


def test_seeds_are_shown_from_the_least_to_the_greatest(run: Run, seeded: Run) -> None:
    runs = {"one": run, "two": seeded}
    assert cells(runs, "Speedup over dense ↑")["bmp25+kd+mp"] == (
        "3.10 ± 0.13",
        "2.96 ± 0.12 to 3.10 ± 0.13",
    )
    assert cells(runs, "Accuracy kept?")["bmp25+kd+mp"] == ("kept", "kept, inconclusive")
    assert any("several seeds" in note[0] for note in table(runs, "Speedup over dense ↑").notes)
    assert not any("several seeds" in note[0] for shown in report({"a": run}).tables for note in shown.notes)


def test_what_failed_stands_without_figures_and_with_its_reason(both: dict[str, Run]) -> None:
    assert cells(both, "Speedup over dense ↑")["onnx+int8"] == (ABSENT, ABSENT)
    [failed] = [section for section in report(both).sections if section.title == "Failed or skipped"]
    said = ["".join(line) for line in failed.lines]
    assert said[0].startswith("office: onnx+int8 failed: RuntimeError: out of memory")
    assert said[1] == "office: fisher50 skipped: fisher cannot prune DebertaV2 (deberta-v2)"


def test_warnings_name_their_run(both: dict[str, Run]) -> None:
    [warnings] = [section for section in report(both).sections if section.title == "Warnings"]
    assert all(line[0].startswith("office: ") for line in warnings.lines)


def test_it_ends_with_each_run_s_recommendation_and_no_verdict_between_them(both: dict[str, Run]) -> None:
    unmarked = [result.model_copy(update={"recommended": False}) for result in both["server"].results]
    runs = both | {"server": both["server"].model_copy(update={"results": unmarked})}
    closing = "".join(report(runs).closing)
    assert closing.startswith("Recommended: office bmp25+kd+mp, server none. ")
    assert "bench compare" in closing


@pytest.mark.parametrize("text", ["a|b", "<script>", "*x* _y_ `z`", "two\nlines", r"\input{x} & 100 % $"])
def test_nothing_from_outside_acts_as_markup(run: Run, text: str) -> None:
    runs, harmless = (
        {text: (shown := hostile(run, text)), f"{text}2": altered(shown, "config", budget="standard")},
        {"h": (tame := hostile(run, "h" * len(text))), "h2": altered(tame, "config", budget="standard")},
    )
    out = markdown.document(report(runs))
    assert len(out.splitlines()) == len(markdown.document(report(harmless)).splitlines())
    assert "<" not in out
    assert not re.search(r"(?<!\\)[*_`]x|(?<!\\)`z", out.replace("**", ""))
    typeset = re.sub(r"\\[\\{}%_&#$]", "", latex.document(report(runs)))
    assert typeset.count("{") == typeset.count("}")
    assert typeset.count("$") % 2 == 0
    assert r"\input" not in typeset


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_cell_is_whole_at_any_width(both: dict[str, Run], width: int) -> None:
    out = printed(both, width)
    assert max(map(len, out.splitlines())) <= width
    for shown in essentials(report(both)).tables:
        for row in shown.rows:
            for cell in row.cells:
                assert cell in out


def test_a_warning_with_markup_is_plain_text(run: Run) -> None:
    odd = altered(run, "environment", warnings=[Caution(code="load", text="[bold]a\x1b[31m", remedy="b")])
    assert "\x1b" not in printed({"a": odd, "b": run})
    assert "[bold]a" in printed({"a": odd, "b": run})


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["runs/monday", "runs/tuesday"], ["monday", "tuesday"]),
        (["a/run", "b/run", "b/other"], ["a/run", "b/run", "b/other"]),
        (["a/run.json", "b/run.json"], ["a", "b"]),
        (["base/quick.json", "base/standard.json"], ["quick", "standard"]),
        (["base/quick.json", "base/quick"], ["quick.json", "quick"]),
        (["alone/run.json"], ["alone"]),
    ],
)
def test_runs_are_called_by_what_tells_them_apart(places: list[str], names: list[str]) -> None:
    assert called([Path(place) for place in places]) == names


def test_a_run_is_not_set_beside_itself() -> None:
    with pytest.raises(InputError, match=r"a/run\.json: is named twice|a: is named twice"):
        called([Path("a"), Path("a/run.json")])
