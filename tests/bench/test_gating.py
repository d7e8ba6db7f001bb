"""Baselines, comparisons and gates as a user meets them: real runs, the real command line, exit codes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.folder import read_run
from bench.nouns.comparison import Comparison
from tests.bench.conftest import ASKED
from tests.commands import Finished, bench

VARIANT = "bmp50+kd"
Document = dict[str, Any]


def changed_copy(run: Path, place: Path, change: Callable[[Document], None]) -> Path:
    """The document of `run` as `change` leaves it, in a file at `place`."""
    document = json.loads((run / "run.json").read_text())
    change(document)
    place.write_text(json.dumps(document))
    return place


def row(document: Document, variant: str = VARIANT) -> Document:
    found: Document = next(row for row in document["results"] if row["variant"] == variant)
    return found


def made_faster(document: Document) -> None:
    """As if the variant had been a hundred times as fast."""
    for name in ("value", "ci_low", "ci_high"):
        row(document)["metrics"]["speedup"][name] *= 100


@pytest.fixture
def project(finished: Finished, tmp_path: Path) -> Path:
    """A folder of its own with the rows and the finished run."""
    shutil.copy(finished.cwd / "rows.csv", tmp_path)
    shutil.copytree(finished.folder, tmp_path / "run")
    return tmp_path


def test_a_baseline_is_saved_listed_shown_compared_with_and_removed(project: Path) -> None:
    saved = bench("baseline", "save", "run", "main", cwd=project)
    assert saved.returncode == 0, saved.stderr
    file = Path(saved.stderr.strip())
    assert read_run(project / file).result(VARIANT) is not None
    listed = bench("baseline", "list", cwd=project).stdout
    assert "main" in listed
    assert f"this machine is {file.parent.name}" in listed
    assert "Speed and accuracy" in bench("baseline", "show", "main", cwd=project).stdout
    compared = bench("compare", "run", "--fail-on", "speedup:50%", "--fail-on", "disk_size:0%", cwd=project)
    assert compared.returncode == 0, compared.stderr
    assert "The gate passes" in compared.stdout
    assert "main, then run" in compared.stdout
    assert bench("baseline", "rm", "main", cwd=project).returncode == 0
    assert not (project / file).exists()
    assert "no baselines" in bench("baseline", "list", cwd=project).stdout


def test_a_run_that_became_slower_fails_and_says_so_everywhere(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_copy(project / "run", project / "before.json", made_faster)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "summary.md"))
    exports = ("--export-junit", "j.xml", "--export-comment", "c.md", "--export-json", "c.json", "--github")
    done = bench("compare", "run", "before.json", "--fail-on", "speedup:50%", *exports, cwd=project)
    assert done.returncode == 1, done.stderr
    assert f"The gate fails: `{VARIANT}` speedup" in done.stdout
    assert f"::error title={VARIANT} speedup" in done.stdout
    assert "The gate fails" in (project / "summary.md").read_text()
    assert "The gate fails" in (project / "c.md").read_text()
    assert ElementTree.parse(project / "j.xml").getroot().get("failures") == "1"
    comparison = Comparison.model_validate_json((project / "c.json").read_text())
    assert [(change.variant, change.metric) for change in comparison.failing] == [(VARIANT, "speedup")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--fail-on", "speedup:50%"], 3, "no baseline of this machine"),
        (["main"], 3, "no baseline main of this machine"),
        (["absent.json"], 3, "absent.json: no such run or baseline"),
        (["run", "--fail-on", "speedup:0.1%"], 2, "below the noise floor of 5% (paired; starting values"),
        (["run", "--fail-on", "latency_p50:1%"], 2, "below the noise floor of"),
        (["run", "--fail-on", "sppedup:5%"], 2, "did you mean 'speedup'"),
        (["run", "--export-junit", "absent/j.xml"], 2, "--export-junit absent/j.xml: there is no folder"),
        (["run", "--github"], 2, "GITHUB_STEP_SUMMARY is not set"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_compared_is_one_line_and_its_exit_code(
    arguments: list[str], code: int, said: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    done = bench("compare", "run", *arguments, cwd=project)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_a_missing_baseline_can_be_allowed(project: Path) -> None:
    done = bench("compare", "run", "main", "--allow-missing-baseline", cwd=project)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("not gated: no baseline main of this machine")
    (project / "pyproject.toml").write_text("[tool.bench]\nallow-missing-baseline = true\n")
    assert bench("compare", "run", "main", cwd=project).returncode == 0
    assert bench("compare", "run", "main", "--no-allow-missing-baseline", cwd=project).returncode == 3


def test_another_machine_is_not_compared_unless_relatively(project: Path) -> None:
    def elsewhere(document: Document) -> None:
        document["environment"]["machine_key"] = "ffffffffffff"

    changed_copy(project / "run", project / "there.json", elsewhere)
    done = bench("compare", "run", "there.json", "--fail-on", "disk_size:0%", cwd=project)
    assert done.returncode == 3
    assert "cannot be compared: the machine: " in " ".join(done.stdout.split())
    relative = bench("compare", "run", "there.json", "--relative", "--fail-on", "disk_size:0%", cwd=project)
    assert relative.returncode == 0, relative.stdout
    assert "The gate passes" in relative.stdout


def test_the_project_s_table_holds_where_the_command_line_is_silent(project: Path) -> None:
    changed_copy(project / "run", project / "before.json", made_faster)
    (project / "pyproject.toml").write_text(
        '[tool.bench]\nfail-on = ["speedup:50%"]\nbaseline = "before.json"\n'
    )
    assert bench("compare", "run", cwd=project).returncode == 1
    assert bench("compare", "run", "--fail-on", "disk_size:0%", cwd=project).returncode == 0
    (project / "pyproject.toml").write_text("[tool.bench]\nfail_on = []\n")
    refused = bench("compare", "run", cwd=project)
    assert refused.returncode == 2
    assert "did you mean 'fail-on'" in refused.stderr


def test_a_run_measures_once_more_before_its_gate_fails(project: Path, finished: Finished) -> None:
    changed_copy(project / "run", project / "before.json", made_faster)
    gate = ("--baseline", "before.json", "--fail-on", "speedup:50%", "--save-baseline", "main")
    cache = ("--cache", finished.cwd / ".bench" / "cache")
    asked = (*ASKED, "--variants", f"{VARIANT},mp", *cache, *gate, "--out", "again")
    done = bench("run", *asked, "--export-comment", "c.md", cwd=project)
    assert done.returncode == 1, done.stderr
    assert f"[1/1] {VARIANT} once more" in done.stderr
    assert "The gate fails" in done.stdout
    assert "The gate fails" in (project / "c.md").read_text()
    assert "not kept as the baseline main" in done.stderr
    assert not (project / "baselines").exists()
    again = read_run(project / "again")
    judged, other = again.result(VARIANT), again.result("mp")
    assert judged is not None
    assert other is not None
    assert any(note.startswith("speedup: measured once more") for note in judged.notes)
    assert not any("measured once more" in note for note in other.notes)
    first, both = judged.scenarios["batch 32"].metrics["speedup"], judged.metrics["speedup"]
    assert set(both.samples) - set(first.samples)
    assert set(both.samples) & set(first.samples)
    resumed = bench("run", "--resume", "again", cwd=project)
    assert resumed.returncode == 1, resumed.stderr
    assert "The gate fails" in resumed.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--baseline", "absent"], 3, "no baseline absent"),
        (["--fail-on", "speedup:50%"], 3, "no baseline of this machine"),
        (["--baseline", "run", "--standard"], 3, "the budget: quick, then standard"),
        (["--baseline", "run", "--fail-on", "speedup:1%"], 2, "below the noise floor"),
        (["--export-comment", "c.md"], 2, "add --baseline NAME"),
        (["--strict"], 2, "are of a gate; add --baseline NAME"),
        (["--baseline", "run", "--fail-on", "speedup:50%", "--variants", "ft"], 3, "no variant but dense"),
        (["--baseline", "run", "--fail-on", "speedup:50%", "--variants", "mp"], 3, f"it has {VARIANT}"),
        (["--baseline", "run", "--fail-on", "latency_p99:30%"], 3, "it has no latency_p99"),
        (["--save-baseline", "a/b"], 2, "not a baseline's name"),
        (["--export-html", "run"], 2, "is a folder"),
        (["--track", "mlfow"], 2, "did you mean 'mlflow'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_gate_that_cannot_work_is_refused_before_anything_is_measured(
    arguments: list[str], code: int, said: str, project: Path
) -> None:
    asked = [*ASKED] if "--variants" in arguments else [*ASKED, "--variants", f"{VARIANT},mp"]
    if "--standard" in arguments:
        asked.remove("--quick")
    before = sorted(project.iterdir())
    done = bench("run", *asked, *arguments, cwd=project)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert sorted(project.iterdir()) == before


def test_two_artifacts_are_gated_in_one_run(project: Path) -> None:
    """By what is exact: dense is larger than the variant, whichever is faster."""
    dense, small = "run/artifacts/dense", f"run/artifacts/{VARIANT}"
    asked = ("--test", "rows.csv", "--quick", "--fail-on", "disk_size:1%")
    grown = bench("gate", small, dense, *asked, "--out", "grown", "--export-junit", "j.xml", cwd=project)
    assert grown.returncode == 1, grown.stderr
    assert "disk size" in grown.stdout.partition("The gate fails: ")[2]
    assert ElementTree.parse(project / "j.xml").getroot().get("failures") == "1"
    run = read_run(project / "grown")
    assert [result.variant for result in run.results] == ["dense", f"load:{dense}"]
    base, new = run.results
    assert base.metrics["parameters"].value < new.metrics["parameters"].value
    assert "speedup_same_precision" not in new.metrics
    assert "once more" not in grown.stderr


@pytest.mark.slow
def test_an_artifact_s_folder_may_be_called_anything_but_for_a_comma(project: Path) -> None:
    odd = project / "kd:layers=4+new"
    shutil.copytree(project / "run" / "artifacts" / "mp", odd)
    done = bench(
        "gate",
        "run/artifacts/mp",
        odd.name,
        "--test",
        "rows.csv",
        "--quick",
        "--fail-on",
        "disk_size:0%",
        cwd=project,
    )
    assert done.returncode == 0, done.stderr


def test_a_gate_takes_artifacts_in_their_own_precision(project: Path) -> None:
    dense, halved = "run/artifacts/dense", "run/artifacts/mp"
    asked = ("--test", "rows.csv", "--quick", "--fail-on", "disk_size:1%")
    there = bench("gate", dense, halved, *asked, "--out", "there", cwd=project)
    assert there.returncode == 0, there.stderr
    assert "The gate passes" in there.stdout
    back = bench("gate", halved, dense, *asked, "--out", "back", cwd=project)
    assert back.returncode == 1, back.stderr
    before, after = (
        [row.metrics["disk_size"].value for row in read_run(project / name).results]
        for name in ("there", "back")
    )
    assert before == after[::-1]
    assert before[1] < 0.6 * before[0]


def test_a_gate_sees_that_a_candidate_no_longer_sorts(project: Path) -> None:
    plain, sorts = project / "run/artifacts/dense", project / "sorts"
    shutil.copytree(plain, sorts)
    document = json.loads((plain / "variant.json").read_text())
    document |= {"variant": "sorted", "parameters": {"sorted": {}}}
    (sorts / "variant.json").write_text(json.dumps(document))
    asked = ("--test", "rows.csv", "--batch-size", "4", "--quick", "--fail-on", "disk_size:1%")
    lost = bench("gate", sorts, plain, *asked, "--out", "lost", cwd=project)
    assert lost.returncode == 0, lost.stderr
    base, new = (result.scenarios for result in read_run(project / "lost").results)
    ordered = "rows at a time sorted by length"
    for name in ("batch 4", "end to end"):
        assert base[name].padding.endswith(ordered)
        assert re.search(f"arrival order; dense: [0-9]+ {ordered}$", new[name].padding)
        assert base[name].metrics["padding_share"].value < new[name].metrics["padding_share"].value
        before, after = base[name].raw, new[name].raw
        assert before is not None
        assert after is not None
        assert set(before.rows) == set(after.rows)


@pytest.mark.parametrize(
    ("new", "arguments", "said"),
    [
        ("absent", ["--test", "rows.csv"], "absent"),
        ("run/artifacts/mp", [], "add --test FILE"),
        ("run/artifacts/mp", ["--test", "rows.csv"], "nothing to hold it to; add --fail-on"),
        ("a,b", ["--test", "rows.csv"], "a comma parts variants"),
        ("run/artifacts/mp", ["--test", "rows.csv", "--fail-on", "speedup:1%"], "below the noise floor"),
    ],
    ids=("absent", "no rows", "no threshold", "comma", "noise"),
)
def test_a_gate_refuses_what_it_cannot_use(new: str, arguments: list[str], said: str, project: Path) -> None:
    done = bench("gate", "run/artifacts/dense", new, *arguments, cwd=project)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (project / ".bench").exists()
