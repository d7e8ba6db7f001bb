"""Magnitude: a unit's score is the mean magnitude of its weights, as they are when it is judged."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from compressors.magnitude import MagnitudePruning
from compressors.shapes import layer_shapes
from tests.compressors.pruning import HEAD_SIZE, pruning
from tests.compressors.tiny import HEADS, padded_batch, tiny


@pytest.mark.parametrize("block", [1, 4, 8, 32])
def test_scores_are_mean_magnitudes(tokenizer: PreTrainedTokenizerBase, block: int) -> None:
    pruned = pruning(tokenizer, tiny(layers=2), MagnitudePruning, block=block)
    pruned.part.score()
    for layer, whole in zip(pruned.layers, tiny(layers=2).bert.encoder.layer, strict=True):
        attention, ffn_in, ffn_out = whole.attention, whole.intermediate.dense, whole.output.dense
        inputs = [getattr(attention.self, name).weight for name in ("query", "key", "value")]
        for head, found in enumerate(layer.head_scores()):
            rows = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
            own = [weight[rows].flatten() for weight in inputs]
            own.append(attention.output.dense.weight[:, rows].flatten())
            torch.testing.assert_close(found, torch.cat(own).abs().mean())
        for neuron, found in enumerate(layer.neurons.scores):
            row, column = ffn_in.weight[neuron], ffn_out.weight[:, neuron]
            torch.testing.assert_close(found, torch.cat([row, column]).abs().mean())


def test_weights_are_judged_as_they_are_at_that_step(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), MagnitudePruning, amount=0.3, multiple=1)
    for step in range(10, 60, 10):
        pruned.part.on_step(step, pruned.context)
    neurons = torch.arange(0, 10)
    first, second = pruned.layers
    with torch.no_grad():
        first.matrices[-2].parametrizations.weight.original[neurons] = 9.0
        second.matrices[-2].parametrizations.weight.original[neurons] *= 1e-3
        second.matrices[-1].parametrizations.weight.original[:, neurons] *= 1e-3
    pruned.freeze()
    (_, kept_first), (_, kept_second) = (layer.kept() for layer in pruned.layers)
    assert set(neurons.tolist()) <= set(kept_first.tolist())
    assert not set(neurons.tolist()) & set(kept_second.tolist())


def test_heads_of_small_weights_leave(tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny()
    with torch.no_grad():
        attention = model.bert.encoder.layer[1].attention
        for matrix in (attention.self.query, attention.self.key, attention.self.value):
            matrix.weight[:HEAD_SIZE] *= 0.1
        attention.output.dense.weight[:, :HEAD_SIZE] *= 0.1
    pruned = pruning(tokenizer, model, MagnitudePruning, amount=0.1)
    smaller = pruned.finish()
    assert [heads for heads, _ in layer_shapes(smaller)] == [HEADS, HEADS - 1]
    assert pruned.layers[1].kept()[0].tolist() == list(range(1, HEADS))


def test_only_weights_that_are_not_masked_learn(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), MagnitudePruning, amount=0.5, block=8)
    pruned.part.on_step(40, pruned.context)
    pruned.model(**padded_batch(), labels=torch.zeros(5, dtype=torch.long)).loss.backward()
    assert pruned.part.parameter_groups(pruned.model) == []
    assert pruned.part.loss(pruned.model, {}, None, pruned.context) is None
    for layer in pruned.layers:
        assert all(scores.grad is None for scores in layer.scores())
        for matrix in layer.matrices:
            masked = matrix.weight.eq(0)
            gradient = matrix.parametrizations.weight.original.grad
            assert gradient[masked].eq(0).all()
            assert gradient[~masked].ne(0).any()
    assert any(matrix.weight.eq(0).any() for layer in pruned.layers for matrix in layer.matrices)
