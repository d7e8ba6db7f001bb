"""Memory and energy of one variant, in a process of its own, never while anything is timed."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from bench.meters.energy import energy_findings, open_energy_meter
from bench.meters.findings import Findings
from bench.meters.memory import MemoryWindow
from bench.meters.subject import load_subject, synchronise
from bench.protocol import PROTOCOLS
from bench.steps.common import prepare_process
from bench.steps.request import Request
from bench.tasks.stored import read_task
from bench.training import Progress
from compressors.artifact import ARTIFACT


def measure_footprint(request: Request, folder: Path, progress: Progress) -> Findings:
    """Peak memory of loading the artifact and classifying the test rows; energy of doing so for a while."""
    prepare_process(request)
    task = read_task(request.task)
    assert request.artifact is not None
    progress("memory", 0, 2)
    window = MemoryWindow(request.device)
    subject = load_subject(
        request.variant, request.artifact / ARTIFACT, task.test, request.max_length, request.device
    )
    feed = subject.batches(request.batch_size)
    widest = sorted(feed, key=lambda batch: -batch["input_ids"].numel())[:10]
    for batch in widest:
        subject(batch)
    synchronise(request.device)
    findings = window.close()
    progress("energy", 1, 2)
    meter = open_energy_meter(request.device)
    window_s = PROTOCOLS[request.budget].energy_window_s
    rows, started = 0, time.perf_counter()
    meter.begin()
    for batch in itertools.cycle(feed):
        subject(batch)
        rows += len(batch["input_ids"])
        if time.perf_counter() - started >= window_s:
            break
    energy = meter.end()
    return findings.add(energy_findings("inference_energy_per_sample", energy, units=rows))
