"""The composite action and the workflow: documented, safe whatever is put in, their scripts run by bash."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.github import MARKER

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
ACTION_FILE = ROOT / ".github/actions/bench-gate/action.yml"
WORKFLOW_FILE = ROOT / ".github/workflows/bench-gate.yml"
ACTION = yaml.safe_load(ACTION_FILE.read_text(encoding="utf-8"))
WORKFLOW = yaml.safe_load(WORKFLOW_FILE.read_text(encoding="utf-8"))
RECORDER = """#!/bin/bash
printf '%s\\0' "$@" > "$RECORD"
while (( $# )); do
  if [[ $1 == --export-comment && -n ${SAID:-} ]]; then
    echo "$SAID" > "$2"
  fi
  shift
done
exit "${STATUS:-0}"
"""
INPUTS = {
    "BASE": "base model",
    "NEW": "org/new",
    "TEST": "test.csv",
    "FAIL_ON": "speedup:10%\naccuracy:1pt\n",
    "STRICT": "false",
    "BUDGET": "quick",
    "ARGS": "",
}
COMMENTING = """
const [script, event] = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const calls = [];
const issues = {
  listComments: 'listed',
  updateComment: async (what) => calls.push(['update', what]),
  createComment: async (what) => calls.push(['create', what]),
};
const github = { rest: { issues }, paginate: async () => event.comments };
const context = {
  repo: { owner: 'org', repo: 'name' },
  issue: { number: 7 },
  payload: { pull_request: { head: { sha: 'abc123' } } },
};
const run = Object.getPrototypeOf(async () => {}).constructor;
new run('github', 'context', 'require', script)(github, context, require).then(
  () => console.log(JSON.stringify(calls)));
"""


def steps() -> Iterator[dict[str, Any]]:
    """Every step of the action and of the workflow's jobs."""
    yield from ACTION["runs"]["steps"]
    for job in WORKFLOW["jobs"].values():
        yield from job["steps"]


SCRIPTS = [step["run"] for step in steps() if "run" in step]
[GATE] = [step for step in ACTION["runs"]["steps"] if step.get("id") == "gate"]
[INSTALL] = [step for step in ACTION["runs"]["steps"] if step.get("name") == "Install"]
UPLOADS = {
    step["with"]["name"]: step
    for step in steps()
    if step.get("uses", "").startswith("actions/upload-artifact")
}
[COMMENT_SCRIPT] = [step["with"]["script"] for step in steps() if "script" in step.get("with", {})]


class Recorded:
    """What a script of the action ended with: its status, the words it called a program with, its outputs."""

    def __init__(self, script: str, program: str, folder: Path, environment: dict[str, str]) -> None:
        executable, record, output = folder / "bin" / program, folder / "record", folder / "output"
        executable.parent.mkdir(exist_ok=True)
        output.unlink(missing_ok=True)
        executable.write_text(RECORDER)
        executable.chmod(0o755)
        self.process = subprocess.run(
            # As GitHub's runner calls bash where `shell: bash` is asked for.
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=folder,
            env={
                "PATH": f"{executable.parent}:{os.environ['PATH']}",
                "RECORD": str(record),
                "GITHUB_OUTPUT": str(output),
                "RUNNER_TEMP": str(folder),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.words = record.read_text().split("\0")[:-1]
        lines = output.read_text().splitlines() if output.exists() else []
        self.outputs = dict(line.split("=", 1) for line in lines)


def gate(folder: Path, **changed: str) -> Recorded:
    """The gate's step with these inputs; bench ends with `STATUS`, and its comment is `SAID`, if any."""
    return Recorded(GATE["run"], "bench", folder, INPUTS | changed)


def following(words: list[str], option: str) -> list[str]:
    """What stands behind each `option`."""
    return [after for word, after in pairwise(words) if word == option]


def test_every_input_and_output_is_documented() -> None:
    table = DOCS[DOCS.index("| input |") :]
    for name in [*ACTION["inputs"], *ACTION["outputs"]]:
        assert f"`{name}`" in table


def test_the_defaults_are_those_documented() -> None:
    for name in ("name", "strict", "budget", "python-version"):
        [row] = re.findall(rf"^\| .*`{name}`.* \|$", DOCS, flags=re.MULTILINE)
        assert f"`{ACTION['inputs'][name]['default']}`" in row


def test_no_script_has_an_expression_put_into_it() -> None:
    assert SCRIPTS
    for step in steps():
        assert "${{" not in step.get("run", "")
        assert "${{" not in step.get("with", {}).get("script", "")


def test_every_input_reaches_its_script_as_a_variable() -> None:
    used = yaml.safe_dump(ACTION["runs"])
    for name in ACTION["inputs"]:
        assert f"${{{{ inputs.{name} }}}}" in used
    assert set(GATE["env"]) == set(INPUTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_bash(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_actions_are_pinned_and_tokens_can_do_no_more_than_they_must() -> None:
    uses = [step["uses"] for step in steps() if "uses" in step and not step["uses"].startswith("./")]
    assert uses
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", name) for name in uses)
    assert WORKFLOW["permissions"] == {}
    assert {name: job["permissions"] for name, job in WORKFLOW["jobs"].items()} == {
        "gate": {"contents": "read"},
        "comment": {"pull-requests": "write"},
    }
    for job in WORKFLOW["jobs"].values():
        assert job["timeout-minutes"] <= 60


def test_the_job_that_may_write_runs_no_code_of_the_pull_request() -> None:
    comment = WORKFLOW["jobs"]["comment"]
    assert [step["uses"].partition("@")[0] for step in comment["steps"]] == [
        "actions/download-artifact",
        "actions/github-script",
    ]
    assert "head.repo.full_name == github.repository" in comment["if"]


def commented(folder: Path, *earlier: dict[str, object]) -> list[Any]:
    """What the workflow's script asks of GitHub, run in `folder`, where these comments are there already."""
    if (node := shutil.which("node")) is None:
        pytest.skip("no node on the PATH")
    ended = subprocess.run(
        [node, "-e", COMMENTING],
        input=json.dumps([COMMENT_SCRIPT, {"comments": earlier}]),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    calls: list[Any] = json.loads(ended.stdout)
    return calls


OTHERS = {"id": 1, "user": {"type": "User"}, "body": f"{MARKER} quoted by somebody"}
EARLIER = {"id": 2, "user": {"type": "Bot"}, "body": f"{MARKER}\n\nThe gate passes"}


def test_a_comment_is_found_by_the_marker_it_begins_with_and_replaced(tmp_path: Path) -> None:
    assert MARKER in DOCS
    (tmp_path / "comment.md").write_text(f"{MARKER}\n\nThe gate fails")
    text = {"owner": "org", "repo": "name", "body": f"{MARKER}\n\nThe gate fails"}
    assert commented(tmp_path, OTHERS) == [["create", text | {"issue_number": 7}]]
    assert commented(tmp_path, OTHERS, EARLIER) == [["update", text | {"comment_id": 2}]]


def test_what_an_earlier_gate_said_does_not_outlive_one_that_did_not_finish(tmp_path: Path) -> None:
    [[call, what]] = commented(tmp_path, EARLIER)
    assert (call, what["comment_id"]) == ("update", 2)
    assert what["body"] == f"{MARKER}\n\nbench gate did not finish for abc123; see its job."


def test_the_comment_comes_from_this_gate_or_not_at_all() -> None:
    gate, comment = WORKFLOW["jobs"]["gate"], WORKFLOW["jobs"]["comment"]
    assert "always()" in comment["if"]
    assert gate["outputs"] == {"comment": "${{ steps.gate.outputs.comment }}"}
    [step] = [step for step in gate["steps"] if step.get("id") == "gate"]
    [download] = [step for step in comment["steps"] if "download-artifact" in step["uses"]]
    assert step["uses"] == "./new/.github/actions/bench-gate"
    assert download["if"] == "needs.gate.outputs.comment"
    assert download["with"]["name"] == f"{ACTION['inputs']['name']['default']}-comment"


def test_the_models_are_not_uploaded_and_the_comment_is_by_itself() -> None:
    run, comment = (UPLOADS[f"${{{{ inputs.name }}}}{end}"] for end in ("", "-comment"))
    folder = "${{ steps.gate.outputs.folder }}"
    assert run["with"]["path"].splitlines() == [folder, f"!{folder}/run/artifacts/**"]
    assert comment["with"]["path"] == "${{ steps.gate.outputs.comment }}"
    # A job that is run again is of the same workflow run, where a name is taken once.
    assert all(step["with"]["overwrite"] is True for step in (run, comment))


def test_the_workflow_gives_the_action_only_what_it_takes() -> None:
    [step] = [step for step in steps() if step.get("uses", "").startswith("./")]
    assert (ROOT / Path(step["uses"]).relative_to("new") / "action.yml") == ACTION_FILE
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert {name for name, each in ACTION["inputs"].items() if each.get("required")} <= set(step["with"])


def test_the_gate_is_called_with_what_was_put_in(tmp_path: Path) -> None:
    ended = gate(tmp_path)
    folder = ended.outputs["folder"]
    assert ended.words == [
        "gate",
        "--quick",
        *("--out", f"{folder}/run"),
        "--github",
        *("--export-comment", f"{folder}/comment.md"),
        *("--export-junit", f"{folder}/junit.xml"),
        *("--test", "test.csv"),
        *("--fail-on", "speedup:10%"),
        *("--fail-on", "accuracy:1pt"),
        *("--", "base model", "org/new"),
    ]


@pytest.mark.parametrize("odd", ["$(touch ran)", "`touch ran`", "a; touch ran", "'\" * ~ $HOME", "-x", "é ü"])
def test_odd_characters_arrive_whole_and_run_nothing(tmp_path: Path, odd: str) -> None:
    inputs = dict.fromkeys(("BASE", "NEW", "TEST"), odd)
    words = gate(tmp_path, **inputs, FAIL_ON=f"{odd}\nspeedup:5%", ARGS=f"--text-column\n{odd}").words
    assert words[-3:] == ["--", odd, odd]
    for option in ("--test", "--text-column"):
        assert following(words, option) == [odd]
    assert following(words, "--fail-on") == [odd, "speedup:5%"]
    assert not (tmp_path / "ran").exists()


def test_blank_lines_and_inputs_give_no_arguments(tmp_path: Path) -> None:
    words = gate(tmp_path, FAIL_ON="\n  speedup:5%  \n\n", TEST="").words
    assert following(words, "--fail-on") == ["speedup:5%"]
    assert "" not in words
    assert "--test" not in words


@pytest.mark.parametrize(("given", "strict"), [("true", True), ("false", False), ("", False)])
def test_strict_is_passed_on(tmp_path: Path, given: str, strict: bool) -> None:
    assert ("--strict" in gate(tmp_path, STRICT=given).words) == strict


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(0, "passes"), (1, "fails"), (2, "error"), (3, "not-comparable"), (130, "error")],
)
def test_the_outcome_is_that_of_the_exit_code_which_stays(tmp_path: Path, status: int, outcome: str) -> None:
    ended = gate(tmp_path, STATUS=str(status))
    assert ended.process.returncode == status
    assert ended.outputs["outcome"] == outcome
    assert "comment" not in ended.outputs
    assert outcome in ACTION["outputs"]["outcome"]["description"]


def test_a_second_gate_in_the_same_place_has_a_folder_and_a_comment_of_its_own(tmp_path: Path) -> None:
    first = gate(tmp_path, SAID="it passes").outputs
    assert Path(first["comment"]).read_text() == "it passes\n"
    assert Path(first["comment"]).parent == Path(first["folder"])
    second = gate(tmp_path, STATUS="2").outputs
    assert "comment" not in second
    assert list(Path(second["folder"]).iterdir()) == []


@pytest.mark.parametrize("index", ["", "https://example.org/whl"])
def test_this_very_package_is_installed_with_the_versions_that_are_tested(tmp_path: Path, index: str) -> None:
    place = {"GITHUB_ACTION_PATH": str(ACTION_FILE.parent), "TORCH_INDEX": index}
    words = Recorded(INSTALL["run"], "python", tmp_path, place).words
    assert words[:3] == ["-m", "pip", "install"]
    assert (Path(words[-1]) / "pyproject.toml").resolve() == ROOT / "pyproject.toml"
    [constraints] = following(words, "--constraint")
    assert Path(constraints).resolve() == ROOT / "constraints.txt"
    assert following(words, "--extra-index-url") == ([index] if index else [])
