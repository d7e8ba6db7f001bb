"""Learned masks over an encoder's heads and neurons, the choice of what stays, and the removal of the rest.

A masked unit is masked on both of its sides (a head's rows of Q, K, V and columns of O; a neuron's row and
column), so it contributes nothing, not even through its biases, and removing it changes no logit.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from compressors.pruned import PRUNABLE, Anatomy


def straight_through(keep: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """`keep` in the forward pass, with the gradient going to `scores` unchanged."""
    return keep + (scores - scores.detach())


class BlockMask(nn.Module):
    """Multiplies a matrix by a mask of blocks of `sides`; once `fixed` is set, by that instead."""

    keep: torch.Tensor
    fixed: torch.Tensor | None

    def __init__(self, shape: torch.Size, sides: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.sides = [min(part, side) for part, side in zip(sides, shape, strict=True)]
        grid = [-(-side // part) for side, part in zip(shape, self.sides, strict=True)]
        self.scores = nn.Parameter(torch.zeros(grid))
        self.register_buffer("keep", torch.ones(grid), persistent=False)
        self.register_buffer("fixed", None, persistent=False)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if self.fixed is not None:
            return weight * self.fixed
        return weight * self.spread(straight_through(self.keep, self.scores))

    def spread(self, blocks: torch.Tensor) -> torch.Tensor:
        """One value a block -> one value a weight."""
        (rows, columns), (height, width) = blocks.shape, self.sides
        whole = blocks[:, None, :, None].expand(rows, height, columns, width)
        return whole.reshape(rows * height, columns * width)[: self.shape[0], : self.shape[1]]

    def means(self, values: torch.Tensor) -> torch.Tensor:
        """One value a weight -> their mean in each block."""
        (rows, columns), (height, width) = self.scores.shape, self.sides
        below, right = rows * height - self.shape[0], columns * width - self.shape[1]
        whole = F.pad(values, (0, right, 0, below)).view(rows, height, columns, width)
        return whole.sum((1, 3)) / self.costs().to(values)

    def costs(self) -> torch.Tensor:
        """Number of weights in each block; those at the edges may be smaller."""
        sides = [
            torch.tensor([min(part, side - start) for start in range(0, side, part)])
            for side, part in zip(self.shape, self.sides, strict=True)
        ]
        return sides[0][:, None] * sides[1][None, :]


class NeuronMask(nn.Module):
    """One score a feed-forward neuron, shared by its row and its column."""

    keep: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(width))
        self.register_buffer("keep", torch.ones(width), persistent=False)
        self.is_fixed = False

    def values(self) -> torch.Tensor:
        return self.keep if self.is_fixed else straight_through(self.keep, self.scores)


class NeuronRows(nn.Module):
    """Masks the rows of the first feed-forward matrix."""

    def __init__(self, mask: NeuronMask) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask.values()[:, None]


class NeuronColumns(NeuronRows):
    """Masks the columns of the second feed-forward matrix."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask.values()[None, :]


@dataclass
class MaskedLayer:
    """One encoder layer with its masks. `blocks` are those of Q, K, V, O in this order, or none.

    `name` is the layer's in the model; `matrices` are those under masks: of `blocks`, then feed-forward.
    """

    name: str
    matrices: tuple[Any, ...]
    blocks: tuple[BlockMask, ...]
    neurons: NeuronMask
    heads: int
    head_size: int
    hidden_size: int

    @property
    def head_cost(self) -> int:
        """Weights of one head."""
        return 4 * self.head_size * self.hidden_size

    @property
    def neuron_cost(self) -> int:
        """Weights of one neuron."""
        return 2 * self.hidden_size

    def scores(self) -> list[nn.Parameter]:
        return [mask.scores for mask in self.blocks] + [self.neurons.scores]

    def weights(self) -> list[torch.Tensor]:
        """The weights of `matrices` as they are under the masks."""
        return [matrix.parametrizations.weight.original.detach() for matrix in self.matrices]

    def score_units(self, heads: torch.Tensor, neurons: torch.Tensor) -> None:
        """Give each head's blocks its score, and each neuron its own."""
        if self.blocks:
            by_row = heads.repeat_interleave(self.head_size)
            *rows, columns = self.blocks
            for mask in rows:
                mask.scores.copy_(mask.means(by_row[:, None].expand(mask.shape)))
            columns.scores.copy_(columns.means(by_row[None, :].expand(columns.shape)))
        self.neurons.scores.copy_(neurons)

    def head_scores(self) -> torch.Tensor:
        """Mean score of each head's weights, shape (heads,)."""
        shape = (self.heads, self.head_size)
        *rows, columns = [mask.spread(mask.scores.detach()) for mask in self.blocks]
        by_head = [spread.view(*shape, -1).mean((1, 2)) for spread in rows]
        by_head.append(columns.view(-1, *shape).mean((0, 2)))
        return torch.stack(by_head).mean(0)

    def fix(self, heads_kept: torch.Tensor | None, neurons_kept: torch.Tensor) -> None:
        """From now on whole heads and neurons are masked, and nothing inside those that stay."""
        if heads_kept is not None:
            by_row = heads_kept.repeat_interleave(self.head_size).to(self.neurons.scores)
            *rows, columns = self.blocks
            for mask in rows:
                mask.fixed = by_row[:, None]
            columns.fixed = by_row[None, :]
        self.neurons.keep = neurons_kept.to(self.neurons.scores)
        self.neurons.is_fixed = True

    def kept(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of the heads and of the neurons that stay."""
        assert self.neurons.is_fixed
        if not self.blocks:
            heads = torch.arange(self.heads)
        else:
            fixed = self.blocks[-1].fixed
            assert fixed is not None
            heads = fixed.view(self.heads, self.head_size)[:, 0].nonzero().flatten().cpu()
        return heads, self.neurons.keep.nonzero().flatten().cpu()


def mask_encoder(model: PreTrainedModel, block: int, with_heads: bool) -> list[MaskedLayer]:
    """Put masks that let everything through on every encoder layer of `model`, of a prunable family."""
    anatomy = PRUNABLE[model.config.model_type].anatomy
    return [
        mask_layer(name, module, anatomy, block, with_heads) for name, module in anatomy.layers(model).items()
    ]


def mask_layer(name: str, module: Any, anatomy: Anatomy, block: int, with_heads: bool) -> MaskedLayer:
    """Put masks on one encoder layer; no block is wider than a head, so that each head has its own."""
    heads, width = anatomy.shape(module)
    head_size = module.get_submodule(anatomy.attention).attention_head_size
    ffn_in, ffn_out = (module.get_submodule(part) for part in (anatomy.ffn_in, anatomy.ffn_out))
    neurons = NeuronMask(width).to(ffn_in.weight)
    matrices, blocks = [], []
    if with_heads:
        across = min(block, head_size)
        for part in (*anatomy.inputs, anatomy.output):
            sides = (block, across) if part == anatomy.output else (across, block)
            matrices.append(module.get_submodule(part))
            blocks.append(BlockMask(matrices[-1].weight.shape, sides).to(matrices[-1].weight))
            parametrize.register_parametrization(matrices[-1], "weight", blocks[-1])
    parametrize.register_parametrization(ffn_in, "weight", NeuronRows(neurons))
    parametrize.register_parametrization(ffn_out, "weight", NeuronColumns(neurons))
    masked = (*matrices, ffn_in, ffn_out)
    return MaskedLayer(name, masked, tuple(blocks), neurons, heads, head_size, ffn_in.in_features)


def apply_threshold(layers: Sequence[MaskedLayer], removed: float) -> None:
    """Mask the lowest-scored blocks and neurons of all layers together, the share `removed` of weights."""
    masks: list[BlockMask | NeuronMask] = []
    costs: list[torch.Tensor] = []
    for layer in layers:
        masks += [*layer.blocks, layer.neurons]
        costs += [mask.costs().flatten() for mask in layer.blocks]
        costs.append(torch.full_like(layer.neurons.keep, layer.neuron_cost))
    scores = torch.cat([mask.scores.detach().flatten() for mask in masks])
    cost = torch.cat([c.to(scores) for c in costs])
    order = scores.argsort(stable=True)
    keep = torch.empty_like(scores)
    keep[order] = (cost[order].cumsum(0) > removed * cost.sum()).to(scores)
    for mask, part in zip(masks, keep.split([mask.scores.numel() for mask in masks]), strict=True):
        mask.keep.copy_(part.view_as(mask.keep))


@dataclass(frozen=True)
class Unit:
    """A head or a neuron that stays or leaves as a whole."""

    score: float
    cost: int
    layer: int
    index: int
    is_head: bool


def choose_units(layers: Sequence[MaskedLayer], budget: int, multiple: int) -> float:
    """Keep the best heads and neurons of all layers together within `budget` weights, and fix the masks.

    Returns the share removed before widths were rounded to `multiple`.
    """
    units = [
        Unit(score, layer.head_cost, i, j, True)
        for i, layer in enumerate(layers)
        for j, score in enumerate(layer.head_scores().tolist())
    ] + [
        Unit(score, layer.neuron_cost, i, j, False)
        for i, layer in enumerate(layers)
        for j, score in enumerate(layer.neurons.scores.tolist())
    ]
    kept = best_within(units, budget)
    for i, layer in enumerate(layers):
        heads = torch.zeros(layer.heads, dtype=torch.bool)
        heads[[unit.index for unit in kept if unit.is_head and unit.layer == i]] = True
        width = sum(unit.layer == i and not unit.is_head for unit in kept)
        layer.fix(heads, best_neurons(layer, rounded(width, multiple, len(layer.neurons.scores))))
    return 1 - sum(unit.cost for unit in kept) / sum(unit.cost for unit in units)


def best_within(units: Sequence[Unit], budget: int) -> list[Unit]:
    """The best-scored units whose costs sum to `budget`, less than one neuron's cost under it.

    Taken in order of score per weight; what no longer fits is passed over. Where only heads are left over
    and none fits, the best of them is taken and the worst neurons make room; an encoder with fewer
    neurons than weigh one head stays under its budget by up to a head.
    """
    ranked = sorted(units, key=lambda unit: -unit.score)
    kept: list[Unit] = []
    passed: list[Unit] = []
    spent = 0
    for unit in ranked:
        fits = spent + unit.cost <= budget
        (kept if fits else passed).append(unit)
        spent += unit.cost if fits else 0
    smallest = min(unit.cost for unit in units)
    movable = sum(unit.cost for unit in kept if not unit.is_head)
    room = passed and all(unit.is_head for unit in passed) and spent - movable + passed[0].cost <= budget
    if room and budget - spent >= smallest:
        kept.insert(0, passed[0])
        spent += passed[0].cost
        while spent > budget:
            worst = max(i for i, unit in enumerate(kept) if not unit.is_head)
            spent -= kept.pop(worst).cost
    return kept


def choose_uniform(layers: Sequence[MaskedLayer], budget: int, multiple: int) -> float:
    """Keep the best neurons, equally many in every layer, and all heads; returns as `choose_units`.

    At least `multiple` stay: stock transformers builds a layer without neurons only with warnings.
    """
    heads = sum(layer.heads * layer.head_cost for layer in layers)
    full = sum(len(layer.neurons.scores) * layer.neuron_cost for layer in layers)
    width = round((budget - heads) / sum(layer.neuron_cost for layer in layers))
    assert width >= 0
    for layer in layers:
        left = rounded(width, multiple, len(layer.neurons.scores)) or multiple
        layer.fix(None, best_neurons(layer, left))
    return 1 - (heads + width * sum(layer.neuron_cost for layer in layers)) / (heads + full)


def rounded(width: int, multiple: int, full: int) -> int:
    """`width` to the nearest multiple, at most `full`."""
    return min(full, multiple * ((2 * width + multiple) // (2 * multiple)))


def best_neurons(layer: MaskedLayer, width: int) -> torch.Tensor:
    """A mask of the `width` best-scored neurons."""
    scores = layer.neurons.scores.detach()
    keep = torch.zeros_like(scores, dtype=torch.bool)
    keep[scores.argsort(descending=True, stable=True)[:width]] = True
    return keep


def shrink(model: PreTrainedModel, layers: Sequence[MaskedLayer], stock: bool) -> PreTrainedModel:
    """The model without what its fixed masks remove, of the stock class where `stock`, else of ours."""
    unmask(layers)
    settings = copy.deepcopy(model.config.to_dict())
    family = PRUNABLE[settings.pop("model_type")]
    settings.pop("architectures", None)
    state = model.state_dict()
    shapes = [cut(state, layer, family.anatomy) for layer in layers]
    if stock:
        settings[family.anatomy.ffn_width] = shapes[0][1]
        pruned = type(model)(type(model.config).from_dict(settings))
    else:
        settings["layer_heads"], settings["layer_ffn_widths"] = map(list, zip(*shapes, strict=True))
        pruned = family.model_class(family.config_class.from_dict(settings))
    pruned.load_state_dict(state)
    return pruned.to(model.dtype).eval()


def unmask(layers: Sequence[MaskedLayer]) -> None:
    """Make the masked weights the weights."""
    for layer in layers:
        for matrix in layer.matrices:
            parametrize.remove_parametrizations(matrix, "weight", leave_parametrized=True)


def cut(state: dict[str, torch.Tensor], layer: MaskedLayer, anatomy: Anatomy) -> tuple[int, int]:
    """Leave in a state dict only what stays of one layer: (heads, feed-forward width)."""
    heads, neurons = layer.kept()
    rows = (heads[:, None] * layer.head_size + torch.arange(layer.head_size)).flatten()
    for matrix, axis, keep in (
        *((name, 0, rows) for name in anatomy.inputs),
        (anatomy.output, 1, rows),
        (anatomy.ffn_in, 0, neurons),
        (anatomy.ffn_out, 1, neurons),
    ):
        key = f"{layer.name}.{matrix}"
        state[f"{key}.weight"] = state[f"{key}.weight"].cpu().index_select(axis, keep)
        if axis == 0:
            state[f"{key}.bias"] = state[f"{key}.bias"].cpu().index_select(0, keep)
    if not len(heads):
        for name in anatomy.inputs:
            del state[f"{layer.name}.{name}.weight"], state[f"{layer.name}.{name}.bias"]
    return len(heads), len(neurons)
