"""Speed, accuracy and size of one variant, in one process with its anchors."""

from __future__ import annotations

import json
from pathlib import Path

from bench.encoding import encode
from bench.meters.findings import Findings
from bench.meters.quality import predict, quality
from bench.meters.size import measure_size
from bench.meters.speed import measure_speed, plain
from bench.meters.subject import Subject, load_subject
from bench.nouns.run import DENSE, Scenario
from bench.protocol import PROTOCOLS
from bench.steps.common import prepare_process
from bench.steps.request import Request
from bench.tasks.stored import read_task
from bench.training import Progress
from bench.worker import PREDICTIONS
from compressors.artifact import ARTIFACT, load_tokenizer


def measure_timing(request: Request, folder: Path, progress: Progress) -> Findings:
    """Measure the artifact against dense; predictions of validation and test rows go below `folder`."""
    prepare_process(request)
    task = read_task(request.task)
    assert request.dense is not None
    assert request.artifact is not None
    protocol = PROTOCOLS[request.budget]

    def load(name: str, artifact: Path) -> Subject:
        return load_subject(name, artifact, task.test, request.max_length, request.device)

    progress("loading", 0, 3)
    dense = load(DENSE, request.dense / ARTIFACT)
    variant = dense if request.variant == DENSE else load(request.variant, request.artifact / ARTIFACT)
    findings = measure_size(dense, variant)
    progress("timing", 1, 3)
    anchors = [] if variant is dense else [dense, *same_precision(dense, variant)]
    findings.add(measure_speed(anchors, variant, request.batch_size, protocol, request.seed))
    findings.scenarios["tokenising"] = tokenising(variant)
    progress("accuracy", 2, 3)
    labels = [task.labels[row.label] for row in task.test]
    test, wall_time_s = predict(variant, variant.rows, labels, "test", request.batch_size)
    findings.add(quality(test, task.labels, wall_time_s))
    validation_rows = encode(
        load_tokenizer(str(request.artifact / ARTIFACT)), task.validation, request.max_length
    )
    validation_labels = [task.labels[row.label] for row in task.validation]
    validation, _ = predict(variant, validation_rows, validation_labels, "validation", request.batch_size)
    with (folder / PREDICTIONS).open("w", encoding="utf-8") as file:
        for prediction in [*validation, *test]:
            file.write(json.dumps(prediction.as_dict(), ensure_ascii=False) + "\n")
    return findings


def same_precision(dense: Subject, variant: Subject) -> list[Subject]:
    """Dense cast to the variant's precision, where that is another one."""
    return [dense.cast(variant.model.dtype)] if variant.model.dtype != dense.model.dtype else []


def tokenising(variant: Subject) -> Scenario:
    """Tokenising all test rows at once, one pass: outside every other timed region."""
    assert variant.tokenise_time_s is not None
    rate = len(variant.rows) / variant.tokenise_time_s
    return Scenario(
        batch_size=len(variant.rows),
        padding="none",
        stopped="one pass",
        metrics={"tokenising_rate": plain(rate, "samples/s", "higher", "perf_counter, one pass")},
    )
