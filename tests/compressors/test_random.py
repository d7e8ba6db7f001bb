"""Random: the seed alone decides, and heads leave as often as neurons."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from compressors.random import RandomPruning
from compressors.shapes import layer_shapes
from tests.compressors.pruning import pruning
from tests.compressors.tiny import HIDDEN, tiny


def kept(tokenizer: PreTrainedTokenizerBase, model_seed: int = 0, seed: int = 0) -> list[list[list[int]]]:
    """Numbers of each layer's heads and neurons that stay of a tiny model."""
    pruned = pruning(tokenizer, tiny(seed=model_seed), RandomPruning, seed, amount=0.5)
    pruned.freeze()
    return [[units.tolist() for units in layer.kept()] for layer in pruned.layers]


def test_the_seed_decides_and_the_weights_do_not(tokenizer: PreTrainedTokenizerBase) -> None:
    first = kept(tokenizer)
    torch.rand(3)
    assert kept(tokenizer, model_seed=1) == first
    assert kept(tokenizer, seed=1) != first


def test_drawing_leaves_other_random_numbers_as_they_are(tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pruning(tokenizer, model, RandomPruning)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("block", [2, 32])
@pytest.mark.parametrize("amount", [0.25, 0.5, 0.75])
def test_heads_leave_as_often_as_neurons(
    tokenizer: PreTrainedTokenizerBase, amount: float, block: int
) -> None:
    heads = HIDDEN // 2
    model = tiny(layers=10, num_attention_heads=heads)
    smaller = pruning(tokenizer, model, RandomPruning, amount=amount, block=block, multiple=1).finish()
    left = sum(count for count, _ in layer_shapes(smaller)) / (10 * heads)
    # 160 heads of which each leaves with probability `amount`: four standard deviations.
    assert left == pytest.approx(1 - amount, abs=4 * (amount * (1 - amount) / 160) ** 0.5)
