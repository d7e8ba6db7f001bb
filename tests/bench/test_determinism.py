"""The same seed gives the same model: in a sweep, alone, in another process, gone on with after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from bench.folder import read_run
from bench.meters.findings import Findings
from bench.steps.common import repeatable
from bench.steps.request import Request
from tests.bench.conftest import ASKED
from tests.commands import Finished, command, environment, write_rows


def run(cwd: Path, *asked: str, **variables: str) -> Path:
    """The folder of a run with a cache of its own."""
    out = cwd / "run"
    done = subprocess.run(
        command("run", *ASKED, *asked, "--out", out, "--cache", cwd / "cache"),
        cwd=cwd,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return out


def answers(folder: Path, variant: str) -> list[dict[str, Any]]:
    """A variant's predictions, row by row."""
    lines = (folder / f"predictions/{variant}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same_model(folder: Path, other: Path, variant: str) -> None:
    """Both runs made the same model of a variant, to the byte, and it was found to be right as often."""
    weights, others = (place / f"artifacts/{variant}/model.safetensors" for place in (folder, other))
    assert weights.read_bytes() == others.read_bytes()
    assert answers(folder, variant) == answers(other, variant)
    result, again = (read_run(place).result(variant) for place in (folder, other))
    assert result is not None
    assert again is not None
    assert result.metrics["accuracy"] == again.metrics["accuracy"]


@pytest.mark.parametrize(
    ("variant", "hash_seed"), [("bmp50+kd", "1"), pytest.param("mp", "2", marks=pytest.mark.slow)]
)
def test_a_variant_alone_is_what_it_is_in_a_sweep(
    finished: Finished, tmp_path: Path, variant: str, hash_seed: str
) -> None:
    (tmp_path / "rows.csv").write_bytes((finished.cwd / "rows.csv").read_bytes())
    alone = run(tmp_path, "--variants", variant, PYTHONHASHSEED=hash_seed)
    for name in ("dense", variant):
        assert_same_model(finished.folder, alone, name)


STALLS = '''
import math
import time
from dataclasses import dataclass
from pathlib import Path

import bench.checkpoint
from compressors import Compressor, Phase

# A state is due between any two steps.
bench.checkpoint.CHECKPOINT_EVERY_S = 0.0
bench.checkpoint.SAVING_SHARE = math.inf


@dataclass
class Stalls(Compressor):
    """Hangs before a training's sixth step, once."""

    name = "stalls"
    phase = Phase.PRECISION
    summary = "hangs once"
    trains = False

    def on_step(self, step, context):
        if step == 5 and not Path("stalled").exists():
            Path("stalled").touch()
            time.sleep(600)
'''


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_to_the_same_model(tmp_path: Path) -> None:
    asked = ("--plugin", "stalls.py", "--variants", "bmp50+kd+stalls")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for cwd in (killed, whole):
        cwd.mkdir()
        write_rows(cwd / "rows.csv", 400)
        (cwd / "stalls.py").write_text(STALLS)
    (whole / "stalled").touch()
    process = subprocess.Popen(
        command("run", *ASKED, *asked, "--out", "first", "--cache", "cache"),
        cwd=killed,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (killed / "stalled").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    for member in family:
        if member.is_running():
            os.kill(member.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family, timeout=20)
    assert list((killed / "cache").glob("compress-*.checkpoint/checkpoint-5"))

    gone_on = run(killed, *asked)
    assert_same_model(gone_on, run(whole, *asked), "bmp50+kd+stalls")
    result = read_run(gone_on).result("bmp50+kd+stalls")
    assert result is not None
    assert any(note.startswith("training went on from step 5 of") for note in result.notes)
    assert "broken off" in result.unavailable["compress_energy"]
    assert not list((killed / "cache").glob("*.checkpoint"))


ASKED_STEP = Request(
    kind="compress",
    task=Path("task"),
    variant="mp",
    device="cpu",
    seed=0,
    epochs=1,
    learning_rate=1e-3,
    batch_size=8,
    max_length=32,
    budget="quick",
    plugins=[],
)
ADVICE = "You can file an issue at https://github.com/pytorch/pytorch/issues"
UNREPEATABLE = [
    "scatter_add_cuda_kernel does not have a deterministic implementation, but you set "
    f"'torch.use_deterministic_algorithms(True, warn_only=True)'. {ADVICE}",
    "Memory Efficient attention defaults to a non-deterministic algorithm. To explicitly enable determinism "
    "call torch.use_deterministic_algorithms(True, warn_only=False).",
]


def test_operations_that_do_not_repeat_themselves_are_named_in_a_note(tmp_path: Path) -> None:
    @repeatable
    def step(request: Request, folder: Path, progress: Any) -> Findings:
        for _ in range(3):
            for text in UNREPEATABLE:
                warnings.warn(text, UserWarning, stacklevel=1)
        return Findings(notes=["first"])

    assert step(ASKED_STEP, tmp_path, print).notes == [
        "first",
        "not deterministic on this GPU: Memory Efficient attention, scatter_add_cuda_kernel; "
        "the same seed may give slightly other weights",
    ]


def test_other_warnings_are_shown_as_ever_and_no_note_is_made_of_them(tmp_path: Path) -> None:
    @repeatable
    def step(request: Request, folder: Path, progress: Any) -> Findings:
        warnings.warn("something else", UserWarning, stacklevel=1)
        return Findings()

    with pytest.warns(UserWarning, match="something else"):
        assert step(ASKED_STEP, tmp_path, print).notes == []


def test_a_cpu_is_left_as_it_is(tmp_path: Path) -> None:
    seen: list[bool] = []

    @repeatable
    def step(request: Request, folder: Path, progress: Any) -> Findings:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return Findings()

    step(ASKED_STEP, tmp_path, print)
    assert [*seen, torch.are_deterministic_algorithms_enabled()] == [False, False]


def test_on_cuda_torch_is_asked_to_repeat_itself_and_then_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen: list[object] = []

    @repeatable
    def step(request: Request, folder: Path, progress: Any) -> Findings:
        seen.extend([torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic])
        seen.append(os.environ["CUBLAS_WORKSPACE_CONFIG"])
        return Findings()

    step(ASKED_STEP.model_copy(update={"device": "cuda"}), tmp_path, print)
    assert seen == [True, True, ":4096:8"]
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ, "a later step, or another run, would look changed"
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
