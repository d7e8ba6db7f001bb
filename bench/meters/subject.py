"""What is measured: models reloaded from artifacts, with the task's rows as each of them takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors
from bench.encoding import Batch, Encoded, batches, collate, encode
from bench.nouns.task import Example
from compressors.artifact import load_tokenizer


@dataclass
class Subject:
    """A model ready to be run, with `examples` and the same encoded, as `rows`."""

    name: str
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: str
    max_length: int
    examples: Sequence[Example]
    rows: list[Encoded]

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Logits of one batch, shape (rows, classes)."""
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**batch).logits
        return logits

    def classify(self, examples: Sequence[Example]) -> list[int]:
        """Class numbers of one batch of texts: tokenised, run, and brought back."""
        return self(self.batch(encode(self.tokenizer, examples, self.max_length))).argmax(-1).tolist()

    def batch(self, rows: Sequence[Encoded], width: int | None = None) -> Batch:
        """These rows as one batch on the device, padded to the longest or to `width`."""
        made = collate(rows, self.tokenizer.pad_token_id, width)
        return {key: tensor.to(self.device) for key, tensor in made.items()}

    def batches(self, size: int, rows: Sequence[Encoded] | None = None) -> list[Batch]:
        """`rows` (all by default) in arrival order on the device, `size` at a time."""
        given = self.rows if rows is None else rows
        return list(batches(given, size, self.tokenizer.pad_token_id, self.device))

    @property
    def label_names(self) -> list[str]:
        """Class names in the order of the model's logits."""
        names: dict[int, str] = self.model.config.id2label
        return [names[i] for i in range(len(names))]

    def again(self, dtype: torch.dtype | None = None) -> Subject:
        """The same artifact loaded once more, with weights of `dtype` where given."""
        model = compressors.load(self.folder, self.device)
        if dtype is None:
            return replace(self, name=f"{self.name} again", model=model)
        return replace(
            self, name=f"{self.name} as {str(dtype).removeprefix('torch.')}", model=model.to(dtype)
        )


def load_subject(
    name: str, folder: Path, examples: Sequence[Example], max_length: int, device: str
) -> Subject:
    """Load an artifact and encode `examples` with its own tokenizer."""
    model = compressors.load(folder, device)
    tokenizer = load_tokenizer(str(folder))
    rows = encode(tokenizer, examples, max_length)
    return Subject(name, folder, model, tokenizer, device, max_length, examples, rows)
