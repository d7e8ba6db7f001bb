"""Dense's logits on the training rows, computed once for all variants that are distilled from it."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bench.encoding import batches
from bench.meters.energy import EnergyWindow
from bench.meters.findings import Findings
from bench.meters.subject import load_subject
from bench.nouns.measurement import measured
from bench.steps.common import prepare_process, repeatable
from bench.steps.request import Request
from bench.tasks.stored import read_task
from bench.training import Progress
from compressors.artifact import ARTIFACT

LOGITS = "logits.safetensors"


@repeatable
def make_teacher(request: Request, folder: Path, progress: Progress) -> Findings:
    """Write the logits below `folder`; its cost is part of every distilled variant's."""
    prepare_process(request.device, request.seed)
    task = read_task(request.task)
    assert request.dense is not None
    findings = Findings()
    energy = EnergyWindow(request.device)
    findings.spent["energy"] = energy.idle_time_s
    started = time.perf_counter()
    dense = load_subject("dense", request.dense / ARTIFACT, task.train, request.max_length, request.device)
    pad_token, logits = dense.tokenizer.pad_token_id, []
    for batch in batches(dense.rows, request.batch_size, pad_token, request.device):
        logits.append(dense(batch).float().cpu())
        progress("teacher", len(logits), math.ceil(len(dense.rows) / request.batch_size))
    save_file({"logits": torch.cat(logits)}, folder / LOGITS)
    wall_time_s = time.perf_counter() - started
    findings.add(energy.close("compress_energy"))
    findings.metrics["compress_wall_time"] = measured("compress_wall_time", wall_time_s, "perf_counter")
    findings.spent["compressing"] = wall_time_s
    return findings


def read_logits(folder: Path) -> torch.Tensor:
    """What `make_teacher` wrote: float32, shape (training rows, classes), in dense's order of classes."""
    return load_file(folder / LOGITS)["logits"]
