"""A variant that breaks is its own failed row; the sweep goes on, and nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.folder import read_run
from tests.commands import bench, command, environment, write_rows

PLUGIN = '''
import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass

import torch

from bench.errors import Refusal
from compressors import Compressor, Phase


@dataclass
class Breaks(Compressor):
    """Ends its worker in the way it is told."""

    name = "breaks"
    phase = Phase.PRECISION
    summary = "ends its worker"
    argument = "how"
    trains = False

    how: str = "raise"

    def finish(self, model, context):
        print("about to break by", self.how, flush=True)
        if self.how == "raise":
            raise RuntimeError("broken on purpose")
        if self.how == "exit":
            os._exit(3)
        if self.how == "sysexit":
            raise SystemExit("gone")
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "segfault":
            ctypes.string_at(0)
        if self.how == "orphan":
            subprocess.Popen(["sleep", "SECONDS"], close_fds=False)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "notes":
            context.notes.append(3)
        if self.how == "surrogate":
            raise RuntimeError("cannot read caf\\udce9.txt")
        if self.how == "refuse":
            raise Refusal("for a long reason: " + "LABEL=Name," * 100 + "the last")
        if self.how == "memory":
            torch.empty(1 << 60)
        if self.how == "hang":
            subprocess.Popen(["sleep", "SECONDS"])
            while True:
                time.sleep(1)
        if self.how == "silent":
            os.closerange(3, 1000)
            time.sleep(1000)
        return model


@dataclass
class Silent(Compressor):
    """Cannot say why it is not faster."""

    name = "silent"
    phase = Phase.PRECISION
    summary = "does nothing"
    trains = False

    def why_not_faster(self, parts, device, cpu_features):
        raise KeyError("no reason")


@dataclass
class Diverges(Compressor):
    """Makes the loss no number after a few steps."""

    name = "diverges"
    phase = Phase.MASKS
    summary = "breaks the loss"

    def loss(self, model, batch, outputs, context):
        return outputs.logits.sum() * float("nan")


class Narrow(torch.nn.Module):
    def __init__(self, model, most):
        super().__init__()
        self.model, self.most, self.config, self.dtype = model, most, model.config, model.dtype

    def forward(self, **inputs):
        if len(inputs["input_ids"]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.model(**inputs)


@dataclass
class Large(Compressor):
    """Runs out of memory with more than so many rows."""

    name = "large"
    phase = Phase.RUNTIME
    summary = "takes few rows"
    argument = "most"
    trains = False

    most: int = 16

    def runtime(self, model, folder, device):
        return Narrow(model, self.most)
'''
# Of this process alone, so that it can be told from any other that sleeps.
SECONDS = f"{3_600 + os.getpid()}"
ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows and the plugin."""
    cwd = tmp_path_factory.mktemp("isolation")
    write_rows(cwd / "rows.csv", 200)
    (cwd / "breaks.py").write_text(PLUGIN.replace("SECONDS", SECONDS))
    return cwd


KINDS = {
    "breaks": ("error", "RuntimeError: broken on purpose"),
    "breaks:exit": ("crashed", "exit code 3"),
    "breaks:sysexit": ("error", "SystemExit: gone"),
    "breaks:kill": ("killed", "signal 9"),
    "breaks:orphan": ("killed", "signal 9"),
    "breaks:segfault": ("crashed", "signal 11"),
    "breaks:notes": ("error", "Input should be a valid string"),
    "breaks:surrogate": ("error", "cannot read caf\\udce9.txt"),
    "breaks:memory": ("out of memory", "can't allocate memory"),
    "breaks:silent": ("crashed", "silent"),
    "diverges": ("diverged", "the training loss became nan"),
}


def test_each_end_is_a_row_of_its_kind_and_the_rest_is_measured(folder: Path) -> None:
    variants = ",".join([*KINDS, "breaks:refuse", "silent", "mp"])
    done = bench("run", *ASKED, "--plugin", "breaks.py", "--variants", variants, "--out", "run", cwd=folder)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    run = read_run(folder / "run")
    assert run.status == "complete"
    assert [result.variant for result in run.results if result.status == "ok"] == ["dense", "silent", "mp"]
    shown = " ".join(done.stdout.split())
    failed = {result.variant: result for result in run.results if result.status == "failed"}
    assert list(failed) == list(KINDS)
    for variant, (kind, words) in KINDS.items():
        failure = failed[variant].failure
        assert failure is not None
        assert (failure.kind, failure.step) == (kind, "compress")
        assert words in str(failed[variant].reason)
        assert words in shown
        last = "about to break by" if kind in ("crashed", "killed") else words
        assert any(last in line for line in failure.log)
    refused = run.result("breaks:refuse")
    assert refused is not None
    assert (refused.status, str(refused.reason)[-8:]) == ("skipped", "the last")
    silent = run.result("silent")
    assert silent is not None
    assert any("breaks.py" in note and "KeyError" in note for note in silent.notes)
    assert "RuntimeError: broken on purpose" in (folder / "run/logs/breaks-compress.txt").read_text()


def test_what_hangs_is_ended_with_all_that_it_started(folder: Path) -> None:
    asked = ("--plugin", "breaks.py", "--variants", "breaks:hang", "--timeout", "60", "--out", "hangs")
    done = bench("run", *ASKED, *asked, cwd=folder)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    hung = read_run(folder / "hangs").result("breaks:hang")
    assert hung is not None
    assert hung.failure is not None
    assert (hung.failure.kind, hung.failure.step) == ("timeout", "compress")
    assert "--timeout" in str(hung.reason)
    assert "--timeout" in done.stdout
    assert any("about to break by" in line for line in hung.failure.log)
    sleeping = [each.info["cmdline"] for each in psutil.process_iter(["cmdline"])]
    assert ["sleep", SECONDS] not in sleeping


def test_too_little_memory_halves_the_batch_once_and_says_so(folder: Path) -> None:
    asked = ("--plugin", "breaks.py", "--variants", "large,large:17,large:8,mp", "--out", "large")
    done = bench("run", *ASKED, *asked, cwd=folder)
    assert done.returncode == 1, done.stderr
    run = read_run(folder / "large")
    halved, hopeless, other = (run.result(name) for name in ("large", "large:8", "mp"))
    assert halved is not None
    assert hopeless is not None
    assert other is not None
    assert (halved.status, halved.batch_size, other.batch_size) == ("ok", 16, None)
    assert halved.scenarios["batch 16"].metrics["speedup"] == halved.metrics["speedup"]
    assert hopeless.failure is not None
    assert (hopeless.failure.kind, hopeless.failure.step) == ("out of memory", "timing")
    assert "smaller-batch" in [caution.code for caution in run.environment.warnings]
    shown = " ".join(done.stdout.split())
    assert "32 rows did not fit into memory: large 16 rows at a time, large:17 16 rows at a time" in shown


def test_a_family_that_cannot_be_pruned_is_skipped(folder: Path) -> None:
    from transformers import MobileBertConfig, MobileBertForSequenceClassification, PreTrainedTokenizerFast

    artifacts = folder / "run/artifacts/dense"
    checkpoint = folder / "mobilebert"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(artifacts)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(checkpoint)
    settings = MobileBertConfig(
        vocab_size=len(tokenizer),
        embedding_size=16,
        hidden_size=32,
        intra_bottleneck_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    MobileBertForSequenceClassification(settings).save_pretrained(checkpoint)
    done = bench(
        "run", *ASKED, "--model", checkpoint, "--variants", "bmp25,kd,mp,kd+mp", "--out", "mobile", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    run = read_run(folder / "mobile")
    statuses = {result.variant: result.status for result in run.results}
    assert statuses == {"dense": "ok", "bmp25": "skipped", "kd": "ok", "mp": "ok", "kd+mp": "ok"}
    assert not any(result.cached for result in run.results), "all was done in this run, the teacher too"
    pruned = run.result("bmp25")
    assert pruned is not None
    assert "mobilebert" in str(pruned.reason)
    dense = run.result("dense")
    assert dense is not None
    assert "mobilebert" in dense.unavailable["encoder_parameters"]


def begun(folder: Path, out: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """A run that has made dense, in a session of its own."""
    process = subprocess.Popen(
        command("run", *ASKED, *arguments, "--out", out),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not made_by(out):
        assert process.poll() is None
        assert time.monotonic() < deadline, "no row was made"
        time.sleep(0.2)
    return process


def made_by(out: Path) -> list[str]:
    """The rows that the run in a folder has made so far."""
    with suppress(FileNotFoundError):
        return [result["variant"] for result in json.loads((out / "run.json").read_text())["results"]]
    return []


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 143, marks=pytest.mark.slow),
    ],
)
def test_an_end_from_outside_leaves_a_whole_document_and_no_workers(
    folder: Path, number: signal.Signals, code: int
) -> None:
    out = folder / f"ended-{code}-{number}"
    process = begun(folder, out, "--variants", "mp,bmp25", "--cache", f"fresh-{number}")
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) > 1
    os.kill(process.pid, number)
    shown, _ = process.communicate(timeout=600)
    assert process.returncode == code
    document = json.loads((out / "run.json").read_text())
    assert document["status"] == "interrupted"
    assert [result["variant"] for result in document["results"]][:1] == ["dense"]
    assert "dense" in shown
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_ctrl_c_while_the_workers_server_starts_shows_nothing_of_it(folder: Path) -> None:
    process = subprocess.Popen(
        command("run", *ASKED, "--variants", "mp", "--out", "early", "--cache", "fresh-early"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not is_importing(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert json.loads((folder / "early" / "run.json").read_text())["status"] == "interrupted"


def is_importing(pid: int) -> bool:
    """Whether the workers' server has begun to import, by the memory that Python alone does not take."""
    with suppress(psutil.NoSuchProcess):
        servers = [
            child for child in psutil.Process(pid).children() if "forkserver" in "".join(child.cmdline())
        ]
        return any(server.memory_info().rss > 40e6 for server in servers)
    return False


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_workers(folder: Path) -> None:
    process = begun(folder, folder / "killed", "--variants", "mp,bmp25", "--cache", "fresh-killed")
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) > 1
    process.kill()
    process.communicate(timeout=600)
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_two_runs_in_one_folder_are_refused(folder: Path) -> None:
    out = folder / "shared"
    process = begun(folder, out, "--variants", "mp", "--cache", "fresh-shared")
    process.send_signal(signal.SIGSTOP)  # so that it does not end before it is asked after
    try:
        for asked in (("run", "--resume", out), ("run", *ASKED, "--out", out)):
            refused = bench(*asked, cwd=folder)
            assert refused.returncode == 2
            assert refused.stderr.count("\n") == 1
        assert f"process {process.pid} is working there" in bench("run", "--resume", out, cwd=folder).stderr
    finally:
        process.kill()
        process.communicate(timeout=600)
    again = bench("run", "--resume", out, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert [row.variant for row in read_run(out).results] == ["dense", "mp"]
