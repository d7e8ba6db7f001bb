"""What is measured: models reloaded from artifacts, with the task's rows as each of them takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors
from bench.encoding import Batch, Encoded, collate, encode
from bench.nouns.task import Example
from compressors.artifact import load_tokenizer, made_by

# So many batches of rows are taken to wait at a time. Of news headlines in batches of 32, sorting 8 batches
# brings padding from 35 % to 8 %, sorting 16 to 5 %: beyond 8 rows wait longer for little.
WAITING_BATCHES = 8
Places = tuple[int, ...]


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

    def run(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """Logits of each batch, one after the other."""
        return [self(batch) for batch in batches]

    def classify(self, examples: Sequence[Example], size: int) -> list[int]:
        """Class numbers of texts, in their order: tokenised, run in batches of `size`, and brought back."""
        rows = encode(self.tokenizer, examples, self.max_length)
        turns = self.turns(rows, size)
        best = [self(self.batch([rows[place] for place in turn])).argmax(-1) for turn in turns]
        return arranged(torch.cat(best), turns).tolist()

    @cached_property
    def sorts_rows(self) -> bool:
        """Whether its artifact was made to take rows in order of length."""
        return any(part.sorts_rows for part in made_by(self.folder))

    def turns(self, rows: Sequence[Encoded], size: int) -> list[Places]:
        """The places of `rows` in batches of `size`, as they are run: in arrival order.

        Where the subject sorts rows, those that wait together, `WAITING_BATCHES` batches, go by length.
        """
        order = list(range(len(rows)))
        if self.sorts_rows:
            waiting = WAITING_BATCHES * size
            order.sort(key=lambda place: (place // waiting, len(rows[place]["input_ids"])))
        return [tuple(order[start : start + size]) for start in range(0, len(order), size)]

    def batch(self, rows: Sequence[Encoded], width: int | None = None) -> Batch:
        """These rows as one batch on the device, padded to the longest or to `width`."""
        made = collate(rows, self.tokenizer.pad_token_id, width)
        return {key: tensor.to(self.device) for key, tensor in made.items()}

    def batches(self, size: int, rows: Sequence[Encoded] | None = None) -> list[Batch]:
        """`rows` (all by default) on the device, `size` at a time, as they are run."""
        given = self.rows if rows is None else rows
        return [self.batch([given[place] for place in turn]) for turn in self.turns(given, size)]

    @property
    def compile_time_s(self) -> float | None:
        """How long its runtime has taken so far to compile what it runs, in s; None for eager ones."""
        return getattr(self.model, "compile_time_s", None)

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


def arranged(answers: torch.Tensor, turns: Sequence[Places]) -> torch.Tensor:
    """What rows taken by `turns` gave, one entry a row, in the rows' own order."""
    in_order = torch.empty_like(answers)
    in_order[list(chain.from_iterable(turns))] = answers
    return in_order


def load_subject(
    name: str, folder: Path, examples: Sequence[Example], max_length: int, device: str
) -> Subject:
    """Load an artifact and encode `examples` with its own tokenizer."""
    model = compressors.load(folder, device)
    tokenizer = load_tokenizer(str(folder))
    rows = encode(tokenizer, examples, max_length)
    return Subject(name, folder, model, tokenizer, device, max_length, examples, rows)
