"""Sorting by length is a way of running: the model stays as it is, and who runs it is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import compressors
from bench.errors import Refusal
from compressors import artifact
from compressors.variant import Variant, parse_variant
from tests.compressors.tiny import context_of, logits, tiny


def test_the_model_is_left_as_it_is(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model, variant = tiny(), parse_variant("sorted")
    assert not variant.trains
    before = logits(model)
    [part] = variant.parts
    made = part.finish(part.prepare(model, context_of(model, tokenizer)), context_of(model, tokenizer))
    assert torch.equal(logits(made), before)
    artifact.save(made, tokenizer, variant, tmp_path)
    assert torch.equal(logits(compressors.load(tmp_path)), before)


def test_the_artifact_tells_that_its_rows_are_sorted(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    for spec, sorts in (("sorted", True), ("mp+sorted", True), ("mp", False), ("dense", False)):
        artifact.save(tiny(), tokenizer, parse_variant(spec), tmp_path / spec)
        assert any(part.sorts_rows for part in artifact.made_by(tmp_path / spec)) == sorts


def test_dense_is_compared_without_being_sorted() -> None:
    assert parse_variant("sorted").setting == Variant()
    assert parse_variant("sorted+mp").setting.name == "mp"


def test_batches_of_one_row_are_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    model, [part] = tiny(), parse_variant("sorted").parts
    with pytest.raises(Refusal, match="a batch of one row has none"):
        part.prepare(model, replace(context_of(model, tokenizer), batch_size=1))
