"""A checkpoint's classes, called as the data calls them: by their names, the user's map, or training rows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.encoding import batches, encode
from bench.nouns.task import Task
from bench.statistics import confusion, share_interval
from bench.steps.request import Request
from bench.tasks.split import limit
from compressors.artifact import check_fit, class_names, set_class_names

MOST_ROWS = 2_000
NUMBERED = re.compile(r"LABEL_[0-9]+")
NAMED = 5

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Naming:
    """Gives the classes of fine-tuned checkpoints the data's names; what is to be said goes to `notes`."""

    task: Task
    request: Request
    notes: list[str]

    def __call__(
        self, path_or_id: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> str | None:
        """Name `model`'s classes in place, by the user's map or training rows; why that cannot be, or None.

        Classes that are only numbered are matched by training rows. Other names may be those of another
        task: for them the match is only proposed.
        """
        names, labels = class_names(model.config), self.task.labels
        if set(names) == self.task.label_map.keys():
            return self._by_map(path_or_id, model, tokenizer)
        if set(labels) <= set(names):
            return None
        called = f"its classes are {shown(names)}, the data's {shown(labels)}"
        if len(names) < len(labels):
            return f"{path_or_id}: {called}"
        if not self.task.train:
            blank = spelled(names, ["NAME"] * len(names))
            return f"{path_or_id}: {called}, and no training rows tell which is which; say so with {blank}"
        return self._by_rows(path_or_id, model, tokenizer, called)

    def _by_map(
        self, path_or_id: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> str | None:
        """By `--label-map`, unless training rows clearly speak for another naming.

        Two checkpoints with the same names may number their classes differently.
        """
        matched = [self.task.label_map[name] for name in class_names(model.config)]
        if self.task.train:
            counts = self._count(model, tokenizer)
            columns = {label: counts[:, i] for i, label in enumerate(self.task.labels)}
            rows, most = int(counts.sum()), int(counts[linear_sum_assignment(counts, maximize=True)].sum())
            agreeing = sum(int(columns[label][i]) for i, label in enumerate(matched) if label in columns)
            agree = f"{agreeing:,} of {rows:,} training rows agree"
            if most and share_interval(most, most + agreeing)[0] > 0.5:
                return (
                    f"{path_or_id}: {agree} with --label-map, {most:,} with another naming; "
                    "name the classes in its config.json"
                )
            self.notes.append(f"{path_or_id}: its classes are named by --label-map; {agree}")
        set_class_names(model.config, matched)
        return None

    def _by_rows(
        self, path_or_id: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, called: str
    ) -> str | None:
        """By the labels of training rows, where every class is clear."""
        names, labels = class_names(model.config), self.task.labels
        counts = self._count(model, tokenizer)
        assigned: list[int] = linear_sum_assignment(counts, maximize=True)[1].tolist()
        matched = [labels[i] if i < len(labels) else name for name, i in zip(names, assigned, strict=True)]
        rows, agreeing = int(counts.sum()), int(counts[np.arange(len(names)), assigned].sum())
        doubt = None if is_numbered(names, labels) else called
        if doubt is None and (unsure := unsure_classes(counts, assigned)):
            doubt = f"{shown([names[i] for i in unsure])} cannot be told by {rows:,} training rows"
        if doubt:
            return (
                f"{path_or_id}: {doubt}; say which is which, at best guess with {spelled(names, matched)} "
                f"(agrees on {agreeing:,} of {rows:,} training rows)"
            )
        set_class_names(model.config, matched)
        pairs = ", ".join(f"{name} is {label}" for name, label in zip(names, matched, strict=True))
        self.notes.append(
            f"{path_or_id}: its classes were matched to the data's by {rows:,} training rows, "
            f"{agreeing:,} of which agree: {pairs}"
        )
        return None

    def _count(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Counts:
        """Training rows by (class predicted, label), square: labels that the data lacks have empty columns.

        Always the same rows: what a checkpoint's classes are does not depend on the run's seed.
        """
        request = self.request
        check_fit(model, tokenizer, request.max_length)
        rows = limit(self.task.train, max(MOST_ROWS, len(self.task.labels)), seed=0)
        encoded = encode(tokenizer, rows, request.max_length)
        model.to(request.device).eval()
        predicted: list[int] = []
        with torch.inference_mode():
            for batch in batches(encoded, request.batch_size, tokenizer.pad_token_id, request.device):
                predicted += model(**batch).logits.argmax(-1).tolist()
        model.to("cpu")
        return confusion([row.label for row in rows], predicted, model.config.num_labels).T


def is_numbered(names: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether the classes are as many as the labels, and their names say nothing."""
    return len(names) == len(labels) and all(NUMBERED.fullmatch(name) for name in names)


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
