"""Speed, accuracy and size of one variant, in one process with its anchors."""

from __future__ import annotations

import json
from pathlib import Path

from bench.encoding import encode, truncated_share
from bench.meters.feeds import Feed, padded, shaped, threaded, usual
from bench.meters.findings import Findings
from bench.meters.machine import openmp_spin
from bench.meters.quality import Prediction, predict, quality
from bench.meters.size import measure_size
from bench.meters.speed import (
    measure_latency,
    measure_loading,
    measure_speed,
    measure_tokenising,
)
from bench.meters.subject import Subject, load_subject
from bench.nouns.measurement import SPEEDUPS, measured
from bench.nouns.run import DENSE
from bench.nouns.task import Task
from bench.protocol import PROTOCOLS
from bench.steps.common import prepare_process
from bench.steps.request import Request
from bench.tasks.stored import read_task
from bench.training import Progress
from bench.worker import PREDICTIONS
from compressors.artifact import ARTIFACT, made_by
from compressors.variant import parse_variant

STAGES = 5
ATTEMPTS_APART = 1_000_003


def measure_timing(request: Request, folder: Path, progress: Progress) -> Findings:
    """Measure the artifact against dense; predictions of validation and test rows go below `folder`."""
    prepare_process(request.device, request.seed)
    task = read_task(request.task)
    assert request.dense is not None
    assert request.artifact is not None
    setting = parse_variant(request.variant).setting
    protocol, batch_size = PROTOCOLS[request.budget], request.batch_size
    progress("loading", 0, STAGES)

    def load(name: str, folder: Path) -> Subject:
        return load_subject(name, folder / ARTIFACT, task.test, request.max_length, request.device)

    variant = load(request.variant, request.artifact)
    findings = measure_loading(variant, batch_size, protocol)
    dense = variant if request.variant == DENSE else load(DENSE, request.dense)
    findings.add(measure_size(dense, variant))
    findings.openmp_spin = openmp_spin()
    progress("timing", 1, STAGES)
    equal = None if request.equal is None else load(f"{DENSE} as {setting.name}", request.equal)
    anchors = anchors_of(dense, variant, equal, of_its_own=bool(setting.parts or made_by(dense.folder)))
    rounds_seed = request.seed + request.attempt * ATTEMPTS_APART
    findings.add(measure_speed(anchors, variant, feeds(request, variant, dense), protocol, rounds_seed))
    if variant is dense:
        for name in SPEEDUPS:
            findings.metrics[name] = measured(name, 1.0, "definition: this is dense")
            findings.unavailable.pop(name, None)
    del anchors, dense, equal
    progress("requests", 2, STAGES)
    findings.add(measure_latency(variant, batch_size, protocol))
    progress("tokenising", 3, STAGES)
    findings.add(measure_tokenising(variant, batch_size, protocol, request.seed))
    progress("accuracy", 4, STAGES)
    with findings.spending("accuracy"):
        findings.add(measure_quality(variant, task, batch_size, folder / PREDICTIONS))
    return findings


def anchors_of(
    dense: Subject, variant: Subject, equal: Subject | None, of_its_own: bool
) -> dict[str, Subject]:
    """What each speed-up is over: dense, and `equal`, which is dense in the variant's precision and engine.

    A variant that has a precision or engine `of_its_own` and no `equal` is that itself, or is measured
    against another artifact. Dense runs against a second copy of itself: what differs then is the machine's
    doing alone. A checkpoint that came in another precision, by whomever it was made, is compared with dense
    cast to it.
    """
    if variant is dense:
        return dict.fromkeys(SPEEDUPS, dense.again())
    if equal is None and of_its_own:
        return {"speedup": dense}
    if equal is None and variant.model.dtype != dense.model.dtype:
        equal = dense.again(variant.model.dtype)
    return {"speedup": dense, "speedup_same_precision": equal or dense}


def feeds(request: Request, variant: Subject, dense: Subject) -> list[Feed]:
    """The scenarios, the headline first: those always measured, and those asked for."""
    size = request.batch_size
    return [
        *usual(variant, size, dense),
        *(padded(variant, size, padding) for padding in request.paddings),
        *(shaped(variant, shape) for shape in request.shapes),
        *(threaded(variant, size, count, dense) for count in request.thread_counts),
    ]


def measure_quality(variant: Subject, task: Task, batch_size: int, predictions: Path) -> Findings:
    """Accuracy on the test rows; every prediction goes to the file, those of validation rows first."""

    def predicted(split: str) -> tuple[list[Prediction], float]:
        examples = getattr(task, split)
        is_test = split == "test"
        rows = variant.rows if is_test else encode(variant.tokenizer, examples, variant.max_length)
        labels, seen = [task.labels[row.label] for row in examples], [row.seen for row in examples]
        return predict(variant, rows, labels, split, batch_size, seen)

    validation, _ = predicted("validation")
    test, wall_time_s = predicted("test")
    with predictions.open("w", encoding="utf-8") as file:
        for prediction in [*validation, *test]:
            file.write(json.dumps(prediction.as_dict(), ensure_ascii=False) + "\n")
    findings = quality(test, task.labels, wall_time_s)
    share = truncated_share(variant.tokenizer, task.test, variant.max_length)
    findings.metrics["truncated_share"] = measured("truncated_share", share, "count")
    return findings
