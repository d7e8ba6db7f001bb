"""The fingerprint of hardware and software, what workers are given, and what disturbs a run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bench import environment
from bench.environment import (
    MachineWatch,
    cores,
    cpu_quota,
    fingerprint,
    git_commit,
    precision_warnings,
    worker_environment,
)
from bench.nouns.run import Environment

PRINT_FINGERPRINT = """
import json, sys
from bench.environment import fingerprint
found = fingerprint().model_dump()
print(json.dumps([found, [name for name in ("torch", "transformers") if name in sys.modules]]))
"""


def fingerprint_elsewhere(**variables: str) -> tuple[Environment, list[str]]:
    """The fingerprint a fresh process takes, and which heavy libraries that imported."""
    surroundings = {**os.environ, "OMP_NUM_THREADS": "2", **variables}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_FINGERPRINT], env=surroundings, capture_output=True, check=True
    )
    found, imported = json.loads(done.stdout)
    return Environment.model_validate(found), imported


def test_a_fingerprint_says_what_this_machine_is_without_torch() -> None:
    found, imported = fingerprint_elsewhere(OMP_SCHEDULE="static", SECRET_TOKEN="hush")
    assert imported == []
    assert found.cpu_model
    assert 1 <= found.cpu_cores <= (os.cpu_count() or 1)
    assert found.memory > 2**28
    assert found.versions["python"] == sys.version.split()[0]
    assert found.versions["torch"] != "absent"
    assert found.threads == 2
    assert found.variables["OMP_SCHEDULE"] == "static"
    assert "SECRET_TOKEN" not in found.variables
    assert found.machine_key == fingerprint().machine_key


def test_the_machine_key_is_of_the_hardware_alone() -> None:
    assert fingerprint_elsewhere(OMP_NUM_THREADS="1")[0].machine_key == fingerprint().machine_key


def test_fewer_cores_are_another_machine() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one core only")
    before = fingerprint().machine_key
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
        assert fingerprint().machine_key != before
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "50000\n"}, math.inf),
        ({"cpu.max": "nonsense\n"}, math.inf),
    ],
)
def test_a_containers_quota_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], quota: float
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(environment, "CGROUP", tmp_path)
    assert cpu_quota() == quota
    assert cores() == min(len(os.sched_getaffinity(0)), math.ceil(min(quota, 10**6)))
    assert worker_environment().get("OMP_NUM_THREADS", str(cores())) == str(cores())


def test_the_users_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert worker_environment() == {
        "OMP_NUM_THREADS": str(cores()),
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert worker_environment() == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3"}
    assert fingerprint().variables["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.parametrize(
    ("asked", "threads"), [("3", 3), ("4,2", 4), ("", None), ("many", None), ("0", None)]
)
def test_threads_as_asked_or_all_cores(
    monkeypatch: pytest.MonkeyPatch, asked: str, threads: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert fingerprint().threads == (threads or cores())


def test_the_commit_of_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("one")
    for arguments in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", *arguments], check=True)
    clean = git_commit()
    assert clean is not None
    assert len(clean) == 12
    (tmp_path / "file").write_text("two")
    assert git_commit() == f"{clean}+dirty"
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


@pytest.mark.parametrize(
    ("busy", "stolen", "said"),
    [(100.0, 0.0, False), (99.0, 1.0, False), (95.0, 5.0, True), (0.0, 0.0, False)],
)
def test_time_that_other_guests_took_is_said(
    monkeypatch: pytest.MonkeyPatch, busy: float, stolen: float, said: bool
) -> None:
    readings = iter(
        SimpleNamespace(user=user, nice=0.0, system=0.0, idle=1000.0, steal=steal)
        for user, steal in [(0.0, 10.0), (busy, 10.0 + stolen)]
    )
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(readings))
    warnings = MachineWatch().warnings()
    assert len(warnings) == said
    assert all("5.0%" in warning for warning in warnings)


def test_a_real_watch_reads_real_clocks() -> None:
    watch = MachineWatch()
    assert all("CPU time" in warning for warning in watch.warnings())


@pytest.mark.parametrize(
    ("features", "device", "dtypes", "warned"),
    [
        (["avx512f"], "cpu", {"bfloat16", None}, True),
        (["avx512f", "amx_bf16"], "cpu", {"bfloat16"}, False),
        (["avx512f"], "cuda", {"bfloat16"}, False),
        (["avx512f"], "cpu", {None}, False),
    ],
)
def test_emulated_bfloat16_is_said(
    features: list[str], device: str, dtypes: set[str | None], warned: bool
) -> None:
    here = fingerprint().model_copy(update={"cpu_features": features})
    assert bool(precision_warnings(here, device, dtypes)) == warned
