"""Checkpoints of a real tiny classifier that has learnt the toy task, written as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.encoding import collate, encode
from bench.nouns.task import Example, Task
from bench.steps.request import Request
from bench.tasks.stored import write_task
from compressors.artifact import set_class_names
from tests.compressors.tiny import LABELS, TOY_ROWS, tiny, toy_rows, toy_tokenizer

WEIGHTS = "model.safetensors"
STEPS, LEARNING_RATE = 40, 5e-3


def examples(rows: Sequence[tuple[str, str]]) -> tuple[Example, ...]:
    return tuple(Example(text, LABELS.index(label)) for text, label in rows)


TRAIN, TEST = examples(TOY_ROWS), examples(toy_rows(60, seed=1))


def toy_task(**changes: Any) -> Task:
    """The toy task; its training, validation and test rows are learnable."""
    rows = {"train": TRAIN, "validation": TEST, "test": TEST}
    return Task(**({"name": "toy", "description": "rows", "labels": LABELS} | rows | changes))


@cache
def tokenizer_of_task() -> PreTrainedTokenizerBase:
    return toy_tokenizer([row.text for row in TRAIN])


@cache
def learnt() -> dict[str, torch.Tensor]:
    """Weights of a tiny BERT that is right on the toy task's training rows."""
    model = tiny(layers=1).apply(reset).train()
    tokenizer = tokenizer_of_task()
    batch = collate(encode(tokenizer, TRAIN, None), tokenizer.pad_token_id)
    labels = torch.tensor([row.label for row in TRAIN])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(**batch).logits, labels).backward()
        optimizer.step()
    predicted: torch.Tensor = model.eval()(**batch).logits.argmax(-1)
    assert predicted.eq(labels).float().mean() > 0.95
    return model.state_dict()


def reset(module: nn.Module) -> None:
    """Weights from which a model learns, in place of those that make every part matter."""
    if isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm):
        module.reset_parameters()


def checkpoint(
    folder: Path,
    names: Sequence[str] = LABELS,
    order: Sequence[int] = (0, 1, 2),
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A checkpoint that is right on the toy task: class `i` is the task's `order[i]`, called `names[i]`."""
    model = tiny(layers=1)
    model.load_state_dict(learnt())
    for parameter in model.classifier.parameters():
        parameter.data = parameter.data[list(order)]
    set_class_names(model.config, names)
    model.to(dtype).save_pretrained(folder)
    tokenizer_of_task().save_pretrained(folder)
    return folder


def change_weights(folder: Path, change: Any) -> None:
    """Write the checkpoint's weights again as `change` gives them back."""
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def request(folder: Path, task: Task, **changes: Any) -> Request:
    """A request about `task`, which is written below `folder`."""
    (folder / "task").mkdir(parents=True)
    write_task(task, folder / "task")
    settings: dict[str, Any] = {
        "kind": "dense",
        "task": folder / "task",
        "variant": "dense",
        "device": "cpu",
        "seed": 0,
        "epochs": 1.0,
        "learning_rate": 1e-3,
        "batch_size": 16,
        "max_length": 32,
        "budget": "quick",
        "plugins": [],
    }
    return Request(**(settings | changes))


def same(first: PreTrainedModel, second: PreTrainedModel) -> bool:
    """Whether two models hold the same weights."""
    own, other = first.state_dict(), second.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
