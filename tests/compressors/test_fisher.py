"""Retraining-free pruning: the information as defined, the best masks for it, the rescale, the budget."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors
import compressors.latency
from bench.errors import InputError, Refusal
from compressors import artifact
from compressors.contract import Context
from compressors.fisher import FisherPruning, remove
from compressors.fisher_masks import (
    SubLayer,
    mask_gradients,
    most_important,
    rearranged,
    search,
    search_time,
    search_weights,
    sub_layers,
)
from compressors.int8 import Int8
from compressors.latency import LatencyTable
from compressors.rescale import DAMPING, fit, joined, mask_values
from compressors.shapes import encoder_weights, layer_shapes
from compressors.variant import check, parse_variant
from tests.compressors.tiny import (
    FAMILIES,
    FFN,
    HEADS,
    HIDDEN,
    context_of,
    logits,
    tiny,
    toy_batches,
)

HEAD_SIZE = HIDDEN // HEADS
HEAD_COST, NEURON_COST = 4 * HEAD_SIZE * HIDDEN, 2 * HIDDEN
SHARED = ("albert",)


def pruned(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, **fields: float
) -> tuple[PreTrainedModel, Context]:
    """The model after pruning, and what the technique was told and noted."""
    part = FisherPruning(**fields)  # type: ignore[arg-type]
    part.validate("cpu")
    context = context_of(model, tokenizer)
    return part.finish(part.prepare(model, context), context), context


def some_kept(layers: list[SubLayer], seed: int, share: float = 0.5) -> list[torch.Tensor]:
    """Masks of units drawn at random, at least one of each sub-layer."""
    generator = torch.Generator().manual_seed(seed)
    masks = [torch.rand(layer.units, generator=generator) < share for layer in layers]
    for mask in masks:
        mask[0] = True
    return masks


def masked(model: PreTrainedModel, values: list[torch.Tensor], upto: int | None = None) -> PreTrainedModel:
    """A copy whose first `upto` sub-layers have these mask values in the columns of their last matrix."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for layer, own in list(zip(sub_layers(made), values, strict=True))[:upto]:
            layer.last.weight *= own.repeat_interleave(layer.size).to(layer.last.weight)
    return made


# The Fisher information


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_every_row_alone(tokenizer: PreTrainedTokenizerBase, family: str) -> None:
    """By another way: ∂L/∂m of a unit is the sum of W ∘ ∂L/∂W over its columns of the last matrix."""
    model = tiny(family).double()
    layers = sub_layers(model)
    gradients = mask_gradients(model, layers, toy_batches(model, tokenizer, 20))
    assert [own.shape for own in gradients] == [(20, layer.units) for layer in layers]
    row = 0
    for batch in toy_batches(model, tokenizer, 20):
        for i in range(len(batch["labels"])):
            real = batch["attention_mask"][i].bool()
            alone = {key: batch[key][i : i + 1, real] for key in ("input_ids", "attention_mask")}
            model.zero_grad()
            F.cross_entropy(model(**alone).logits, batch["labels"][i : i + 1]).backward()
            for layer, own in zip(layers, gradients, strict=True):
                slope = layer.last.weight.grad
                assert slope is not None
                by_column = (layer.last.weight * slope).sum(0)
                torch.testing.assert_close(own[row], by_column.view(-1, layer.size).sum(1).detach())
            row += 1
    assert row == 20


def test_looking_leaves_no_trace(tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = sub_layers(model)
    batches = list(toy_batches(model, tokenizer))
    mask_gradients(model, layers, batches)
    mask_values(model, layers, some_kept(layers, 1), joined(batches, 0))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not model.training


# The search


def best_by_enumeration(
    importance: list[np.ndarray], widths: list[np.ndarray], costs: list[np.ndarray], budget: int, slack: int
) -> tuple[float, int]:
    """The greatest importance that any choice close enough to the budget keeps, and what that must cost."""
    choices = []
    for option in itertools.product(*(range(len(own)) for own in widths)):
        cost = sum(int(own[i]) for own, i in zip(costs, option, strict=True))
        kept = [
            sorted(units)[::-1][: own[i]] for units, own, i in zip(importance, widths, option, strict=True)
        ]
        if cost <= budget:
            choices.append((cost, sum(map(sum, kept))))
    least = min(max(cost for cost, _ in choices), budget - slack)
    return max(value for cost, value in choices if cost >= least), least


@st.composite
def sub_layer_options(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The importance of some units, the widths they may have, and rising costs of any form."""
    units = draw(st.lists(st.floats(0, 1), min_size=1, max_size=6))
    widths = sorted({0, len(units), *draw(st.sets(st.integers(0, len(units))))})
    steps = draw(st.lists(st.integers(0, 9), min_size=len(widths) - 1, max_size=len(widths) - 1))
    return np.array(units), np.array(widths), np.cumsum([0, *steps])


@settings(max_examples=200)
@given(
    options=st.lists(sub_layer_options(), min_size=1, max_size=4),
    budget=st.integers(0, 60),
    slack=st.integers(0, 60),
)
def test_the_search_finds_what_enumeration_finds(
    options: list[tuple[np.ndarray, np.ndarray, np.ndarray]], budget: int, slack: int
) -> None:
    importance, widths, costs = (list(part) for part in zip(*options, strict=True))
    counts = search(importance, widths, costs, budget, slack)
    value, least = best_by_enumeration(importance, widths, costs, budget, slack)
    places = [int(np.flatnonzero(own == count)[0]) for own, count in zip(widths, counts, strict=True)]
    spent = sum(int(own[place]) for own, place in zip(costs, places, strict=True))
    assert least <= spent <= budget
    kept = sum(np.sort(units)[::-1][:count].sum() for units, count in zip(importance, counts, strict=True))
    assert kept == pytest.approx(value)


@settings(max_examples=40)
@given(
    amount=st.floats(0.01, 0.99),
    multiple=st.integers(1, 20),
    layers=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_budget_of_weights_is_spent_and_never_exceeded(
    amount: float, multiple: int, layers: int, seed: int
) -> None:
    model = tiny(layers=layers)
    found = sub_layers(model)
    draw = np.random.default_rng(seed)
    total = encoder_weights(model) or 0
    budget = round((1 - amount) * total)
    counts = search_weights(found, [draw.random(layer.units) for layer in found], multiple, budget)
    spent = sum(count * layer.cost for count, layer in zip(counts, found, strict=True))
    assert spent <= budget
    assert budget - spent < multiple * NEURON_COST
    assert all(count % multiple == 0 or count == FFN for count in counts[1::2])


def test_the_budget_of_time_is_never_exceeded() -> None:
    draw = np.random.default_rng(0)
    importance = [draw.random(8) for _ in range(5)]
    widths = [np.arange(9)] * 5
    times_s = [np.cumsum([0.0, *draw.random(8)]) for _ in range(5)]
    for budget_s in (0.01, 1.0, 7.7, 100.0):
        counts = search_time(importance, widths, times_s, budget_s)
        spent_s = sum(own[count] for own, count in zip(times_s, counts, strict=True))
        assert spent_s <= budget_s
    assert counts == [8] * 5


def test_what_costs_nothing_stays() -> None:
    flat = np.array([0.0, 1.0, 1.0, 1.0, 2.0])
    counts = search_time([np.ones(4), np.full(4, 0.1)], [np.arange(5)] * 2, [flat, flat], budget_s=2.001)
    assert counts == [3, 3] or counts == [4, 0]
    assert search_time([np.ones(4)], [np.arange(5)], [flat], budget_s=1.001) == [3]


# The rearrangement


@settings(max_examples=100)
@given(
    rows=st.integers(1, 12), units=st.integers(1, 10), removed=st.integers(0, 10), seed=st.integers(0, 999)
)
def test_rearranging_never_adds_to_the_quadratic_form(rows: int, units: int, removed: int, seed: int) -> None:
    gradients = torch.randn(rows, units, generator=torch.Generator().manual_seed(seed)).double()
    importance = gradients.square().sum(0).numpy()
    before = most_important(importance, max(0, units - removed))
    after = rearranged(gradients, before)
    assert after.sum() == before.sum()

    def form(kept: np.ndarray) -> float:
        """(1 - m)ᵀ GᵀG (1 - m)"""
        return float(gradients[:, ~kept].sum(1).square().sum())

    assert form(after) <= form(before) * (1 + 1e-9)


def test_units_that_do_the_same_are_not_both_removed() -> None:
    same, opposite = torch.tensor([1.0, 1.0, -0.2]), torch.tensor([1.2, 1.1, 0.1])
    gradients = torch.stack([same, same, -1.1 * same, opposite], dim=1)
    before = most_important(gradients.square().sum(0).numpy(), 2)
    assert before.tolist() == [False, False, True, True]
    assert rearranged(gradients, before).tolist() == [True, False, False, True]


# The rescale


def explicit(inputs: torch.Tensor, weight: torch.Tensor, size: int) -> torch.Tensor:
    """Each unit's output as one column: (tokens · hidden, units)."""
    units = inputs.shape[1] // size
    parts = [slice(i * size, (i + 1) * size) for i in range(units)]
    return torch.stack([(inputs[:, part] @ weight[:, part].T).flatten() for part in parts], dim=1)


def problem(
    size: int, units: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(inputs, weight, kept, wanted) of a sub-layer whose units are correlated."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).double()

    inputs, weight = draw(30, 3) @ draw(3, units * size) + 0.1 * draw(30, units * size), draw(7, units * size)
    kept = torch.rand(units, generator=generator) < 0.6
    return inputs, weight, kept, inputs @ weight.T + 0.1 * draw(30, 7)


@settings(max_examples=100)
@given(size=st.integers(1, 5), units=st.integers(1, 9), seed=st.integers(0, 999))
def test_the_rescale_is_never_further_off_than_plain_masks(size: int, units: int, seed: int) -> None:
    inputs, weight, kept, wanted = problem(size, units, seed)
    values = fit(inputs, weight, kept, size, wanted)

    def error(masks: torch.Tensor) -> float:
        return float((inputs * masks.repeat_interleave(size) @ weight.T - wanted).square().sum())

    assert error(values) <= error(kept.double()) * (1 + 1e-9)
    assert values[~kept].eq(0).all()
    assert values.abs().max() <= 10


@pytest.mark.parametrize("size", [1, 4])
def test_the_rescale_is_damped_least_squares(size: int) -> None:
    inputs, weight, kept, wanted = problem(size, 8, seed=2)
    columns = explicit(inputs, weight, size)[:, kept]
    missing = wanted.flatten() - columns.sum(1)
    damping = DAMPING * columns.square().sum(0).mean()
    rows = torch.cat([columns, damping.sqrt() * torch.eye(columns.shape[1]).double()])
    change = torch.linalg.lstsq(rows, torch.cat([missing, missing.new_zeros(columns.shape[1])])).solution
    torch.testing.assert_close(fit(inputs, weight, kept, size, wanted)[kept], 1 + change)


def test_no_value_leaves_the_range() -> None:
    inputs, weight = torch.ones(4, 1).double(), torch.ones(1, 1).double()
    values = fit(inputs, weight, torch.tensor([True]), 1, torch.full((4, 1), 1e6).double())
    assert 1 < values.item() <= 10


def test_nothing_to_scale_is_left_alone() -> None:
    inputs, weight, _, wanted = problem(2, 3, seed=0)
    none = torch.zeros(3, dtype=torch.bool)
    assert fit(inputs, weight, none, 2, wanted).tolist() == [0, 0, 0]
    assert fit(0 * inputs, weight, ~none, 2, wanted).tolist() == [1, 1, 1]


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {*SHARED}))
def test_each_sub_layer_makes_up_for_those_before_it(tokenizer: PreTrainedTokenizerBase, family: str) -> None:
    """The same values from two runs a sub-layer, of dense and of all before it pruned."""
    model = tiny(family).double()
    layers = sub_layers(model)
    kept = some_kept(layers, seed=3)
    batch = joined(toy_batches(model, tokenizer, 40), 0)
    values = mask_values(model, layers, kept, batch)
    real = batch["attention_mask"].bool()

    def at(place: int, model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
        """What enters the first and the last matrix of a sub-layer, for every real token."""
        seen = {}
        layer = sub_layers(model)[place]
        for name, matrix in (("first", layer.first), ("last", layer.last)):
            matrix.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.update({name: inputs[0][real]})
            )
        logits(model, {key: batch[key] for key in batch if key != "labels"})
        return seen["first"], seen["last"]

    for place, layer in enumerate(layers):
        weight = layer.last.weight.detach()
        dense_first, dense_last = at(place, copy.deepcopy(model))
        first, last = at(place, masked(model, values, upto=place))
        wanted = dense_first + dense_last @ weight.T - first
        torch.testing.assert_close(values[place], fit(last, weight, kept[place], layer.size, wanted))


def test_where_nothing_leaves_every_value_is_one(tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny().double()
    layers = sub_layers(model)
    everything = [torch.ones(layer.units, dtype=torch.bool) for layer in layers]
    for own in mask_values(model, layers, everything, joined(toy_batches(model, tokenizer), 0)):
        torch.testing.assert_close(own, torch.ones_like(own))


def test_joined_batches_give_the_logits_they_gave_apart(tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny("roberta", pad_token_id=tokenizer.pad_token_id).double()
    apart = [
        logits(model, {key: batch[key] for key in batch if key != "labels"})
        for batch in toy_batches(model, tokenizer)
    ]
    whole = joined(toy_batches(model, tokenizer), tokenizer.pad_token_id)
    labels = whole.pop("labels")
    assert len(labels) == len(whole["input_ids"]) == 96
    torch.testing.assert_close(logits(model, whole), torch.cat(apart))


# The technique


@pytest.mark.parametrize("amount", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_share_removed_is_the_one_asked_for(
    tokenizer: PreTrainedTokenizerBase, family: str, amount: float
) -> None:
    model = tiny(family, layers=3)
    weights = encoder_weights(model) or 0
    made, _ = pruned(tokenizer, model, amount=amount, multiple=1)
    assert 1 - (encoder_weights(made) or 0) / weights == pytest.approx(amount, abs=0.01)
    assert not made.training
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert logits(made).isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lost", ["some", "heads", "neurons"])
def test_removal_changes_no_logit(family: str, lost: str) -> None:
    model = tiny(family).double()
    layers = sub_layers(model)
    kept = some_kept(layers, seed=4)
    if lost != "some":
        kept[["heads", "neurons"].index(lost)][:] = False
    values = [mask * torch.linspace(0.5, 1.5, len(mask)) for mask in kept]
    scaled = masked(model, values)
    before = logits(scaled)
    made = remove(
        masked(model, [torch.where(mask, own, 1) for mask, own in zip(kept, values, strict=True)]),
        layers,
        kept,
    )
    assert layer_shapes(made)[0] == (int(kept[0].sum()), int(kept[1].sum()))
    assert (logits(made) - before).abs().max() <= 1e-5
    assert (logits(model) - before).abs().max() > 1e-3


def test_a_distilled_student_is_pruned_as_any_model(tokenizer: PreTrainedTokenizerBase) -> None:
    dense = tiny(layers=4)
    context = context_of(dense, tokenizer, dense_logits=lambda: torch.zeros(96, 3))
    model, parts = dense, parse_variant("fisher50:multiple=1+kd").parts
    for part in parts:
        model = part.prepare(model, context)
    weights = encoder_weights(model) or 0
    for part in parts:
        model = part.finish(model.train(), context)
    assert len(layer_shapes(model)) == 2
    assert encoder_weights(model) == pytest.approx(weights / 2, rel=0.01)


def test_the_same_rows_give_the_same_model(tokenizer: PreTrainedTokenizerBase) -> None:
    first, second = (pruned(tokenizer, tiny(), amount=0.5)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_pruned_artifact_reloads(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    made, _ = pruned(tokenizer, tiny(), amount=0.6)
    artifact.save(made, tokenizer, parse_variant("fisher60"), tmp_path)
    assert torch.equal(logits(compressors.load(tmp_path)), logits(made))


def test_what_was_done_is_noted(tokenizer: PreTrainedTokenizerBase) -> None:
    _, context = pruned(tokenizer, tiny(), amount=0.5, samples=50)
    rows, removed, rescaled = context.notes
    assert rows == "fisher: the information of 50 training rows decided what stays"
    assert removed.startswith("fisher: 50.00% asked, 50.")
    assert rescaled == "fisher: what stays is rescaled by least squares on 50 rows"
    _, context = pruned(tokenizer, tiny("albert"), amount=0.5)
    assert context.notes[-1] == "fisher: what stays is not rescaled where layers share their weights"


def trained(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A tiny classifier that has learnt the toy task."""
    torch.manual_seed(0)
    model = type(tiny())(tiny().config).eval().double()  # with any CPU's kernels the same
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(12):
        for batch in toy_batches(model, tokenizer):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
    return model


def toy_loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
    with torch.no_grad():
        return sum(float(model(**batch).loss) for batch in toy_batches(model, tokenizer)) / 6


def test_it_loses_less_than_removing_at_random(tokenizer: PreTrainedTokenizerBase) -> None:
    dense = trained(tokenizer)
    assert toy_loss(dense, tokenizer) < 0.2
    made, _ = pruned(tokenizer, copy.deepcopy(dense), amount=0.6)
    at_random = []
    for seed in range(10):
        model = copy.deepcopy(dense)
        layers, draw = sub_layers(model), np.random.default_rng(seed)
        drawn = [draw.random(layer.units) for layer in layers]
        counts = search_weights(layers, drawn, 8, round(0.4 * (encoder_weights(model) or 0)))
        kept = [torch.from_numpy(most_important(*own)) for own in zip(drawn, counts, strict=True)]
        at_random.append(toy_loss(remove(model, layers, kept), tokenizer))
    assert toy_loss(made, tokenizer) < min(at_random)


# By time

TABLE = LatencyTable(
    rest_s=1.0, heads_s={0: 0.0, 1: 0.5, 2: 0.6, 4: 1.0}, widths_s={0: 0.0, 8: 1.0, 32: 1.5, 64: 3.0}
)


@pytest.mark.parametrize("speedup", [1.01, 1.5, 2.0, 4.0, 8.5])
def test_the_predicted_time_meets_the_target(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, speedup: float
) -> None:
    monkeypatch.setattr(compressors.latency, "measure_latency", lambda *_: TABLE)
    made, context = pruned(tokenizer, tiny(), speedup=speedup)
    shapes = layer_shapes(made)
    assert TABLE.model_s([(HEADS, FFN)] * 2) == 9.0
    assert TABLE.model_s(shapes) <= 9.0 / speedup
    reached = 9.0 / TABLE.model_s(shapes)
    assert f"{speedup:g} times the speed asked, {reached:.2f} times predicted" in context.notes[1]
    assert "on 16 x 8 tokens" in context.notes[1]


def test_a_speed_that_cannot_be_reached_is_refused(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressors.latency, "measure_latency", lambda *_: TABLE)
    with pytest.raises(Refusal, match=r"speedup=9.5 cannot .* any heads and neurons is 9\.00 times as fast"):
        pruned(tokenizer, tiny(), speedup=9.5)


# Spelling and refusals


def test_it_trains_nothing_and_is_spelled_by_share_or_speed() -> None:
    variant = parse_variant("kd+fisher50")
    assert (variant.name, variant.trains, variant.removed_share) == ("fisher50+kd", True, 0.5)
    variant = parse_variant("fisher:speedup=2")
    assert (variant.name, variant.trains, variant.removed_share) == ("fisher:speedup=2.0", False, 0.0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fisher", "amount=0 must lie between 0 and 1, as in fisher50; or give the speed-up"),
        ("fisher100", "amount=1 must lie between"),
        ("fisher50:speedup=2", "give an amount or speedup, not both"),
        ("fisher:speedup=1", "speedup=1 must be above 1"),
        ("fisher:speedup=-2", "speedup=-2 must be above 1"),
        ("fisher50:samples=0", "samples=0 and multiple=8 must be at least 1"),
        ("fisher50+bmp50", "each decides by itself which heads and neurons leave"),
    ],
)
def test_unusable_settings_are_refused(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(parse_variant(spec), "cpu")


def test_other_families_are_refused_as_by_block_movement_pruning(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    known = "albert, bert, distilbert, electra, roberta, xlm-roberta"
    with pytest.raises(Refusal, match=f"fisher cannot prune a squeezebert model; families it can: {known}"):
        pruned(tokenizer, tiny("squeezebert"), amount=0.5)
    with pytest.raises(Refusal, match="several feed-forward networks between bottlenecks; families it can"):
        pruned(tokenizer, tiny("mobilebert"), amount=0.5)
    with pytest.raises(Refusal, match=f"fisher: multiple=65 is more than the {FFN} neurons"):
        pruned(tokenizer, tiny(), amount=0.5, multiple=65)


def test_without_training_rows_it_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    context = context_of(tiny(), tokenizer)
    context.examples = []
    with pytest.raises(Refusal, match="no training rows say what is needed least; name some with --train"):
        FisherPruning(0.5).prepare(tiny(), context)


@pytest.mark.parametrize("spec", ["fisher50", "bmp50", "magnitude50", "random50"])
def test_no_pruning_takes_quantised_weights(tokenizer: PreTrainedTokenizerBase, spec: str) -> None:
    model = tiny()
    context = context_of(model, tokenizer)
    model = Int8().finish(model, context)
    [part] = parse_variant(spec).parts
    with pytest.raises(Refusal, match=f"{part.name} cannot prune quantised weights; name the model"):
        part.prepare(model, context)


def test_only_a_wanted_speed_is_measured_on_the_device() -> None:
    assert FisherPruning(speedup=2.0).measures_device
    assert not FisherPruning(0.5).measures_device
