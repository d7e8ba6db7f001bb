"""Predictions of the timed model, and the time it takes to classify the test rows once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from bench.encoding import Encoded
from bench.errors import MeasuringError
from bench.meters.findings import Findings
from bench.meters.rounds import synchronise
from bench.meters.subject import Subject, arranged
from bench.nouns.measurement import Measurement, measured
from bench.statistics import calibration_error, confusion, macro_f1, macro_f1_interval, share_interval

SOURCE = "predictions of the timed model"


@dataclass(frozen=True)
class Prediction:
    """One row's outcome, labels by name; `confidence` is the softmax of the predicted class.

    `seen` marks a row whose text stands in the training file too.
    """

    split: str
    row: int
    label: str
    predicted: str
    confidence: float
    seen: bool

    @property
    def is_right(self) -> bool:
        """Whether the row was classified correctly."""
        return self.label == self.predicted

    def as_dict(self) -> dict[str, str | int | float]:
        """For a line of JSON."""
        return asdict(self)


def predict(
    subject: Subject,
    rows: Sequence[Encoded],
    labels: Sequence[str],
    split: str,
    batch_size: int,
    seen: Sequence[bool],
) -> tuple[list[Prediction], float]:
    """Predictions for `rows` in order, and the wall time of the forward passes in seconds.

    What is compiled for a shape that was not run before, as the last batch's, is no part of that time.

    Raises `MeasuringError` where the model computes no numbers, as one whose precision overflows.
    """
    names = subject.label_names
    logits, wall_time_s = [], 0.0
    turns = subject.turns(rows, batch_size)
    compiled_s = subject.compile_time_s or 0.0
    for turn in turns:
        batch = subject.batch([rows[place] for place in turn])
        synchronise(subject.device)
        started = time.perf_counter()
        output = subject(batch)
        synchronise(subject.device)
        wall_time_s += time.perf_counter() - started
        logits.append(output.float().cpu())
    wall_time_s -= (subject.compile_time_s or 0.0) - compiled_s
    if not logits:
        return [], 0.0
    everything = arranged(torch.cat(logits), turns)
    if broken := int((~everything.isfinite()).any(-1).sum()):
        raise MeasuringError(f"the logits of {broken} of {len(rows)} {split} rows are not finite")
    confidence, best = everything.softmax(-1).max(-1)
    outcomes = zip(labels, best.tolist(), confidence.tolist(), seen, strict=True)
    found = [
        Prediction(split, i, label, names[k], round(c, 6), known)
        for i, (label, k, c, known) in enumerate(outcomes)
    ]
    return found, wall_time_s


def quality(test: Sequence[Prediction], labels: Sequence[str], wall_time_s: float) -> Findings:
    """Accuracy, on all rows and on unseen ones, macro-F1, calibration error, and the pass's wall time.

    A model may know classes beyond the task's `labels`; predicting one is an error like any other.
    """
    classes = dict.fromkeys([*labels, *(p.predicted for p in test)])
    number = {label: i for i, label in enumerate(classes)}
    counts = confusion([number[p.label] for p in test], [number[p.predicted] for p in test], len(classes))
    error, interval = calibration_error([p.confidence for p in test], [p.is_right for p in test])
    findings = Findings(
        metrics={
            "accuracy": accuracy("accuracy", test),
            "macro_f1": measured("macro_f1", float(macro_f1(counts)), SOURCE, macro_f1_interval(counts)),
            "calibration_error": measured("calibration_error", error, SOURCE, interval),
            "inference_wall_time": measured("inference_wall_time", wall_time_s, "perf_counter, one pass"),
        }
    )
    unseen = [p for p in test if not p.seen]
    if 0 < len(unseen) < len(test):
        findings.metrics["accuracy_unseen"] = accuracy("accuracy_unseen", unseen)
    else:
        which = "no" if unseen else "every"
        findings.unavailable["accuracy_unseen"] = f"{which} test row stands in the training file"
    return findings


def accuracy(name: str, rows: Sequence[Prediction]) -> Measurement:
    """The metric `name`: the share of `rows` that is right, with Wilson's interval."""
    hits = sum(p.is_right for p in rows)
    return measured(name, hits / len(rows), SOURCE, share_interval(hits, len(rows)))
