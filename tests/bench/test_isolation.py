"""A variant that breaks is its own failed row; the sweep goes on, and nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from bench.folder import read_run
from tests.commands import bench, command, environment, write_rows

PLUGIN = '''
import os
import signal
from dataclasses import dataclass

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
        if self.how == "raise":
            raise RuntimeError("broken on purpose")
        if self.how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
'''
ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows and the plugin."""
    cwd = tmp_path_factory.mktemp("isolation")
    write_rows(cwd / "rows.csv", 200)
    (cwd / "breaks.py").write_text(PLUGIN)
    return cwd


def test_failures_are_rows_with_reasons_and_the_rest_is_measured(folder: Path) -> None:
    variants = "breaks,breaks:exit,breaks:kill,mp"
    done = bench("run", *ASKED, "--plugin", "breaks.py", "--variants", variants, "--out", "run", cwd=folder)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    run = read_run(folder / "run")
    assert run.status == "complete"
    reasons = {result.variant: result.reason for result in run.results if result.status == "failed"}
    assert list(reasons) == ["breaks", "breaks:exit", "breaks:kill"]
    assert "broken on purpose" in str(reasons["breaks"])
    assert "exit code 3" in str(reasons["breaks:exit"])
    assert "signal 9" in str(reasons["breaks:kill"])
    assert [result.variant for result in run.results if result.status == "ok"] == ["dense", "mp"]
    assert "broken on purpose" in done.stdout
    logs = (folder / "run/logs/breaks-compress.txt").read_text()
    assert "RuntimeError: broken on purpose" in logs


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


def test_an_interrupt_leaves_a_whole_document_and_no_workers(folder: Path) -> None:
    out = folder / "interrupted"
    process = subprocess.Popen(
        command("run", *ASKED, "--variants", "mp,bmp25", "--cache", "fresh", "--out", out),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not (out / "predictions/dense.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    document = json.loads((out / "run.json").read_text())
    assert document["status"] == "interrupted"
    assert [result["variant"] for result in document["results"]][:1] == ["dense"]
    assert "dense" in shown
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
