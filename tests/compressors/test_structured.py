"""What all structured pruning shares: the share asked for leaves, along a ramp, in every family."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from bench.errors import InputError, Refusal
from compressors.bmp import BlockMovementPruning
from compressors.magnitude import MagnitudePruning
from compressors.pruned import PRUNABLE
from compressors.random import RandomPruning
from compressors.shapes import encoder_weights, ffn_weights, layer_shapes
from compressors.structured import StructuredPruning
from compressors.variant import check, parse_variant
from tests.compressors.pruning import AMOUNTS, NEURON_COST, Pruning, pruning
from tests.compressors.tiny import FAMILIES, FFN, HEADS, logits, tiny

KINDS: tuple[type[StructuredPruning], ...] = (BlockMovementPruning, MagnitudePruning, RandomPruning)


# The budget. Neurons are not rounded in groups here (multiple=1): in models so small a group is too much.


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize(
    ("kind", "family"),
    [
        *((BlockMovementPruning, family) for family in FAMILIES),
        (MagnitudePruning, "bert"),
        (RandomPruning, "bert"),
    ],
)
def test_the_share_that_leaves_is_the_one_asked_for(
    tokenizer: PreTrainedTokenizerBase, kind: type[StructuredPruning], family: str, amount: float
) -> None:
    pruned = pruning(tokenizer, tiny(family, layers=3), kind, amount=amount, block=8, multiple=1)
    if kind.learns_scores:
        pruned.draw_scores(seed=3)
    left = encoder_weights(pruned.finish()) or 0
    assert 1 - left / pruned.weights == pytest.approx(amount, abs=0.01)
    assert pruned.part._chosen == pytest.approx(1 - left / pruned.weights)
    assert 0 <= (1 - amount) * pruned.weights + 0.5 - left <= NEURON_COST


@pytest.mark.parametrize("kind", KINDS)
def test_requested_and_chosen_shares_are_reported(
    tokenizer: PreTrainedTokenizerBase, kind: type[StructuredPruning]
) -> None:
    pruned = pruning(tokenizer, tiny(), kind, amount=0.3)
    pruned.finish()
    (note,) = pruned.context.notes
    assert note.startswith(f"{kind.name}: 30.00% asked, 30.")
    assert "multiples of 8" in note


def test_neurons_with_the_lowest_scores_leave(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1), amount=0.3, uniform=True, multiple=1)
    pruned.draw_scores(4)
    kept = pruned.layers[0].neurons.scores.detach().argsort(descending=True)
    model = pruned.finish()
    width = layer_shapes(model)[0][1]
    whole = tiny(layers=1).bert.encoder.layer[0].intermediate.dense.bias
    left = model.bert.encoder.layer[0].intermediate.dense.bias
    assert torch.equal(left, whole[kept[:width].sort().values])


# Masks while training


@pytest.mark.parametrize("kind", KINDS)
def test_masks_let_everything_through_at_first(
    tokenizer: PreTrainedTokenizerBase, kind: type[StructuredPruning]
) -> None:
    pruned = pruning(tokenizer, tiny(), kind, amount=0.5)
    pruned.part.on_step(0, pruned.context)
    assert torch.equal(logits(pruned.model), logits(tiny()))


def masked_share(pruned: Pruning) -> float:
    """Share of the encoder's weights that are masked now."""
    encoder = pruned.model.bert.encoder
    matrices = [matrix for matrix in encoder.modules() if isinstance(matrix, nn.Linear)]
    zeros = sum(int(matrix.weight.eq(0).sum()) for matrix in matrices)
    return zeros / sum(matrix.weight.numel() for matrix in matrices)


@pytest.mark.parametrize(
    ("kind", "block"),
    [
        *((BlockMovementPruning, block) for block in (8, 7, 32, 1000)),
        (MagnitudePruning, 8),
        (RandomPruning, 8),
    ],
)
def test_masks_follow_a_cubic_ramp_between_warm_up_and_cool_down(
    tokenizer: PreTrainedTokenizerBase, kind: type[StructuredPruning], block: int
) -> None:
    pruned = pruning(tokenizer, tiny(layers=3), kind, amount=0.6, block=block, multiple=1)
    if kind.learns_scores:
        pruned.draw_scores(10)
    largest = max(float(mask.costs().max()) for layer in pruned.layers for mask in layer.blocks)
    coarse = (largest + NEURON_COST) / pruned.weights
    for step in (0, 5, 9):
        pruned.part.on_step(step, pruned.context)
        assert masked_share(pruned) == 0
    for step in (10, 12, 20, 35, 50, 59):
        pruned.part.on_step(step, pruned.context)
        wanted = 0.6 * (1 - (1 - (step - 10) / 50) ** 3)
        assert wanted - coarse <= masked_share(pruned) <= wanted + 1e-6
    for step in (60, 99):
        pruned.part.on_step(step, pruned.context)
        assert masked_share(pruned) == pytest.approx(0.6, abs=0.01)


def test_the_structure_is_frozen_in_the_cool_down(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), amount=0.5)
    pruned.draw_scores(11)
    pruned.part.on_step(60, pruned.context)
    before = [[part.tolist() for part in layer.kept()] for layer in pruned.layers]
    pruned.draw_scores(12)
    pruned.part.on_step(80, pruned.context)
    model = pruned.finish()
    assert [[part.tolist() for part in layer.kept()] for layer in pruned.layers] == before
    assert [shape[0] for shape in layer_shapes(model)] == [len(heads) for heads, _ in before]


# Uniform


@pytest.mark.parametrize("family", FAMILIES)
def test_uniform_takes_the_same_neurons_off_every_layer(
    tokenizer: PreTrainedTokenizerBase, family: str
) -> None:
    pruned = pruning(tokenizer, tiny(family, layers=3).double(), amount=0.4, uniform=True, multiple=1)
    pruned.draw_scores(14)
    masked = logits(pruned.freeze())
    model = pruned.finish()
    assert type(model) is FAMILIES[family][1]
    assert model.config.model_type == family
    (shape,) = set(layer_shapes(model))
    assert shape == (HEADS, getattr(model.config, PRUNABLE[family].anatomy.ffn_width))
    assert 1 - (encoder_weights(model) or 0) / pruned.weights == pytest.approx(0.4, abs=0.01)
    assert (logits(model) - masked).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_uniform_refuses_more_than_the_feed_forward_layers_hold(
    tokenizer: PreTrainedTokenizerBase, kind: type[StructuredPruning]
) -> None:
    model = tiny()
    most = ffn_weights(model) / (encoder_weights(model) or 0)
    assert most == pytest.approx(0.5)
    refusal = f"{kind.name}: uniform=true can remove 50% of this encoder, not 60%"
    with pytest.raises(Refusal, match=refusal):
        pruning(tokenizer, model, kind, amount=0.6, uniform=True)
    pruned = pruning(tokenizer, tiny(), kind, amount=0.5, uniform=True)
    assert layer_shapes(pruned.finish()) == [(HEADS, 8)] * 2


# Settings and refusals


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("0", "amount=0 must lie between 0 and 1, as in NAME25 or NAME:amount=0.4"),
        (":block=0", "block=0 and multiple=8 must be at least 1"),
        (":multiple=0", "block=32 and multiple=0 must be at least 1"),
        ("75:uniform=true", "amount=0.75 is more: lower it or drop uniform"),
    ],
)
def test_an_unusable_setting_is_refused_by_the_techniques_name(name: str, settings: str, reason: str) -> None:
    with pytest.raises(InputError) as refused:
        check(parse_variant(name + settings), "cpu")
    assert str(refused.value).startswith(f"{name}: ")
    assert str(refused.value).endswith(reason.replace("NAME", name))


@pytest.mark.parametrize("kind", KINDS)
def test_techniques_are_spelled_alike(kind: type[StructuredPruning]) -> None:
    (part,) = parse_variant(f"{kind.name}:amount=0.4,uniform=true").parts
    assert part == kind(amount=0.4, uniform=True)
    assert parse_variant(f"{kind.name}:amount=0.5").name == f"{kind.name}50"


@pytest.mark.parametrize("other", ["magnitude50", "random50"])
def test_two_ways_to_prune_do_not_combine(other: str) -> None:
    with pytest.raises(InputError, match=rf"bmp and {other[:-2]} do not combine: each decides"):
        check(parse_variant(f"bmp50+{other}"), "cpu")


@pytest.mark.parametrize("name", ["magnitude", "random"])
@pytest.mark.parametrize("setting", ["score_lr=0.1", "regularization=2"])
def test_only_scores_that_learn_have_settings_for_it(name: str, setting: str) -> None:
    with pytest.raises(InputError, match=f"{name} has no setting"):
        parse_variant(f"{name}:{setting}")


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_family_is_refused_by_name(
    tokenizer: PreTrainedTokenizerBase, kind: type[StructuredPruning]
) -> None:
    known = "albert, bert, distilbert, electra, roberta, xlm-roberta"
    refusal = f"{kind.name} cannot prune a squeezebert model; families it can: {known}"
    with pytest.raises(Refusal, match=refusal):
        pruning(tokenizer, tiny("squeezebert"), kind)


def test_mobilebert_is_refused_with_the_reason(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(Refusal, match="several feed-forward networks between bottlenecks; families it can"):
        pruning(tokenizer, tiny("mobilebert"))


def test_a_multiple_wider_than_the_layers_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(Refusal, match=f"multiple=65 is more than the {FFN} neurons"):
        pruning(tokenizer, tiny(), multiple=65)


def test_a_pruned_model_is_not_pruned_again(tokenizer: PreTrainedTokenizerBase) -> None:
    once = pruning(tokenizer, tiny()).finish()
    with pytest.raises(Refusal, match="cannot prune a bench-pruned-bert model"):
        pruning(tokenizer, once)
