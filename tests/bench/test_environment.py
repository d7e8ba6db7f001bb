"""The fingerprint of hardware, software and settings, what workers are given, and which settings are said."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import environment, plan
from bench.calibration import STARTING_PAIRED
from bench.cli import app
from bench.environment import (
    affinity,
    cores,
    cpu_quota,
    cuda_versions,
    fingerprint,
    frequency_governor,
    git_commit,
    gpus,
    is_shared,
    limiting_group,
    precision_cautions,
    setting_cautions,
    worker_environment,
)
from bench.nouns.environment import Device, Environment
from bench.workers import start_server
from tests.bench.meters.documents import run_of
from tests.commands import bench

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
    settings = {"OMP_SCHEDULE": "static", "TORCH_LOGS": "", "TORCHINDUCTOR_FREEZING": "1", "CXX": "g++"}
    found, imported = fingerprint_elsewhere(SECRET_TOKEN="hush", **settings)
    assert imported == []
    assert found.cpu_model
    assert 1 <= found.cpu_cores <= (os.cpu_count() or 1)
    assert found.memory > 2**28
    assert found.versions["python"] == sys.version.split()[0]
    assert found.versions["torch"] != "absent"
    assert found.threads == 2
    assert settings.items() <= found.variables.items()
    assert "SECRET_TOKEN" not in found.variables
    assert found.affinity == affinity()
    assert found.load >= 0
    assert found.warnings == []
    assert found.noise_floor is None
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


VERSION_1, VERSION_2 = "3:cpu,cpuacct:/job/step\n", "0::/job/step\n"


def in_groups(folder: Path, patch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    """Let this process be in the control groups `own`, whose files are these."""
    (folder / "own").write_text(own)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(content)
    patch.setattr(environment, "CGROUP", folder)
    patch.setattr(environment, "OWN_CGROUPS", folder / "own")


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        (VERSION_2, {}, math.inf),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "nonsense\n"}, math.inf),
        ("0::/\n", {"cpu.max": "150000 0\n"}, math.inf),
        (VERSION_2, {"cpu.max": "50000 100000", "job/cpu.max": "200000 100000"}, 0.5),
        (VERSION_2, {"job/step/cpu.max": "50000 100000", "job/cpu.max": "200000 100000"}, 0.5),
        (VERSION_2, {"job/other/cpu.max": "50000 100000"}, math.inf),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        (VERSION_1, {"cpu/job/cpu.cfs_quota_us": "50000", "cpu/job/cpu.cfs_period_us": "200000"}, 0.25),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "50000\n"}, math.inf),
        (
            "2:memory:/\n1:name=systemd:/\n",
            {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "1"},
            math.inf,
        ),
        ("", {"cpu.max": "150000 100000\n"}, math.inf),
    ],
)
def test_the_least_quota_of_the_own_groups_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], quota: float
) -> None:
    in_groups(tmp_path, monkeypatch, own, files)
    assert cpu_quota() == quota
    assert (limiting_group() is None) == math.isinf(quota)
    assert cores() == min(len(affinity()), math.ceil(min(quota, 10**6)))
    assert worker_environment().get("OMP_NUM_THREADS", str(cores())) == str(cores())
    assert fingerprint().cpu_quota == (None if math.isinf(quota) else quota)


def test_another_quota_is_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for quota in ("30000", "60000", "max"):
        in_groups(tmp_path, monkeypatch, "0::/", {"cpu.max": f"{quota} 100000"})
        keys.add(fingerprint().machine_key)
    assert len(keys) == 3


def test_threads_wait_passively_where_the_machine_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    in_groups(tmp_path, monkeypatch, "0::/", {"cpu.max": "max 100000"})
    for flags, shared in ((set(), False), ({"hypervisor"}, True)):
        monkeypatch.setattr(environment, "read_cpu", lambda flags=flags: ("a CPU", flags))
        assert is_shared() == shared
        assert ("OMP_WAIT_POLICY" in worker_environment()) == shared
    monkeypatch.setattr(environment, "read_cpu", lambda: ("a CPU", set()))
    in_groups(tmp_path, monkeypatch, "0::/", {"cpu.max": "100000 100000"})
    assert is_shared()
    assert worker_environment()["OMP_WAIT_POLICY"] == "PASSIVE"
    assert fingerprint().variables["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "9"), ("KMP_BLOCKTIME", "200")]
)
def test_how_threads_wait_is_left_to_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv(name, value)
    in_groups(tmp_path, monkeypatch, "0::/", {"cpu.max": "100000 100000"})
    assert "OMP_WAIT_POLICY" not in worker_environment()
    assert fingerprint().variables[name] == value


def test_the_users_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OMP_NUM_THREADS",
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "HF_HUB_OFFLINE",
        "PYTHONSAFEPATH",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "device_count", lambda: 2)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert worker_environment() == {
        "OMP_NUM_THREADS": str(cores()),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "0",
        "HF_HUB_OFFLINE": "1",
        "PYTHONSAFEPATH": "1",
        "BENCH_GPUS": "0,1",
    }
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    ours = worker_environment()
    assert ours == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "3",
        "BENCH_GPUS": "3,1",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    assert gpus() == ["3", "1"], "a worker knows of what it does not see"
    assert worker_environment() == {"CUDA_VISIBLE_DEVICES": "3"}


def test_starting_workers_leaves_our_own_environment_alone() -> None:
    before = dict(os.environ)
    start_server()
    assert dict(os.environ) == before


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
    ("governors", "found", "said"),
    [
        ([], None, False),
        (["performance", "performance"], "performance", False),
        (["powersave"], "powersave", True),
        (["performance", "schedutil"], "performance, schedutil", True),
    ],
)
def test_a_clock_that_follows_the_load_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, governors: list[str], found: str | None, said: bool
) -> None:
    for number, governor in enumerate(governors):
        folder = tmp_path / f"cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
    monkeypatch.setattr(environment, "CPUS", tmp_path)
    monkeypatch.setattr(environment, "affinity", lambda: [0, 1])
    assert frequency_governor() == found
    here = fingerprint().model_copy(update={"cpu_quota": None})
    cautions = setting_cautions(here)
    assert [caution.code for caution in cautions] == ["governor"] * said
    assert all(caution.remedy == "cpupower frequency-set -g performance" for caution in cautions)


@pytest.mark.parametrize(
    ("quota", "visible", "threads", "remedy"),
    [
        (None, 4, 4, None),
        (4.0, 4, 4, None),
        (8.0, 4, 4, None),
        (2.0, 64, 2, None),
        (2.5, 64, 1, None),
        (1.5, 4, 2, "OMP_NUM_THREADS=1"),
        (2.5, 4, 4, "OMP_NUM_THREADS=2"),
        (0.5, 1, 1, "CPU limit"),
        (2.0, 2, 8, "OMP_NUM_THREADS=2"),
    ],
)
def test_more_threads_than_a_quota_feeds_are_said(
    quota: float | None, visible: int, threads: int, remedy: str | None
) -> None:
    settings = {"cpu_quota": quota, "affinity": list(range(visible)), "threads": threads, "governor": None}
    cautions = setting_cautions(fingerprint().model_copy(update=settings))
    assert [caution.code for caution in cautions] == ([] if remedy is None else ["quota"])
    assert all(caution.remedy.endswith(str(remedy)) for caution in cautions)
    assert all(f"{quota:g} cores" in caution.text for caution in cautions)


@given(st.floats(1, 128), st.integers(1, 256))
def test_whoever_follows_the_remedy_is_not_told_again(quota: float, threads: int) -> None:
    here = run_of().environment.model_copy(update={"cpu_quota": quota, "threads": threads})
    for caution in setting_cautions(here):
        fewer = int(caution.remedy.rpartition("OMP_NUM_THREADS=")[2])
        assert 1 <= fewer < threads
        assert setting_cautions(here.model_copy(update={"threads": fewer})) == []


@pytest.mark.parametrize(
    "setting",
    [
        {"machine_key": "ff"},
        {"threads": 1},
        {"affinity": [2, 3]},
        {"governor": "powersave"},
        {"variables": {"OMP_WAIT_POLICY": "ACTIVE"}},
        {"devices": [Device(name="a GPU")]},
    ],
)
def test_a_setting_that_timings_depend_on_changes_the_measuring_key(setting: dict[str, object]) -> None:
    here = run_of().environment
    assert here.model_copy(update=setting).measuring_key != here.measuring_key


def test_what_changes_from_run_to_run_leaves_the_measuring_key() -> None:
    here = run_of().environment
    later = here.model_copy(update={"load": 3.0, "commit": "0123456789ab", "openmp_spin": 0.5})
    assert later.measuring_key == here.measuring_key


def test_extras_are_listed_with_what_they_came_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "distributions", lambda: {"onnxruntime": ["numpy", "numpy"]})
    environment.module_version.cache_clear()
    try:
        versions = fingerprint().versions
    finally:
        environment.module_version.cache_clear()
    assert versions["onnxruntime"] == versions["numpy"] != "absent"
    assert versions["torchao"] == "absent"


def test_cuda_is_named_only_where_it_was_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"nvidia-cuda-runtime-cu12": "12.8.90", "torch": "2.13.0"}
    monkeypatch.setattr(environment, "library_version", installed.get)
    assert cuda_versions() == {"cuda": "12.8.90"}
    assert fingerprint().versions["cuda"] == "12.8.90"
    assert fingerprint().versions["codecarbon"] == "absent"


@pytest.mark.parametrize(
    ("features", "device", "dtypes", "said"),
    [
        (["avx512f"], "cpu", {"bfloat16", None}, True),
        (["avx512f", "amx_bf16"], "cpu", {"bfloat16"}, False),
        (["avx512f"], "cuda", {"bfloat16"}, False),
        (["avx512f"], "cpu", {None}, False),
        ([], "cpu", {"bfloat16"}, False),
    ],
)
def test_emulated_bfloat16_is_said(
    features: list[str], device: str, dtypes: set[str | None], said: bool
) -> None:
    here = fingerprint().model_copy(update={"cpu_features": features})
    found = [caution.code for caution in precision_cautions(here, device, dtypes)]
    assert found == ["emulated-precision"] * said


def test_bench_env_prints_the_document_or_the_table(tmp_path: Path) -> None:
    document = bench("env", "--json", cwd=tmp_path)
    found = Environment.model_validate_json(document.stdout)
    assert found.machine_key == fingerprint().machine_key
    printed = bench("env", cwd=tmp_path)
    assert printed.returncode == document.returncode == 0
    assert found.machine_key in printed.stdout
    assert " ".join(found.cpu_model.split()) in " ".join(printed.stdout.split())


@pytest.mark.parametrize(("build", "device"), [("2.13.0+cpu", "cpu"), ("2.13.0+cu128", "cuda")])
def test_bench_env_is_about_the_device_a_run_would_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    build: str,
    device: str,
) -> None:
    for module in (environment, plan):
        monkeypatch.setattr(module, "devices", lambda: [Device(name="a GPU")])
    monkeypatch.setattr(plan, "version", lambda name: build)
    monkeypatch.chdir(tmp_path)
    app(["env", "--json"], standalone_mode=False)
    found = Environment.model_validate_json(capsys.readouterr().out)
    assert [each.name for each in found.devices] == ["a GPU"]
    assert found.noise_floor is not None
    assert found.noise_floor.paired == STARTING_PAIRED[device]


def test_bench_env_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys; from bench.cli import app; app(['env'], standalone_mode=False); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print([n for n in ('torch', 'transformers') if n in sys.modules])"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("[]\n")
