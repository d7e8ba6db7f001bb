"""Block movement pruning: the budget is hit, removal changes no logit, what is left reloads anywhere."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors.pruned
from bench.errors import Refusal
from compressors import artifact
from compressors.bmp import BlockMovementPruning
from compressors.contract import Context
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
from compressors.pruned import PRUNABLE, PRUNED
from compressors.shapes import encoder_weights, ffn_weights, layer_shapes
from compressors.variant import Variant, parse_variant
from tests.compressors.tiny import (
    FAMILIES,
    FFN,
    HEADS,
    HIDDEN,
    LABELS,
    context_of,
    logits,
    padded_batch,
    tiny,
)

AMOUNTS = [0.1, 0.25, 0.5, 0.75, 0.9]
HEAD_SIZE = HIDDEN // HEADS
HEAD_COST, NEURON_COST = 4 * HEAD_SIZE * HIDDEN, 2 * HIDDEN


def pruning(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, **fields: object) -> Pruning:
    return Pruning(BlockMovementPruning(**fields), model, context_of(model, tokenizer, total_steps=100))  # type: ignore[arg-type]


class Pruning:
    """One pruning of one model, moment by moment."""

    def __init__(self, part: BlockMovementPruning, model: PreTrainedModel, context: Context) -> None:
        self.part, self.context = part, context
        self.weights = encoder_weights(model) or 0
        self.model = part.prepare(model, context)
        self.layers = part._layers

    def score(self, seed: int) -> None:
        """Give every block and neuron a score of its own."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in self.layers:
                for score in layer.scores():
                    score.copy_(torch.randn(score.shape, generator=generator))

    def freeze(self) -> PreTrainedModel:
        self.part.on_step(99, self.context)
        return self.model.eval()

    def finish(self) -> PreTrainedModel:
        return self.part.finish(self.model, self.context)


def with_own_layers(family: str, layers: int = 2) -> PreTrainedModel:
    """A model of so many layers with weights of their own; ALBERT, which shares them, gets an inner group."""
    own: dict[str, Any] = {"inner_group_num": layers} if family == "albert" else {}
    return tiny(family, layers, **own)


# The budget


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_chosen_share_is_the_one_asked_for(
    tokenizer: PreTrainedTokenizerBase, family: str, amount: float
) -> None:
    pruned = pruning(tokenizer, tiny(family, layers=3), amount=amount, block=8, multiple=1)
    pruned.score(seed=3)
    pruned.freeze()
    assert pruned.part._chosen == pytest.approx(amount, abs=0.01)
    left = encoder_weights(pruned.finish())
    assert left is not None
    assert 1 - left / pruned.weights == pytest.approx(amount, abs=0.01)
    assert 0 <= (1 - amount) * pruned.weights + 0.5 - left <= NEURON_COST


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
            for score in layer.scores():
                score.normal_()
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


@pytest.mark.parametrize(
    ("width", "multiple", "full", "expected"),
    [
        (0, 8, 64, 0),
        (3, 8, 64, 0),
        (4, 8, 64, 8),
        (12, 8, 64, 16),
        (63, 8, 64, 64),
        (62, 8, 62, 62),
        (5, 1, 9, 5),
    ],
)
def test_widths_are_rounded_to_the_nearest_multiple(
    width: int, multiple: int, full: int, expected: int
) -> None:
    assert rounded(width, multiple, full) == expected


def test_requested_and_chosen_shares_are_reported(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), amount=0.3)
    pruned.score(1)
    pruned.finish()
    (note,) = pruned.context.notes
    assert note.startswith("bmp: 30.00% asked, 30.")
    assert "multiples of 8" in note


# What stays and what leaves


def test_heads_are_judged_by_the_mean_score_of_their_weights(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1), block=5)
    pruned.score(2)
    layer = pruned.layers[0]
    expected = []
    for head in range(HEADS):
        rows = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
        per_weight = [mask.spread(mask.scores) for mask in layer.blocks]
        own = [matrix[rows].flatten() for matrix in per_weight[:3]] + [per_weight[3][:, rows].flatten()]
        expected.append(torch.cat(own).mean())
    torch.testing.assert_close(layer.head_scores(), torch.stack(expected).detach())


def test_neurons_with_the_lowest_scores_leave(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1), amount=0.3, uniform=True, multiple=1)
    pruned.score(4)
    kept = pruned.layers[0].neurons.scores.detach().argsort(descending=True)
    model = pruned.finish()
    width = layer_shapes(model)[0][1]
    whole = tiny(layers=1).bert.encoder.layer[0].intermediate.dense.bias
    left = model.bert.encoder.layer[0].intermediate.dense.bias
    assert torch.equal(left, whole[kept[:width].sort().values])


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_removal_changes_no_logit(tokenizer: PreTrainedTokenizerBase, family: str, amount: float) -> None:
    pruned = pruning(tokenizer, tiny(family, layers=3).double(), amount=amount, block=8)
    pruned.score(seed=5)
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
    pruned.score(seed)
    masked = logits(pruned.freeze())
    assert (logits(pruned.finish()) - masked).abs().max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lost", ["heads", "neurons", "both"])
def test_a_layer_may_lose_all_it_has(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str, lost: str
) -> None:
    pruned = pruning(tokenizer, with_own_layers(family).double(), amount=0.5, block=8)
    pruned.score(6)
    with torch.no_grad():
        first = pruned.layers[0]
        for score in first.scores() if lost == "both" else first.scores()[:4] if lost == "heads" else []:
            score.fill_(-100)
        if lost == "neurons":
            first.neurons.scores.fill_(-100)
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
    pruned.score(7)
    before, after = dict(tiny().named_parameters()), dict(pruned.finish().named_parameters())
    for name in before:
        if "encoder" not in name:
            assert torch.equal(before[name], after[name])


def test_training_leaves_the_weights_that_it_trained(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1).double(), amount=0.25)
    pruned.score(8)
    model = pruned.freeze().train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**padded_batch(), labels=torch.zeros(5, dtype=torch.long)).loss.backward()
    optimizer.step()
    masked = logits(model)
    assert (masked - logits(tiny(layers=1).double())).abs().max() > 1e-3
    assert (logits(pruned.finish()) - masked).abs().max() <= 1e-5


# Masks while training


def test_masks_let_everything_through_at_first(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), amount=0.5)
    pruned.score(9)
    pruned.part.on_step(0, pruned.context)
    assert torch.equal(logits(pruned.model), logits(tiny()))


def masked_share(pruned: Pruning) -> float:
    """Share of the encoder's weights that are masked now."""
    encoder = pruned.model.bert.encoder
    matrices = [matrix for matrix in encoder.modules() if isinstance(matrix, nn.Linear)]
    zeros = sum(int(matrix.weight.eq(0).sum()) for matrix in matrices)
    return zeros / sum(matrix.weight.numel() for matrix in matrices)


@pytest.mark.parametrize("block", [8, 7, 32, 1000])
def test_masks_follow_a_cubic_ramp_between_warm_up_and_cool_down(
    tokenizer: PreTrainedTokenizerBase, block: int
) -> None:
    pruned = pruning(tokenizer, tiny(layers=3), amount=0.6, block=block, multiple=1)
    pruned.score(10)
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
    pruned.score(11)
    pruned.part.on_step(60, pruned.context)
    before = [[part.tolist() for part in layer.kept()] for layer in pruned.layers]
    pruned.score(12)
    pruned.part.on_step(80, pruned.context)
    model = pruned.finish()
    assert [[part.tolist() for part in layer.kept()] for layer in pruned.layers] == before
    assert [shape[0] for shape in layer_shapes(model)] == [len(heads) for heads, _ in before]


def test_the_lowest_blocks_of_all_layers_together_are_masked(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), amount=0.5, block=8)
    with torch.no_grad():
        for level, layer in enumerate(pruned.layers):
            for score in layer.scores():
                score.fill_(float(level))
    apply_threshold(pruned.layers, 0.5)
    first, second = (
        torch.cat([mask.keep.flatten() for mask in layer.blocks] + [layer.neurons.keep])
        for layer in pruned.layers
    )
    assert first.eq(0).all()
    assert second.eq(1).all()


@pytest.mark.parametrize("block", [8, 5, 32, 100])
def test_scores_of_blocks_get_the_sum_over_the_block(block: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(24, 32, dtype=torch.float64, requires_grad=True)
    mask = BlockMask(weight.shape, block).double()
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


def test_scores_of_neurons_get_the_sum_over_row_and_column(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1).double())
    pruned.score(13)
    apply_threshold(pruned.layers, 0.3)
    layer = pruned.layers[0].module
    used: list[torch.Tensor] = []
    for matrix in (layer.intermediate.dense, layer.output.dense):
        matrix.register_forward_pre_hook(lambda module, _: used.append(module.weight))
    with torch.no_grad():
        originals = [
            matrix.parametrizations.weight.original.clone()
            for matrix in (layer.intermediate.dense, layer.output.dense)
        ]
    scores = pruned.layers[0].neurons.scores
    with parametrize.cached():
        loss = pruned.model(**padded_batch(), labels=torch.tensor([0, 1, 2, 0, 1])).loss
        grads = torch.autograd.grad(loss, [*used, scores])
    expected = (grads[0] * originals[0]).sum(1) + (grads[1] * originals[1]).sum(0)
    torch.testing.assert_close(grads[2], expected)


@pytest.mark.parametrize("block", [1, 7, 8, 32, 33, 10**9])
def test_blocks_cover_a_matrix_that_they_do_not_divide(block: int) -> None:
    mask = BlockMask(torch.Size((24, 32)), block)
    assert mask.costs().sum() == 24 * 32
    assert mask.costs().shape == mask.scores.shape
    numbered = mask.spread(torch.arange(mask.scores.numel()).view(mask.scores.shape))
    assert numbered.shape == (24, 32)
    assert torch.equal(numbered.flatten().bincount(), mask.costs().flatten())


def test_scores_learn_at_a_rate_of_their_own_and_pay_for_staying(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), amount=0.5, score_lr=0.02, regularization=3.0)
    (group,) = pruned.part.parameter_groups(pruned.model)
    assert group["lr"] == 0.02
    assert group["weight_decay"] == 0.0
    scores = [score for layer in pruned.layers for score in layer.scores()]
    assert {id(score) for score in group["params"]} == {id(score) for score in scores}
    cost = pruned.part.loss(pruned.model, {}, None, pruned.context)
    assert cost is not None
    assert cost.item() == pytest.approx(3.0 * 0.5 * 0.5)
    cost.backward()
    assert all(score.grad is not None and score.grad.gt(0).all() for score in scores)
    pruned.freeze()
    assert pruned.part.loss(pruned.model, {}, None, pruned.context) is None


# Uniform


@pytest.mark.parametrize("family", FAMILIES)
def test_uniform_takes_the_same_neurons_off_every_layer(
    tokenizer: PreTrainedTokenizerBase, family: str
) -> None:
    pruned = pruning(tokenizer, tiny(family, layers=3).double(), amount=0.4, uniform=True, multiple=1)
    pruned.score(14)
    masked = logits(pruned.freeze())
    model = pruned.finish()
    assert type(model) is FAMILIES[family][1]
    assert model.config.model_type == family
    (shape,) = set(layer_shapes(model))
    assert shape == (HEADS, getattr(model.config, PRUNABLE[family].anatomy.ffn_width))
    assert 1 - (encoder_weights(model) or 0) / pruned.weights == pytest.approx(0.4, abs=0.01)
    assert (logits(model) - masked).abs().max() <= 1e-5


def test_uniform_refuses_more_than_the_feed_forward_layers_hold(tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny()
    most = ffn_weights(model) / (encoder_weights(model) or 0)
    assert most == pytest.approx(0.5)
    with pytest.raises(Refusal, match=r"uniform=true can remove 50% of this encoder, not 60%"):
        pruning(tokenizer, model, amount=0.6, uniform=True)
    pruned = pruning(tokenizer, tiny(), amount=0.5, uniform=True)
    assert layer_shapes(pruned.finish()) == [(HEADS, 8)] * 2


# Refusals


def test_an_unknown_family_is_refused_by_name(tokenizer: PreTrainedTokenizerBase) -> None:
    known = "albert, bert, distilbert, electra, roberta, xlm-roberta"
    with pytest.raises(Refusal, match=f"bmp cannot prune a squeezebert model; families it can: {known}"):
        pruning(tokenizer, tiny("squeezebert"))


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


# Reloading


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Pruned artifacts of every family, ours and uniform, each with the logits it gave when saved."""
    root = tmp_path_factory.mktemp("artifacts")
    for family in FAMILIES:
        for name, uniform in (("pruned", False), ("uniform", True)):
            folder = root / f"{name}-{family}"
            model = with_own_layers(family)
            pruned = pruning(tokenizer, model, amount=0.45, block=8, uniform=uniform)
            pruned.score(15)
            if not uniform:
                with torch.no_grad():
                    for score in pruned.layers[1].scores()[:4]:
                        score.fill_(-100)
            model = pruned.finish()
            artifact.save(model, tokenizer, Variant((pruned.part,)), folder)
            save_file({"logits": logits(model), **padded_batch()}, folder / "expected.tensors")
    return root


def in_fresh_process(code: str, *arguments: Path, **environment: str) -> None:
    """Run Python that knows nothing of this one; it fails where an assertion in it does."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


COMPARE = """
import sys
import torch
from pathlib import Path
from safetensors.torch import load_file

def compare(folder, model):
    batch = load_file(folder / "expected.tensors")
    expected = batch.pop("logits")
    with torch.no_grad():
        found = model.eval()(**batch).logits
    assert torch.allclose(found, expected, atol=1e-6), (folder, found - expected)

folders = [Path(word) for word in sys.argv[1:]]
assert folders
"""


def test_pruned_artifacts_reload_in_a_fresh_process(artifacts: Path) -> None:
    code = f"""
{COMPARE}
import compressors
for folder in folders:
    compare(folder, compressors.load(folder))
from transformers import AutoModelForSequenceClassification
import compressors.pruned
for folder in folders:
    compare(folder, AutoModelForSequenceClassification.from_pretrained(folder))
"""
    in_fresh_process(code, *sorted(artifacts.glob("pruned-*")))


def test_the_class_file_beside_a_pruned_artifact_is_enough(artifacts: Path, tmp_path: Path) -> None:
    for folder in sorted(artifacts.glob("pruned-*")):
        copied = tmp_path / folder.name
        shutil.copytree(folder, copied)
        shutil.copy(compressors.pruned.__file__, copied)
        settings = json.loads((copied / "config.json").read_text())
        family = PRUNED[settings["model_type"]]
        settings["auto_map"] = {
            "AutoConfig": f"pruned.{family.config_class.__name__}",
            "AutoModelForSequenceClassification": f"pruned.{family.model_class.__name__}",
        }
        (copied / "config.json").write_text(json.dumps(settings))
    code = f"""
{COMPARE}
from transformers import AutoModelForSequenceClassification
for folder in folders:
    compare(folder, AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True))
assert not [name for name in sys.modules if name.split(".")[0] in ("bench", "compressors")]
# What is our own goes on working where copies are registered, and takes over again.
import compressors
for folder in folders:
    compare(folder, compressors.load(folder))
"""
    in_fresh_process(code, *sorted(tmp_path.glob("pruned-*")), HF_MODULES_CACHE=str(tmp_path / "modules"))


def test_uniform_artifacts_reload_with_stock_transformers_alone(artifacts: Path) -> None:
    code = f"""
{COMPARE}
from transformers import AutoModelForSequenceClassification
for folder in folders:
    compare(folder, AutoModelForSequenceClassification.from_pretrained(folder))
assert not [name for name in sys.modules if name.split(".")[0] in ("bench", "compressors")]
"""
    in_fresh_process(code, *sorted(artifacts.glob("uniform-*")))


def test_a_pruned_artifact_keeps_its_labels_and_shapes(artifacts: Path) -> None:
    model = compressors.load(artifacts / "pruned-bert")
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.layer_heads == [heads for heads, _ in layer_shapes(model)]
    assert model.config.layer_heads[1] == 0
    assert model.config.layer_ffn_widths == [width for _, width in layer_shapes(model)]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters < sum(parameter.numel() for parameter in tiny().parameters())
    assert math.isfinite(float(logits(model).sum()))


def test_best_neurons_are_as_many_as_asked_for(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1))
    pruned.score(16)
    keep = best_neurons(pruned.layers[0], 10)
    scores = pruned.layers[0].neurons.scores.detach()
    assert int(keep.sum()) == 10
    assert scores[keep].min() > scores[~keep].max()
