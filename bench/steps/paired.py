"""One model against another: the headline's paired rounds, and accuracy on the same rows."""

from __future__ import annotations

import os
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from bench.encoding import encode
from bench.environment import worker_environment
from bench.errors import InputError, MeasuringError
from bench.meters.feeds import headline
from bench.meters.quality import predict
from bench.meters.speed import measure_feed
from bench.meters.subject import Subject, load_subject
from bench.nouns.verdict import AccuracyVerdict
from bench.paired import ANCHOR, VARIANT, PairedRequest, PairedResult
from bench.plan import ACCURACY_MARGIN
from bench.protocol import PROTOCOLS
from bench.statistics import Outcome, judge, speed_verdict
from bench.steps.classes import shown
from bench.steps.common import prepare_process
from compressors.artifact import (
    VARIANT_FILE,
    check_fit,
    load_model,
    load_tokenizer,
    longest_row,
    read_config,
)

SEED = 0


def measure(request: PairedRequest) -> PairedResult:
    """Load both models, time them in paired rounds and compare their answers.

    Raises `InputError` where a model does not fit the rows, `MeasuringError` where this process is not set up
    as workers are, or too few rounds count.
    """
    if not worker_environment().items() <= os.environ.items():
        raise MeasuringError(
            "multiprocessing's fork server was started by something else, with its own threads; "
            "measure in a process that has not started one"
        )
    prepare_process(request.device, SEED)
    disable_progress_bar()
    variant, anchor = load(VARIANT, request.variant, request), load(ANCHOR, request.over, request)
    feed, protocol = headline(variant, request.batch_size, anchor), PROTOCOLS[request.budget]
    findings = measure_feed({"speedup": anchor}, variant, feed, protocol, SEED)
    scenario = findings.scenarios[feed.name]
    if "speedup" not in scenario.metrics:
        raise MeasuringError(f"{request.variant}: {scenario.stopped}")
    speedup = scenario.metrics["speedup"]
    return PairedResult(
        speedup=speedup,
        verdict=speed_verdict(speedup, request.margin),
        throughput=scenario.metrics["throughput"],
        accuracy=compare_accuracy(anchor, variant, request),
        scenario=scenario,
        notes=(*findings.notes, *(f"{caution.text}; {caution.remedy}" for caution in findings.cautions)),
    )


def load(name: str, folder: Path, request: PairedRequest) -> Subject:
    """The artifact or checkpoint in `folder`, ready to run the rows: a checkpoint in its stored precision."""
    rows, max_length, device = request.task.test, request.max_length, request.device
    tokenizer = load_tokenizer(str(folder))
    longest = longest_row(read_config(str(folder)), tokenizer.model_max_length)
    if longest is not None and max_length > longest:
        raise InputError(f"max_length={max_length}: {folder} takes {longest} tokens at most")
    if (folder / VARIANT_FILE).exists():
        subject = load_subject(name, folder, rows, max_length, device)
    else:
        model = load_model(str(folder), "auto")
        check_fit(model, tokenizer, max_length)
        encoded = encode(tokenizer, rows, max_length)
        subject = Subject(name, folder, model.to(device), tokenizer, device, max_length, rows, encoded)
    if not set(request.task.labels) <= set(subject.label_names):
        called = f"its classes are {shown(subject.label_names)}, the rows' {shown(request.task.labels)}"
        raise InputError(f"{folder}: {called}; name them in its config.json, or give the texts alone")
    return subject


def compare_accuracy(anchor: Subject, variant: Subject, request: PairedRequest) -> AccuracyVerdict | None:
    """Whether the variant keeps the anchor's accuracy on the rows; None where these have no labels."""
    task = request.task
    if not task.labels:
        return None
    labels, seen = [task.labels[row.label] for row in task.test], [row.seen for row in task.test]

    def outcomes(subject: Subject) -> list[Outcome]:
        predictions, _ = predict(subject, subject.rows, labels, "test", request.batch_size, seen)
        return [Outcome(prediction.label, prediction.predicted) for prediction in predictions]

    return judge(outcomes(anchor), outcomes(variant), ACCURACY_MARGIN)
