"""CUDA graphs, as far as they can be seen without a device: shapes, padding, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import compressors
from bench.errors import InputError, Refusal
from compressors import artifact
from compressors.engines import Captured
from compressors.variant import check, parse_variant
from tests.compressors.tiny import POSITIONS, context_of, logits, padded_batch, tiny


class Replayed:
    """Stands for a captured graph on a machine without CUDA: replaying runs the model on the inputs."""

    def __init__(self, model: Any, batch: dict[str, torch.Tensor]) -> None:
        self.model = model
        self.inputs = {name: torch.zeros_like(tensor) for name, tensor in batch.items()}
        self.graph = self

    def replay(self) -> None:
        self.logits = self.model(**self.inputs).logits


class OnCpu(Captured):
    """Captures nothing; counts how often it is asked to."""

    captures = 0

    def capture(self, batch: dict[str, torch.Tensor]) -> Any:
        self.captures += 1
        return Replayed(self.model, batch)


def test_other_devices_are_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    variant = parse_variant("graphs")
    with pytest.raises(Refusal, match="graphs needs a CUDA device, and this is cpu"):
        variant.parts[0].prepare(tiny(), context_of(tiny(), tokenizer))
    artifact.save(tiny(), tokenizer, variant, tmp_path)
    with pytest.raises(Refusal, match="graphs needs a CUDA device"):
        compressors.load(tmp_path)


@pytest.mark.parametrize("spec", ["graphs:multiple=0", "graphs:shapes=-1"])
def test_settings_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="is not 1 or more"):
        check(parse_variant(spec), "cuda")


def test_logits_do_not_change_by_the_padding_to_few_shapes() -> None:
    model, engine = tiny(), OnCpu(tiny(), multiple=8, most=10)
    for rows, width in [(5, 12), (5, 9), (5, 16), (1, 3), (1, 12)]:
        batch = padded_batch(rows, width)
        torch.testing.assert_close(logits(engine, batch), logits(model, batch), atol=1e-4, rtol=1e-4)
    assert engine.captures == 3
    assert engine.compile_time_s > 0


def test_rows_are_never_padded_beyond_what_the_model_takes() -> None:
    for family in ("bert", "roberta"):
        engine = OnCpu(tiny(family), multiple=64, most=10)
        logits(engine, padded_batch(2, 30))
        [(_, width, *_)] = engine.graphs
        assert width == (POSITIONS if family == "bert" else POSITIONS - 1)


def test_the_shape_that_was_used_longest_ago_makes_room() -> None:
    engine = OnCpu(tiny(), multiple=8, most=2)
    for width in (8, 16, 8, 24, 8):
        logits(engine, padded_batch(2, width))
    assert engine.captures == 3
    logits(engine, padded_batch(2, 16))
    assert engine.captures == 4
    assert len(engine.graphs) == 2


def test_what_was_answered_stays_when_the_graph_is_replayed() -> None:
    engine = OnCpu(tiny(), multiple=8, most=2)
    first, second = padded_batch(2, 8, seed=1), padded_batch(2, 8, seed=2)
    answer = logits(engine, first)
    kept = answer.clone()
    assert not torch.equal(logits(engine, second), kept)
    assert torch.equal(answer, kept)


def test_a_batch_without_a_mask_is_all_tokens() -> None:
    batch = {"input_ids": padded_batch(3, 11)["input_ids"]}
    answer = logits(OnCpu(tiny(), multiple=8, most=2), batch)
    torch.testing.assert_close(answer, logits(tiny(), batch), atol=1e-4, rtol=1e-4)
