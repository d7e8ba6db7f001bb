"""A checkpoint's classes, called as the data calls them: by their names, the user's map, or training rows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.encoding import batches, encode
from bench.nouns.task import Task
from bench.statistics import confusion, share_interval
from bench.steps.common import check_fit
from bench.steps.request import Request
from bench.tasks.split import limit
from compressors.artifact import class_names, set_class_names

MOST_ROWS = 2_000
NUMBERED = re.compile(r"LABEL_[0-9]+")
NAMED = 5

Counts = NDArray[np.int64]


def name_classes(
    task: Task,
    request: Request,
    notes: list[str],
    path_or_id: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> str | None:
    """Give the classes of a fine-tuned `model` the data's names; returns why that cannot be, or None.

    Classes that are only numbered are matched by training rows, which is said in `notes`. Other names may
    be those of another task: for them the match is only proposed.
    """
    names, labels = class_names(model.config), task.labels
    if set(names) == task.label_map.keys():
        set_class_names(model.config, [task.label_map[name] for name in names])
        return None
    if set(labels) <= set(names):
        return None
    called = f"its classes are {shown(names)}, the data's {shown(labels)}"
    if len(names) < len(labels):
        return f"{path_or_id}: {called}"
    if not task.train:
        blank = spelled(names, ["NAME"] * len(names))
        return f"{path_or_id}: {called}, and no training rows tell which is which; say so with {blank}"
    counts = count_rows(task, request, model, tokenizer)
    assigned: list[int] = linear_sum_assignment(counts, maximize=True)[1].tolist()
    matched = [labels[i] if i < len(labels) else name for name, i in zip(names, assigned, strict=True)]
    rows, agreeing = int(counts.sum()), int(counts[np.arange(len(names)), assigned].sum())
    if not is_numbered(names, labels):
        doubt = called
    elif unsure := unsure_classes(counts, assigned):
        doubt = f"{shown([names[i] for i in unsure])} cannot be told by {rows:,} training rows"
    else:
        set_class_names(model.config, matched)
        pairs = ", ".join(f"{name} is {label}" for name, label in zip(names, matched, strict=True))
        notes.append(
            f"{path_or_id}: its classes were matched to the data's by {rows:,} training rows, "
            f"{agreeing:,} of which agree: {pairs}"
        )
        return None
    return (
        f"{path_or_id}: {doubt}; say which is which, at best guess with {spelled(names, matched)} "
        f"(agrees on {agreeing:,} of {rows:,} training rows)"
    )


def is_numbered(names: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether the classes are as many as the labels, and their names say nothing."""
    return len(names) == len(labels) and all(NUMBERED.fullmatch(name) for name in names)


def count_rows(
    task: Task, request: Request, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Counts:
    """Training rows by (class predicted, label), square: labels that the data lacks have empty columns."""
    check_fit(model, tokenizer, request.max_length)
    rows = limit(task.train, max(MOST_ROWS, len(task.labels)), request.seed)
    encoded = encode(tokenizer, rows, request.max_length)
    model.to(request.device).eval()
    predicted: list[int] = []
    with torch.inference_mode():
        for batch in batches(encoded, request.batch_size, tokenizer.pad_token_id, request.device):
            predicted += model(**batch).logits.argmax(-1).tolist()
    model.to("cpu")
    return confusion([row.label for row in rows], predicted, model.config.num_labels).T


def unsure_classes(counts: Counts, assigned: Sequence[int]) -> list[int]:
    """Classes whose rows of their label are not clearly most of both the class's and the label's.

    Clearly: with 95 % confidence more than the next most, since of two labels that a model cannot tell apart
    one is always a little ahead. Where all are clear, more rows agree than if one class were said of all.
    """
    unsure = []
    for i, label in enumerate(assigned):
        own = int(counts[i, label])
        rival = int(max(np.delete(counts[i], label).max(), np.delete(counts[:, label], i).max()))
        if own == 0 or share_interval(own, own + rival)[0] <= 0.5:
            unsure.append(i)
    return unsure


def shown(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def spelled(names: Sequence[str], labels: Sequence[str]) -> str:
    """The option that names the classes so, as a shell takes it."""
    pairs = (f"{name}={label}" for name, label in zip(names, labels, strict=True))
    return f"--label-map {shlex.quote(','.join(pairs))}"
