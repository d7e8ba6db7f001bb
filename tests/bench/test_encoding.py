"""Rows become token numbers, and batches hold exactly these, padded on the right."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from bench.encoding import Encoded, batches, collate, encode
from bench.nouns.task import Example


def test_rows_are_encoded_as_the_tokenizer_does_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [Example("the old rose", 0), Example("a frog", 1)]
    encoded = encode(tokenizer, rows, 32)
    assert encoded == [dict(tokenizer(row.text)) for row in rows]
    assert [len(row["input_ids"]) for row in encoded] == [5, 4]


def test_rows_are_cut_to_the_longest_length_with_their_special_tokens(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    (row,) = encode(tokenizer, [Example("the old rose near the new frog", 0)], 5)
    whole = tokenizer("the old rose near the new frog")["input_ids"]
    assert row["input_ids"] == [*whole[:4], tokenizer.sep_token_id]


def test_pairs_are_joined(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [Example("the rose", 0, pair="a frog"), Example("the sea", 1, pair="the sky seen")]
    encoded = encode(tokenizer, rows, 32)
    for row, got in zip(rows, encoded, strict=True):
        assert got["input_ids"] == tokenizer(row.text, row.pair)["input_ids"]
        assert got["input_ids"].count(tokenizer.sep_token_id) == 2


def test_an_empty_second_text_is_still_a_pair(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [Example("the rose", 0, pair=""), Example("the sea", 1, pair="")]
    both = encode(tokenizer, [*rows, Example("a", 0, pair="b")], 32)
    assert encode(tokenizer, rows, 32) == both[:2]


def test_no_rows_are_no_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    assert encode(tokenizer, [], 32) == []
    assert list(batches([], 4, 0, "cpu")) == []


encoded_rows = st.lists(
    st.lists(st.integers(1, 50), min_size=1, max_size=9).map(
        lambda tokens: {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
    ),
    min_size=1,
    max_size=20,
)


@given(encoded_rows, st.integers(1, 8), st.integers(0, 60))
def test_batches_hold_every_row_once_in_order(rows: list[Encoded], size: int, pad_token: int) -> None:
    got: list[list[int]] = []
    for batch in batches(rows, size, pad_token, "cpu"):
        tokens, mask = batch["input_ids"], batch["attention_mask"]
        assert tokens.shape == mask.shape
        assert tokens.dtype == mask.dtype == torch.int64
        assert 1 <= len(tokens) <= size
        assert int(mask.sum(1).max()) == tokens.shape[1], "no batch is longer than its longest row"
        for line, real in zip(tokens.tolist(), mask.tolist(), strict=True):
            length = sum(real)
            assert real == [1] * length + [0] * (len(line) - length)
            assert line[length:] == [pad_token] * (len(line) - length)
            got.append(line[:length])
    assert got == [row["input_ids"] for row in rows]


@pytest.mark.parametrize("pad_token", [0, 1, 7])
def test_only_token_numbers_are_padded_with_the_padding_token(pad_token: int) -> None:
    rows: list[Encoded] = [
        {"input_ids": [3, 4], "token_type_ids": [0, 1], "attention_mask": [1, 1]},
        {"input_ids": [3], "token_type_ids": [0], "attention_mask": [1]},
    ]
    batch = collate(rows, pad_token)
    assert batch["input_ids"].tolist() == [[3, 4], [3, pad_token]]
    assert batch["token_type_ids"].tolist() == [[0, 1], [0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
