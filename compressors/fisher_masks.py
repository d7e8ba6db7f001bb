"""Which heads and neurons a trained encoder needs least, by the Fisher information of their masks.

Source: Kwon, Kim, Mahoney, Hassoun, Keutzer and Gholami, "A Fast Post-Training Pruning Framework for
Transformers", NeurIPS 2022. Near masks m of 1 the loss grows by about (1 - m)ᵀ I (1 - m) / 2, where I is the
empirical Fisher information of the masks: what is removed should make that small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from compressors.pruned import PRUNABLE

CELLS = 10_000


@dataclass(frozen=True)
class SubLayer:
    """An attention or feed-forward sub-layer: units of `size` columns each in its `last` matrix.

    A unit is a head or a neuron; `cost` is its number of weights. What enters the `first` matrix also goes
    around the sub-layer as the residual.
    """

    first: nn.Linear
    last: nn.Linear
    units: int
    size: int
    cost: int
    is_attention: bool

    def widths(self, multiple: int) -> np.ndarray:
        """How many units may stay: any number of heads, neurons in multiples or all, ascending."""
        step = 1 if self.is_attention else multiple
        return np.unique([*range(0, self.units, step), self.units])


def sub_layers(model: PreTrainedModel) -> list[SubLayer]:
    """Attention and feed-forward of each encoder layer in turn, of a prunable family."""
    anatomy = PRUNABLE[model.config.model_type].anatomy
    found = []
    for layer in anatomy.layers(model).values():
        heads, width = anatomy.shape(layer)
        size = layer.get_submodule(anatomy.attention).attention_head_size
        query, output = layer.get_submodule(anatomy.query), layer.get_submodule(anatomy.output)
        ffn_in, ffn_out = layer.get_submodule(anatomy.ffn_in), layer.get_submodule(anatomy.ffn_out)
        hidden = output.out_features
        found.append(SubLayer(query, output, heads, size, 4 * size * hidden, is_attention=True))
        found.append(SubLayer(ffn_in, ffn_out, width, 1, 2 * hidden, is_attention=False))
    return found


def mask_gradients(
    model: PreTrainedModel, layers: Sequence[SubLayer], batches: Iterable[dict[str, torch.Tensor]]
) -> list[torch.Tensor]:
    """Each row's own gradient of its cross-entropy by the masks at 1: (rows, units) for each sub-layer.

    Every row of a batch gets masks of its own, so one backward pass over the sum of the losses gives the
    gradients of all rows apart. A layer that is run several times sums those of its uses. The Fisher
    information within a sub-layer is GᵀG of these G, its diagonal the sum of their squares.
    """
    gradients: list[list[torch.Tensor]] = [[] for _ in layers]
    masks: list[torch.Tensor] = []

    def masked(place: int) -> Any:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
            by_column = masks[place].repeat_interleave(layers[place].size, dim=1)
            return inputs[0] * by_column[:, None, :]

        return hook

    with ExitStack() as hooks:
        for place, layer in enumerate(layers):
            hooks.callback(layer.last.register_forward_pre_hook(masked(place)).remove)
        for batch in batches:
            labels = batch["labels"]
            masks[:] = [
                torch.ones(len(labels), layer.units, dtype=model.dtype, device=labels.device)
                for layer in layers
            ]
            for mask in masks:
                mask.requires_grad_()
            logits = model(**{key: batch[key] for key in batch if key != "labels"}).logits
            loss = F.cross_entropy(logits, labels, reduction="sum")
            for rows, gradient in zip(gradients, torch.autograd.grad(loss, masks), strict=True):
                rows.append(gradient)
    return [torch.cat(rows) for rows in gradients]


def search(
    importance: Sequence[np.ndarray],
    widths: Sequence[np.ndarray],
    costs: Sequence[np.ndarray],
    budget: int,
    slack: int,
) -> list[int]:
    """How many units stay in each sub-layer so that the importance of what stays is the greatest.

    `importance` is that of each unit, `costs` whole numbers for each of the `widths` a sub-layer may have;
    together they stay within `budget`, and at most `slack` below it, or else as close as can be. Where `m`
    units stay they are the `m` most important. Solved exactly, for costs of any form, as a knapsack with
    one choice a sub-layer; the paper's search does so for costs that are linear in heads and in neurons.
    """
    best = np.full(budget + 1, -np.inf)
    best[0] = 0.0
    choices = []
    for units, counts, cost in zip(importance, widths, costs, strict=True):
        gains = np.concatenate([[0.0], np.cumsum(np.sort(units)[::-1])])[counts]
        after, choice = np.full_like(best, -np.inf), np.zeros(budget + 1, dtype=np.int32)
        for option in np.flatnonzero(cost <= budget):
            spent = cost[option]
            candidate = best[: budget + 1 - spent] + gains[option]
            better = candidate > after[spent:]
            np.copyto(after[spent:], candidate, where=better)
            np.copyto(choice[spent:], option, where=better)
        best = after
        choices.append(choice)
    reached = np.flatnonzero(np.isfinite(best))
    near = reached[reached >= min(reached[-1], budget - slack)]
    spent = near[np.argmax(best[near])]
    kept = []
    for counts, cost, choice in reversed(list(zip(widths, costs, choices, strict=True))):
        option = choice[spent]
        kept.append(int(counts[option]))
        spent -= cost[option]
    return kept[::-1]


def search_weights(
    layers: Sequence[SubLayer], importance: Sequence[np.ndarray], multiple: int, budget: int
) -> list[int]:
    """How many units stay in each sub-layer within `budget` weights, less than one step of a width under it.

    A model with fewer neurons than weigh one head may stay further below.
    """
    widths = [layer.widths(multiple) for layer in layers]
    costs = [counts * layer.cost for counts, layer in zip(widths, layers, strict=True)]
    unit = int(np.gcd.reduce(np.concatenate(costs)))
    step = multiple * min(layer.cost for layer in layers)
    return search(importance, widths, [cost // unit for cost in costs], budget // unit, (step - 1) // unit)


def search_time(
    importance: Sequence[np.ndarray],
    widths: Sequence[np.ndarray],
    times_s: Sequence[np.ndarray],
    budget_s: float,
) -> list[int]:
    """How many units stay in each sub-layer within a budget of time; `times_s` has one for each width.

    Times are counted in ten-thousandths of the budget, rounded up.
    """
    cell_s = budget_s / CELLS
    costs = [np.ceil(time_s / cell_s).astype(np.int64) for time_s in times_s]
    return search(importance, widths, costs, CELLS, slack=CELLS)


def most_important(importance: np.ndarray, count: int) -> np.ndarray:
    """A mask of the `count` most important units."""
    kept = np.zeros(len(importance), dtype=bool)
    kept[np.argsort(-importance, kind="stable")[:count]] = True
    return kept


def rearranged(gradients: torch.Tensor, kept: np.ndarray) -> np.ndarray:
    """`kept`, as many units, after one round of exchanges within the sub-layer.

    Each removed unit in turn takes the place of the kept one for which (1 - m)ᵀ I (1 - m) falls most, where
    it falls at all. Here I is whole, not its diagonal: two units that do the same are not both removed.
    """
    information = (gradients.T @ gradients).double().cpu().numpy()
    diagonal = information.diagonal()
    kept = kept.copy()
    shared = information @ ~kept
    for unit in np.flatnonzero(~kept):
        stays = np.flatnonzero(kept)
        if not len(stays):
            break
        change = 2 * shared[stays] + diagonal[stays] - 2 * information[unit, stays]
        change += diagonal[unit] - 2 * shared[unit]
        if change.min() < 0:
            partner = stays[change.argmin()]
            kept[[unit, partner]] = True, False
            shared += information[partner] - information[unit]
    return kept
