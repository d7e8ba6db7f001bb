"""Mask values that make pruned sub-layers give what the dense ones gave, by linear least squares.

Source: Kwon et al., "A Fast Post-Training Pruning Framework for Transformers", NeurIPS 2022, mask tuning.
There LSMR solves each sub-layer; here its normal equations are solved, which for units that are columns of a
matrix are small: (XᵀX) ∘ (WᵀW), summed over the columns of each unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from compressors.fisher_masks import SubLayer

DAMPING = 1.0
LARGEST = 10.0


def mask_values(
    model: PreTrainedModel,
    layers: Sequence[SubLayer],
    kept: Sequence[torch.Tensor],
    batch: dict[str, torch.Tensor],
) -> list[torch.Tensor]:
    """A value for each unit of each sub-layer, 0 where it is not `kept`, fitted on one batch.

    Sub-layers are fitted in their order, each with all before it pruned and rescaled, so that it also makes
    up for what these got wrong. One forward pass does it all: the batch goes through twice over, as its own
    dense reference and pruned. No sub-layer may run twice.
    """
    real = batch["attention_mask"].bool()
    values: list[torch.Tensor] = []
    residual: list[torch.Tensor] = []

    def note_residual(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        residual[:] = inputs

    def fitted(layer: SubLayer, stays: torch.Tensor) -> Any:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
            dense, pruned = inputs[0].chunk(2)
            dense_residual, pruned_residual = residual[0].chunk(2)
            missing = (dense_residual - pruned_residual)[real]
            missing += dense[real] @ layer.last.weight.T
            values.append(fit(pruned[real], layer.last.weight, stays, layer.size, missing))
            return torch.cat([dense, pruned * values[-1].repeat_interleave(layer.size)])

        return hook

    with torch.no_grad(), ExitStack() as hooks:
        for layer, stays in zip(layers, kept, strict=True):
            hooks.callback(layer.first.register_forward_pre_hook(note_residual).remove)
            hooks.callback(layer.last.register_forward_pre_hook(fitted(layer, stays)).remove)
        model(**{key: torch.cat([batch[key]] * 2) for key in batch if key != "labels"})
    assert len(values) == len(layers)
    return values


def runs_layers_again(model: PreTrainedModel) -> bool:
    """Whether layers share their weights, as in ALBERT."""
    depth: int = model.config.num_hidden_layers
    return getattr(model.config, "num_hidden_groups", depth) < depth


def fit(
    inputs: torch.Tensor, weight: torch.Tensor, kept: torch.Tensor, size: int, wanted: torch.Tensor
) -> torch.Tensor:
    """Mask values m, one a unit, that bring Σ m_u · inputs_u · weight_uᵀ closest to `wanted`.

    `inputs` is (tokens, units · size), `weight` (hidden, units · size), `wanted` (tokens, hidden). The change
    from plain masks is damped by `DAMPING` times the mean square of a unit's output, and ten times more until
    no value leaves -10..10; so the error is never above that of plain masks.
    """
    columns = kept.repeat_interleave(size)
    inputs, weight = inputs[:, columns], weight[:, columns]
    missing = wanted - inputs @ weight.T
    units = int(kept.sum())
    products = ((inputs.T @ inputs) * (weight.T @ weight)).double()
    gram = products.view(units, size, units, size).sum((1, 3))
    moments = ((inputs.T @ missing) * weight.T).double().sum(1).view(units, size).sum(1)
    values = kept.double()
    if not gram.any():
        return values.to(inputs)
    damping = DAMPING * gram.diagonal().mean()
    while True:
        change = torch.linalg.solve(gram + damping * torch.eye(units).to(gram), moments)
        if change.abs().max() < LARGEST - 1:
            values[kept] += change
            return values.to(inputs)
        damping *= 10


def joined(batches: Iterable[dict[str, torch.Tensor]], pad_token: int) -> dict[str, torch.Tensor]:
    """One batch of all their rows, padded on the right to the longest."""
    apart = list(batches)
    longest = max(batch["input_ids"].shape[1] for batch in apart)
    whole = {"labels": torch.cat([batch["labels"] for batch in apart])}
    for key in apart[0].keys() - whole.keys():
        fill = pad_token if key == "input_ids" else 0
        padded = [F.pad(batch[key], (0, longest - batch[key].shape[1]), value=fill) for batch in apart]
        whole[key] = torch.cat(padded)
    return whole
