"""What several steps do alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from bench.errors import InputError
from bench.nouns.task import Example
from compressors.artifact import longest_row


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


def check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Raise `InputError` where rows may hold more tokens, or others, than the model has embeddings for."""
    last, known = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if last >= known:
        raise InputError(
            f"{model.name_or_path}: its tokenizer numbers tokens up to {last:,} and its embeddings end at "
            f"{known - 1:,}, so they are not of one model; save the tokenizer it was trained with beside it"
        )
    longest = longest_row(model.config.to_dict(), tokenizer.model_max_length)
    if longest is not None and max_length > longest:
        raise InputError(f"--max-length {max_length}: this model takes {longest} tokens at most")
