"""What several steps do alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from bench.encoding import Batch, collate, encode
from bench.errors import InputError
from bench.nouns.task import Example, Task
from bench.steps.request import Request
from bench.tasks.split import limit


def prepare_process(device: str, seed: int) -> None:
    """Seed everything, and pin float32 arithmetic to float32 (no TF32) for training and timing alike.

    Raises `InputError` for CUDA that torch cannot use.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch cannot use this machine's GPU; use --device cpu")
    set_seed(seed)
    torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]


def label_numbers(model: PreTrainedModel, labels: Sequence[str], rows: Sequence[Example]) -> list[int]:
    """Each row's label as the model numbers its classes, which need not be the task's order."""
    order = [int(model.config.label2id[label]) for label in labels]
    return [order[row.label] for row in rows]


@dataclass(frozen=True)
class Batches:
    """A compressor's `Context.batches`: the task's training rows."""

    task: Task
    request: Request

    def __call__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int | None = None
    ) -> Iterator[Batch]:
        request, rows = self.request, self.task.train
        if count is not None:
            rows = limit(rows, max(count, len(self.task.labels)), request.seed)
        encoded = encode(tokenizer, rows, request.max_length)
        numbers = label_numbers(model, self.task.labels, rows)
        for start in range(0, len(rows), request.batch_size):
            end = start + request.batch_size
            batch = collate(encoded[start:end], tokenizer.pad_token_id)
            batch["labels"] = torch.tensor(numbers[start:end])
            yield {key: tensor.to(request.device) for key, tensor in batch.items()}
