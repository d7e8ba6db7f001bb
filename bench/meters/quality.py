"""Predictions of the timed model, and the time it takes to classify the test rows once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from bench.encoding import Encoded
from bench.errors import MeasuringError
from bench.meters.findings import Findings
from bench.meters.subject import Subject, synchronise
from bench.nouns.measurement import measured
from bench.statistics import confusion, macro_f1, macro_f1_interval, share_interval

SOURCE = "predictions of the timed model"


@dataclass(frozen=True)
class Prediction:
    """One row's outcome, labels by name; `confidence` is the softmax of the predicted class."""

    split: str
    row: int
    label: str
    predicted: str
    confidence: float

    def as_dict(self) -> dict[str, str | int | float]:
        """For a line of JSON."""
        return asdict(self)


def predict(
    subject: Subject, rows: Sequence[Encoded], labels: Sequence[str], split: str, batch_size: int
) -> tuple[list[Prediction], float]:
    """Predictions for `rows` in order, and the wall time of the forward passes in seconds.

    Raises `MeasuringError` where the model computes no numbers, as one whose precision overflows.
    """
    names = subject.label_names
    logits, wall_time_s = [], 0.0
    for batch in subject.batches(batch_size, rows):
        synchronise(subject.device)
        started = time.perf_counter()
        output = subject(batch)
        synchronise(subject.device)
        wall_time_s += time.perf_counter() - started
        logits.append(output.float().cpu())
    if not logits:
        return [], 0.0
    everything = torch.cat(logits)
    if broken := int((~everything.isfinite()).any(-1).sum()):
        raise MeasuringError(f"the logits of {broken} of {len(rows)} {split} rows are not finite")
    confidence, best = everything.softmax(-1).max(-1)
    found = [
        Prediction(split, i, label, names[k], round(c, 6))
        for i, (label, k, c) in enumerate(zip(labels, best.tolist(), confidence.tolist(), strict=True))
    ]
    return found, wall_time_s


def quality(test: Sequence[Prediction], labels: Sequence[str], wall_time_s: float) -> Findings:
    """Accuracy with Wilson's interval, macro-F1 with a bootstrap interval, and the pass's wall time.

    A model may know classes beyond the task's `labels`; predicting one is an error like any other.
    """
    classes = dict.fromkeys([*labels, *(p.predicted for p in test)])
    number = {label: i for i, label in enumerate(classes)}
    counts = confusion([number[p.label] for p in test], [number[p.predicted] for p in test], len(classes))
    hits, rows = int(counts.trace()), len(test)
    return Findings(
        metrics={
            "accuracy": measured("accuracy", hits / rows, SOURCE, share_interval(hits, rows)),
            "macro_f1": measured("macro_f1", float(macro_f1(counts)), SOURCE, macro_f1_interval(counts)),
            "inference_wall_time": measured("inference_wall_time", wall_time_s, "perf_counter, one pass"),
        }
    )
