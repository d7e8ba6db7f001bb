"""Rows as a model takes them: token numbers, and batches padded to their longest row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.nouns.task import Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Encoded = dict[str, list[int]]
Batch = dict[str, "torch.Tensor"]


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Example], max_length: int | None
) -> list[Encoded]:
    """Token numbers of each row, truncated to `max_length` (whole where None), not padded."""
    if not rows:
        return []
    pairs = [row.pair for row in rows if row.pair is not None]
    assert len(pairs) in (0, len(rows)), "a task has a second text in every row or in none"
    encoded = tokenizer(
        [row.text for row in rows],
        pairs or None,
        truncation=max_length is not None,
        max_length=max_length,
    )
    return [{key: encoded[key][i] for key in encoded} for i in range(len(rows))]


def truncated_share(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Example], max_length: int) -> float:
    """Share of the rows that have more than `max_length` tokens."""
    whole = encode(tokenizer, rows, max_length=None)
    return sum(len(row["input_ids"]) > max_length for row in whole) / len(rows)


def collate(rows: Sequence[Encoded], pad_token: int, width: int | None = None) -> Batch:
    """One batch, int64 tensors of shape (rows, longest), padded on the right; to `width` where given."""
    import torch

    longest = width or max(len(row["input_ids"]) for row in rows)
    padding = {"input_ids": pad_token}
    return {
        key: torch.tensor([row[key] + [padding.get(key, 0)] * (longest - len(row[key])) for row in rows])
        for key in rows[0]
    }


def batches(rows: Sequence[Encoded], size: int, pad_token: int, device: str) -> Iterator[Batch]:
    """All rows in arrival order, `size` at a time, each batch padded to its own longest row."""
    for start in range(0, len(rows), size):
        batch = collate(rows[start : start + size], pad_token)
        yield {key: tensor.to(device) for key, tensor in batch.items()}
