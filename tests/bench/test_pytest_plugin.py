"""The fixture `bench_variant` as a user has it: real pytest, pytest-benchmark and models, in processes."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from bench.paired import PairedResult, measure_paired
from compressors import artifact
from compressors.variant import parse_variant
from tests.compressors.tiny import tiny, toy_rows

ROOT = Path(__file__).parents[2]
PLUGINS = ("-p", "pytest_benchmark.plugin", "-p", "bench.pytest_plugin")
LINES = "\n".join(["text,label", *(f"{text},{label}" for text, label in toy_rows(96))])

SUITE = """
import json
import sys
from pathlib import Path

import pytest

KEPT = ("kept", "lost", "inconclusive", "underpowered")
SETTINGS = {"rows": "rows.csv", "batch_size": 8, "max_length": 32}


def test_labelled(bench_variant):
    measured = bench_variant("small", over="dense", **SETTINGS)
    assert 0 < measured.speedup.ci_low <= measured.speedup.value <= measured.speedup.ci_high
    assert measured.verdict.ratio == measured.speedup.value
    assert measured.throughput.value > 0
    assert measured.accuracy.word in KEPT
    assert measured.accuracy.rows == 96
    assert any("guessed" in note for note in measured.notes)
    assert "torch" not in sys.modules
    Path("seen.json").write_text(measured.scenario.model_dump_json())


def test_too_slow(bench_variant):
    assert bench_variant("small", over="dense", **SETTINGS).speedup.ci_low > 1000


def test_texts_and_a_checkpoint_against_itself(bench_variant):
    texts = ["rose", "the old leaf", "sea and sky"] * 8
    measured = bench_variant(Path("checkpoint"), over="checkpoint", rows=texts, batch_size=8, max_length=32)
    assert measured.accuracy is None
    assert measured.scenario.raw.rows[0] % 8 == 0


def test_twice(bench_variant):
    for _ in range(2):
        bench_variant("small", over="dense", **SETTINGS)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": []},
        {"rows": "absent.csv"},
        {"over": str(Path.cwd() / "absent")},
        {"budget": "fast"},
        {"batch_size": 0},
        {"max_length": 3},
        {"max_length": 400},
        {"label_column": "colour"},
        {"device": "tpu"},
        {"over": "nameless"},
    ],
    ids=["no-rows", "no-file", "no-model", "budget", "batch", "short", "long", "column", "device", "names"],
)
def test_unusable(bench_variant, changes):
    bench_variant("small", **{"over": "dense", **SETTINGS, **changes})
"""
REFUSALS = {
    "no-rows": "rows: no texts; give the rows",
    "no-file": "absent.csv does not exist",
    "no-model": "absent: no such model directory",
    "budget": "budget='fast': known: quick, standard, thorough",
    "batch": "batch_size=0: must be above 0",
    "short": "max_length=3: must be at least 4",
    "long": "small takes 40 tokens at most",
    "column": "rows.csv has no column 'colour'",
    "device": "--device tpu: ",
    "names": "its classes are LABEL_0, LABEL_1, LABEL_2, the rows' blue, green, red",
}

FOREIGN_SERVER = """
import multiprocessing
import os


def test_measured_by_a_server_of_others(bench_variant):
    process = multiprocessing.get_context("forkserver").Process(target=os.getpid)
    process.start()
    process.join()
    bench_variant("small", over="dense", rows="rows.csv", batch_size=8, max_length=32)
"""


@dataclass(frozen=True)
class Session:
    """A pytest session that has ended: its folder, what it printed, and pytest-benchmark's JSON."""

    cwd: Path
    process: subprocess.CompletedProcess[str]

    @property
    def shown(self) -> str:
        return self.process.stdout

    @property
    def benchmarks(self) -> dict[str, Any]:
        document = json.loads((self.cwd / "benchmark.json").read_text())
        return {entry["name"]: entry for entry in document["benchmarks"]}


def user_environment() -> Mapping[str, str]:
    """Without a thread setting of the outer tests, and no plugin but those named."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "PYTEST_"))}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def run_pytest(cwd: Path, *arguments: str) -> Session:
    """Run pytest in `cwd` to its end."""
    command = [sys.executable, "-m", "pytest", *PLUGINS, "-W", "error", "-p", "no:cacheprovider", *arguments]
    process = subprocess.run(
        command, cwd=cwd, env=user_environment(), capture_output=True, text=True, check=False, timeout=600
    )
    return Session(cwd, process)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A user's project: artifacts, a checkpoint, one whose classes have no names, rows and tests."""
    cwd = tmp_path_factory.mktemp("project")
    artifact.save(tiny(), tokenizer, parse_variant("dense"), cwd / "dense")
    artifact.save(tiny(layers=1), tokenizer, parse_variant("layers:1"), cwd / "small")
    nameless = tiny(labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    for name, model in (("checkpoint", tiny()), ("nameless", nameless)):
        model.save_pretrained(cwd / name)
        tokenizer.save_pretrained(cwd / name)
    (cwd / "rows.csv").write_text(LINES)
    (cwd / "test_speed.py").write_text(SUITE)
    return cwd


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    """All of the user's tests, run once."""
    return run_pytest(folder, "-rA", "--benchmark-json=benchmark.json", "test_speed.py")


def test_assertions_on_the_measurement_pass_and_fail(session: Session) -> None:
    assert session.process.returncode == 1
    assert "PASSED test_speed.py::test_labelled" in session.shown
    assert "PASSED test_speed.py::test_texts_and_a_checkpoint_against_itself" in session.shown
    assert "FAILED test_speed.py::test_too_slow - assert " in session.shown
    assert "2 passed" in session.shown
    assert "small over dense\nspeedup " in session.shown, "the verdict stands beside the failure"


def test_pytest_benchmark_holds_the_rounds_that_count_in_seconds_a_text(session: Session) -> None:
    seen = json.loads((session.cwd / "seen.json").read_text())
    rounds, entry = seen["raw"], session.benchmarks["test_labelled"]
    [texts] = set(rounds["rows"])
    times_s = rounds["times"]["variant"]["values"]
    counted = [time_s / texts for i, time_s in enumerate(times_s) if str(i) not in rounds["discarded"]]
    assert entry["stats"]["data"] == counted
    assert entry["stats"]["rounds"] == seen["rounds"] == len(counted)
    assert entry["stats"]["iterations"] == texts
    assert entry["options"]["min_rounds"] == 10, "the options are those of the measurement"


def test_pytest_benchmark_keeps_the_verdicts(session: Session) -> None:
    kept = session.benchmarks["test_labelled"]["extra_info"]
    assert (kept["variant"], kept["over"], kept["budget"]) == ("small", "dense", "quick")
    assert kept["speedup"]["ci_low"] <= kept["speedup"]["value"] <= kept["speedup"]["ci_high"]
    assert kept["verdict"]["ratio"] == kept["speedup"]["value"]
    assert kept["accuracy"]["rows"] == 96
    assert session.benchmarks["test_texts_and_a_checkpoint_against_itself"]["extra_info"]["accuracy"] is None


def test_a_failed_test_is_measured_all_the_same(session: Session) -> None:
    assert {"test_labelled", "test_too_slow", "test_twice"} <= session.benchmarks.keys()
    table = session.shown[session.shown.index("benchmark: ") :]
    assert "test_too_slow" in table


def test_a_second_measurement_in_a_test_is_refused(session: Session) -> None:
    expected = "FAILED test_speed.py::test_twice - Failed: bench_variant: one measurement a test"
    assert expected in session.shown


@pytest.mark.parametrize(("case", "message"), REFUSALS.items())
def test_what_cannot_be_measured_fails_in_one_line(session: Session, case: str, message: str) -> None:
    lines = session.shown.splitlines()
    [line] = [line for line in lines if line.startswith(f"FAILED test_speed.py::test_unusable[{case}]")]
    assert message in line
    assert f"test_unusable[{case}]" not in session.benchmarks
    assert "Traceback" not in session.shown


def test_pytest_benchmark_compares_saved_measurements(session: Session) -> None:
    (session.cwd / "later.json").write_bytes((session.cwd / "benchmark.json").read_bytes())
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "benchmark.json", "later.json"]
    done = subprocess.run(command, cwd=session.cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test_labelled") == 2


def test_a_saved_measurement_is_what_later_ones_are_held_against(session: Session) -> None:
    document = json.loads((session.cwd / "benchmark.json").read_text())
    [entry] = [entry for entry in document["benchmarks"] if entry["name"] == "test_labelled"]
    entry["stats"]["median"] /= 1e6
    (session.cwd / "once_fast.json").write_text(json.dumps(document | {"benchmarks": [entry]}))
    later = run_pytest(
        session.cwd,
        *("-k", "test_labelled", "--benchmark-compare=once_fast.json", "--benchmark-storage=."),
        "--benchmark-compare-fail=median:50%",
    )
    assert later.process.returncode != 0
    assert "Performance has regressed" in later.process.stdout + later.process.stderr


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--benchmark-disable", "benchmarks are disabled, so there is nothing to judge"),
        ("--benchmark-skip", "Skipping benchmark (--benchmark-skip active)"),
    ],
)
def test_pytest_benchmarks_switches_are_honoured(folder: Path, option: str, reason: str) -> None:
    done = run_pytest(folder, "-rs", option, "-k", "test_labelled or test_too_slow")
    assert done.process.returncode == 0
    assert reason in done.shown
    assert "2 skipped" in done.shown


def test_a_fork_server_with_other_settings_is_not_measured_by(folder: Path) -> None:
    (folder / "test_foreign.py").write_text(FOREIGN_SERVER)
    done = run_pytest(folder, "test_foreign.py")
    assert done.process.returncode == 1
    assert "multiprocessing's fork server was started by something else" in done.shown


def test_a_session_that_does_not_use_it_imports_nothing_slow(tmp_path: Path) -> None:
    slow = ("torch", "transformers", "numpy", "scipy", "pydantic", "bench.paired")
    (tmp_path / "test_light.py").write_text(
        f"import sys\ndef test_light():\n    assert not set({slow!r}) & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path, "--fixtures", "test_light.py")
    assert "bench_variant -- " in done.shown
    done = run_pytest(tmp_path, "test_light.py")
    assert done.process.returncode == 0, done.shown


def test_pytest_finds_it_where_bench_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"bench": "bench.pytest_plugin"}


def test_the_guide_names_every_argument_and_part_of_the_result() -> None:
    guide = (ROOT / "docs/pytest.md").read_text().splitlines()
    named = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in guide if line.startswith("| `")]
    parameters = inspect.signature(measure_paired).parameters
    assert list(chain.from_iterable(named)) == [*parameters, *PairedResult.__dataclass_fields__]
