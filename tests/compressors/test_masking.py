"""Masks cover every weight, the budget is met, and removal changes no logit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

import compressors
from compressors import artifact
from compressors.masking import (
    BlockMask,
    Unit,
    apply_threshold,
    best_neurons,
    best_within,
    choose_units,
    mask_encoder,
    rounded,
    shrink,
)
from compressors.shapes import encoder_weights, layer_shapes
from compressors.variant import parse_variant
from tests.compressors.pruning import AMOUNTS, HEAD_SIZE, NEURON_COST, pruning, with_own_layers
from tests.compressors.tiny import FAMILIES, HEADS, HIDDEN, logits, padded_batch, tiny

BLOCKS = [1, 7, 8, 32, 33, 10**9]


# Blocks


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_cover_a_matrix_that_they_do_not_divide(block: int) -> None:
    mask = BlockMask(torch.Size((24, 32)), (block, block))
    assert mask.costs().sum() == 24 * 32
    assert mask.costs().shape == mask.scores.shape
    numbered = mask.spread(torch.arange(mask.scores.numel()).view(mask.scores.shape))
    assert numbered.shape == (24, 32)
    assert torch.equal(numbered.flatten().bincount(), mask.costs().flatten())


@pytest.mark.parametrize("block", BLOCKS)
def test_means_are_those_of_the_weights_that_a_block_covers(block: int) -> None:
    mask = BlockMask(torch.Size((24, 32)), (block, block)).double()
    values = torch.randn(24, 32, dtype=torch.float64)
    numbered = mask.spread(torch.arange(mask.scores.numel()).view(mask.scores.shape))
    expected = [values[numbered == number].mean() for number in range(mask.scores.numel())]
    torch.testing.assert_close(mask.means(values).flatten(), torch.stack(expected))


@pytest.mark.parametrize("block", [8, 5, 32, 100])
def test_scores_of_blocks_get_the_sum_over_the_block(block: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(24, 32, dtype=torch.float64, requires_grad=True)
    mask = BlockMask(weight.shape, (block, block)).double()
    with torch.no_grad():
        mask.scores.normal_()
        mask.keep.copy_(torch.rand(mask.keep.shape) > 0.5)
    masked = mask(weight)
    masked.retain_grad()
    (masked * torch.randn(24, 32, dtype=torch.float64)).sin().sum().backward()
    assert masked.grad is not None
    assert mask.scores.grad is not None
    product = masked.grad * weight.detach()
    for row in range(mask.scores.shape[0]):
        for column in range(mask.scores.shape[1]):
            part = product[row * block : (row + 1) * block, column * block : (column + 1) * block]
            torch.testing.assert_close(mask.scores.grad[row, column], part.sum())
    assert mask.scores.grad.ne(0).all(), "masked blocks must be able to come back"
    assert weight.grad is not None
    assert torch.equal(weight.grad, masked.grad * mask.spread(mask.keep))


def test_the_lowest_blocks_of_all_layers_together_are_masked(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), amount=0.5, block=8)
    with torch.no_grad():
        for level, layer in enumerate(pruned.layers):
            for scores in layer.scores():
                scores.fill_(float(level))
    apply_threshold(pruned.layers, 0.5)
    first, second = (
        torch.cat([mask.keep.flatten() for mask in layer.blocks] + [layer.neurons.keep])
        for layer in pruned.layers
    )
    assert first.eq(0).all()
    assert second.eq(1).all()


# Heads and neurons


@pytest.mark.parametrize("block", [1, 5, 8, 32])
def test_heads_are_judged_by_the_mean_score_of_their_weights(
    tokenizer: PreTrainedTokenizerBase, block: int
) -> None:
    pruned = pruning(tokenizer, tiny(layers=1), block=block)
    pruned.draw_scores(2)
    layer = pruned.layers[0]
    expected = []
    for head in range(HEADS):
        rows = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
        per_weight = [mask.spread(mask.scores) for mask in layer.blocks]
        own = [matrix[rows].flatten() for matrix in per_weight[:3]] + [per_weight[3][:, rows].flatten()]
        expected.append(torch.cat(own).mean())
    torch.testing.assert_close(layer.head_scores(), torch.stack(expected).detach())


def test_heads_narrower_than_a_block_are_told_apart(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1), block=32)
    pruned.draw_scores(17)
    assert HEAD_SIZE < 32
    assert len(pruned.layers[0].head_scores().unique()) == HEADS


@pytest.mark.parametrize("block", [1, 4, 8, 32])
def test_units_get_the_scores_given_to_them(tokenizer: PreTrainedTokenizerBase, block: int) -> None:
    layer = pruning(tokenizer, tiny(layers=1), block=block).layers[0]
    heads, neurons = torch.rand(HEADS), torch.rand(layer.neurons.scores.shape)
    with torch.no_grad():
        layer.score_units(heads, neurons)
    torch.testing.assert_close(layer.head_scores(), heads)
    assert torch.equal(layer.neurons.scores.detach(), neurons)


def test_best_neurons_are_as_many_as_asked_for(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1))
    pruned.draw_scores(16)
    keep = best_neurons(pruned.layers[0], 10)
    scores = pruned.layers[0].neurons.scores.detach()
    assert int(keep.sum()) == 10
    assert scores[keep].min() > scores[~keep].max()


# The budget


@settings(max_examples=25)
@given(
    amount=st.floats(0.001, 0.999),
    heads=st.sampled_from([1, 2, 4, 8]),
    ffn=st.integers(24, 96),
    layers=st.integers(1, 3),
    block=st.integers(1, 70),
    seed=st.integers(0, 1000),
)
def test_the_budget_is_met_for_any_scores_and_shape(
    amount: float, heads: int, ffn: int, layers: int, block: int, seed: int
) -> None:
    model = tiny(layers=layers, num_attention_heads=heads, intermediate_size=ffn)
    masked = mask_encoder(model, block, with_heads=True)
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in masked:
            for scores in layer.scores():
                scores.normal_()
    total = encoder_weights(model) or 0
    budget = round((1 - amount) * total)
    chosen = choose_units(masked, budget, multiple=1)
    left = encoder_weights(shrink(model, masked, stock=False)) or 0
    assert left == round((1 - chosen) * total)
    slack = NEURON_COST if layers * ffn * NEURON_COST >= 4 * HIDDEN * HIDDEN // heads else HIDDEN**2 * 4
    assert left <= budget
    assert left == total or budget - left < slack


@settings(max_examples=300)
@given(
    heads=st.lists(st.floats(-1, 1), max_size=12),
    neurons=st.lists(st.floats(-1, 1), max_size=60),
    head_cost=st.integers(1, 40),
    share=st.floats(0, 1),
)
def test_best_within_is_exact_to_one_neuron(
    heads: list[float], neurons: list[float], head_cost: int, share: float
) -> None:
    units = [Unit(score, 4 * head_cost, 0, i, True) for i, score in enumerate(heads)]
    units += [Unit(score, 4, 0, i, False) for i, score in enumerate(neurons)]
    if not units:
        return
    budget = round(share * sum(unit.cost for unit in units))
    kept = best_within(units, budget)
    spent = sum(unit.cost for unit in kept)
    assert len(set(kept)) == len(kept)
    assert spent <= budget
    if len(neurons) >= head_cost and len(kept) < len(units):
        assert budget - spent < 4
    scores = [unit.score for unit in kept if not unit.is_head]
    left = [unit.score for unit in units if not unit.is_head and unit not in kept]
    assert not scores or not left or min(scores) >= max(left)


def test_the_best_units_by_score_per_weight_stay() -> None:
    units = [
        Unit(0.9, 8, 0, 0, True),
        Unit(0.1, 8, 0, 1, True),
        *(Unit(score, 4, 0, i, False) for i, score in enumerate([0.8, 0.5, 0.2, 0.0])),
    ]
    assert {(unit.is_head, unit.index) for unit in best_within(units, 16)} == {
        (True, 0),
        (False, 0),
        (False, 1),
    }


def test_few_neurons_and_large_heads_stay_under_the_budget() -> None:
    units = [Unit(0.1, 100, 0, 0, True), Unit(0.9, 4, 0, 0, False)]
    assert best_within(units, 60) == [units[1]]


@given(width=st.integers(0, 5000), multiple=st.integers(1, 300), full=st.integers(1, 5000))
def test_widths_are_rounded_to_the_nearest_multiple(width: int, multiple: int, full: int) -> None:
    found = rounded(min(width, full), multiple, full)
    assert 0 <= found <= full
    assert found % multiple == 0 or found == full
    assert abs(found - min(width, full)) * 2 <= multiple


@pytest.mark.parametrize(
    ("width", "multiple", "full", "expected"),
    [(3, 8, 64, 0), (4, 8, 64, 8), (12, 8, 64, 16), (63, 8, 64, 64), (62, 8, 62, 62), (5, 1, 9, 5)],
)
def test_half_a_multiple_is_rounded_up_but_not_above_the_full_width(
    width: int, multiple: int, full: int, expected: int
) -> None:
    assert rounded(width, multiple, full) == expected


# Removal


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_removal_changes_no_logit(tokenizer: PreTrainedTokenizerBase, family: str, amount: float) -> None:
    pruned = pruning(tokenizer, tiny(family, layers=3).double(), amount=amount, block=8)
    pruned.draw_scores(seed=5)
    masked = logits(pruned.freeze())
    before = logits(tiny(family, layers=3).double())
    removed = pruned.finish()
    assert removed.dtype == torch.float64
    assert (encoder_weights(removed) or 0) < pruned.weights
    assert (logits(removed) - masked).abs().max() <= 1e-5
    assert (before - masked).abs().max() > 1e-2


@settings(max_examples=15)
@given(
    amount=st.floats(0.01, 0.99),
    block=st.integers(1, 70),
    seed=st.integers(0, 1000),
    family=st.sampled_from(sorted(FAMILIES)),
)
def test_removal_changes_no_logit_for_any_scores(
    tokenizer: PreTrainedTokenizerBase, amount: float, block: int, seed: int, family: str
) -> None:
    pruned = pruning(tokenizer, tiny(family).double(), amount=amount, block=block, multiple=1)
    pruned.draw_scores(seed)
    masked = logits(pruned.freeze())
    assert (logits(pruned.finish()) - masked).abs().max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lost", ["heads", "neurons", "both"])
def test_a_layer_may_lose_all_it_has(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str, lost: str
) -> None:
    pruned = pruning(tokenizer, with_own_layers(family).double(), amount=0.5, block=8)
    pruned.draw_scores(6)
    *blocks, neurons = pruned.layers[0].scores()
    with torch.no_grad():
        for scores in {"heads": blocks, "neurons": [neurons], "both": [*blocks, neurons]}[lost]:
            scores.fill_(-100)
    masked = logits(pruned.freeze())
    removed = pruned.finish()
    heads, width = layer_shapes(removed)[0]
    assert (heads == 0) == (lost != "neurons")
    assert (width == 0) == (lost != "heads")
    assert (logits(removed) - masked).abs().max() <= 1e-5
    half = removed.to(torch.bfloat16)
    artifact.save(half, tokenizer, parse_variant("bmp50+mp"), tmp_path)
    assert torch.equal(logits(compressors.load(tmp_path)), logits(half))


def test_nothing_but_the_encoder_changes(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), amount=0.5)
    pruned.draw_scores(7)
    before, after = dict(tiny().named_parameters()), dict(pruned.finish().named_parameters())
    for name in before:
        if "encoder" not in name:
            assert torch.equal(before[name], after[name])


def test_training_leaves_the_weights_that_it_trained(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1).double(), amount=0.25)
    pruned.draw_scores(8)
    model = pruned.freeze().train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**padded_batch(), labels=torch.zeros(5, dtype=torch.long)).loss.backward()
    optimizer.step()
    masked = logits(model)
    assert (masked - logits(tiny(layers=1).double())).abs().max() > 1e-3
    assert (logits(pruned.finish()) - masked).abs().max() <= 1e-5
