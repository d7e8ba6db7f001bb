"""What is measured: models reloaded from artifacts, with the task's rows as each of them takes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

import compressors
from bench.encoding import Batch, Encoded, batches, encode
from bench.nouns.task import Example
from compressors.artifact import load_tokenizer


@dataclass
class Subject:
    """A model ready to be run on encoded `rows`; `tokenise_time_s` is None where nobody took it."""

    name: str
    folder: Path
    model: PreTrainedModel
    device: str
    pad_token: int
    rows: list[Encoded]
    tokenise_time_s: float | None = None

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Logits of one batch, shape (rows, classes)."""
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**batch).logits
        return logits

    def batches(self, size: int, rows: Sequence[Encoded] | None = None) -> list[Batch]:
        """`rows` (all by default) in arrival order on the device, `size` at a time."""
        return list(batches(self.rows if rows is None else rows, size, self.pad_token, self.device))

    @property
    def label_names(self) -> list[str]:
        """Class names in the order of the model's logits."""
        names: dict[int, str] = self.model.config.id2label
        return [names[i] for i in range(len(names))]

    def cast(self, dtype: torch.dtype) -> Subject:
        """The same artifact loaded again, with weights of `dtype`."""
        model = compressors.load(self.folder, self.device).to(dtype)
        name = f"{self.name} as {str(dtype).removeprefix('torch.')}"
        return Subject(name, self.folder, model, self.device, self.pad_token, self.rows)


def load_subject(name: str, folder: Path, test: Sequence[Example], max_length: int, device: str) -> Subject:
    """Load an artifact and encode the test rows with its own tokenizer, the encoding timed."""
    model = compressors.load(folder, device)
    tokenizer = load_tokenizer(str(folder))
    tokenising = time.perf_counter()
    rows = encode(tokenizer, test, max_length)
    tokenised = time.perf_counter()
    return Subject(name, folder, model, device, tokenizer.pad_token_id, rows, tokenised - tokenising)


def synchronise(device: str) -> None:
    """Wait until the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
