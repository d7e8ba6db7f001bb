"""Memory and energy of one variant, in a process of its own, never while anything is timed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import compressors
from bench.encoding import Batch, batches, encode
from bench.meters.energy import EnergyWindow
from bench.meters.findings import Findings
from bench.meters.memory import MemoryWindow
from bench.meters.rounds import synchronise
from bench.meters.subject import Subject
from bench.protocol import PROTOCOLS, Protocol
from bench.steps.common import prepare_process
from bench.steps.request import Request
from bench.tasks.stored import read_task
from bench.training import Progress
from compressors.artifact import ARTIFACT, load_tokenizer

WIDEST_BATCHES = 10


def measure_footprint(request: Request, folder: Path, progress: Progress) -> Findings:
    """Peak memory of loading the artifact and classifying the longest rows; energy of all for a while.

    Rows are encoded before the memory window opens, and batched one at a time within it, so that the peak
    is the model's and does not grow with the test set.
    """
    prepare_process(request.device, request.seed)
    task = read_task(request.task)
    assert request.artifact is not None
    place, size, findings = request.artifact / ARTIFACT, request.batch_size, Findings()
    progress("memory", 0, 2)
    tokenizer = load_tokenizer(str(place))
    rows = encode(tokenizer, task.test, request.max_length)
    widest = sorted(rows, key=lambda row: -len(row["input_ids"]))[: WIDEST_BATCHES * size]
    with findings.spending("memory"):
        window = MemoryWindow(request.device)
        model = compressors.load(place, request.device)
        subject = Subject(
            request.variant, place, model, tokenizer, request.device, request.max_length, task.test, rows
        )
        for batch in batches(widest, size, tokenizer.pad_token_id, request.device):
            subject(batch)
        synchronise(request.device)
        findings.add(window.close())
    progress("energy", 1, 2)
    return findings.add(measure_energy(subject, size, PROTOCOLS[request.budget]))


def measure_energy(subject: Subject, size: int, protocol: Protocol) -> Findings:
    """Energy of one row, and the power of the idle machine with the model loaded.

    Rows are classified in as many sections as the source is read in, each at least a batch.
    """
    started = time.perf_counter()
    feed = subject.batches(size)
    # What runs a batch of another shape may have to be compiled or captured first.
    for batch in {batch["input_ids"].shape: batch for batch in feed}.values():
        subject(batch)
    synchronise(subject.device)
    warmed_s = time.perf_counter() - started
    window = EnergyWindow(subject.device, protocol.idle_window_s)
    section_s = max(protocol.energy_window_s, window.shortest_s) / window.sections
    endless, started = itertools.cycle(feed), time.perf_counter()
    for _ in range(window.sections - 1):
        window.lap(classify_for(section_s, subject, endless))
    last = classify_for(section_s, subject, endless)
    worked_s = time.perf_counter() - started
    findings = window.close("inference_energy_per_sample", units=last)
    findings.spent["energy"] = warmed_s + window.idle_time_s + worked_s
    return findings.add(window.idle_power())


def classify_for(seconds: float, subject: Subject, feed: Iterator[Batch]) -> int:
    """How many rows were classified, batch by batch, when so long had passed."""
    rows, started = 0, time.perf_counter()
    for batch in feed:
        subject(batch)
        rows += len(batch["input_ids"])
        if time.perf_counter() - started >= seconds:
            break
    return rows
