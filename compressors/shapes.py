"""Encoders whose layers differ in heads and feed-forward width, and their registration with transformers.

Importing this module is enough for `AutoModelForSequenceClassification.from_pretrained` to reload a
pruned artifact; nothing else in the product registers anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from bench.errors import Refusal

STOCK_FAMILIES: tuple[tuple[type[PreTrainedConfig], type[PreTrainedModel]], ...] = (
    (BertConfig, BertForSequenceClassification),
    (RobertaConfig, RobertaForSequenceClassification),
    (XLMRobertaConfig, XLMRobertaForSequenceClassification),
)


@dataclass(frozen=True)
class Family:
    """A prunable family: its registered config and model classes with per-layer shapes."""

    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]


def _register(stock_config: type[PreTrainedConfig], stock_model: type[PreTrainedModel]) -> Family:
    """A config that records heads and widths per layer, and a model that builds itself from them."""

    def init_config(
        self: Any,
        layer_heads: list[int] | None = None,
        layer_ffn_widths: list[int] | None = None,
        **settings: Any,
    ) -> None:
        stock_config.__init__(self, **settings)
        self.layer_heads = layer_heads
        self.layer_ffn_widths = layer_ffn_widths

    def init_model(self: Any, config: Any) -> None:
        stock_model.__init__(self, config)
        shape_layers(self, config.layer_heads, config.layer_ffn_widths)

    config_class: type[PreTrainedConfig] = type(
        f"Pruned{stock_config.__name__}",
        (stock_config,),
        {
            "__init__": init_config,
            "__module__": __name__,
            "model_type": f"bench-pruned-{stock_config.model_type}",
            "__doc__": "Adds `layer_heads` and `layer_ffn_widths`, one number a layer.",
        },
    )
    model_class: type[PreTrainedModel] = type(
        f"Pruned{stock_model.__name__}",
        (stock_model,),
        {
            "__init__": init_model,
            "__module__": __name__,
            "config_class": config_class,
            "config": config_class,
        },
    )
    AutoConfig.register(config_class.model_type, config_class)
    AutoModelForSequenceClassification.register(config_class, model_class)
    return Family(config_class, model_class)


class NoHeads(nn.Module):
    """Stands for the self-attention of a layer that lost all its heads: its output has no columns."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        return hidden_states.new_empty((*hidden_states.shape[:-1], 0)), None


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer that may have no inputs or no outputs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        return nn.Linear(in_features, out_features)


def shape_layers(model: PreTrainedModel, heads: Sequence[int], widths: Sequence[int]) -> None:
    """Replace each encoder layer's matrices by fresh ones for `heads[i]` heads and `widths[i]` neurons."""
    hidden = model.config.hidden_size
    for layer, head_count, width in zip(encoder_of(model).layer, heads, widths, strict=True):
        attention = layer.attention
        inner = head_count * attention.self.attention_head_size
        attention.output.dense = linear(inner, hidden)
        if head_count:
            for name in ("query", "key", "value"):
                setattr(attention.self, name, linear(hidden, inner))
            attention.self.num_attention_heads = head_count
            attention.self.all_head_size = inner
        else:
            attention.self = NoHeads()
        layer.intermediate.dense = linear(hidden, width)
        layer.output.dense = linear(width, hidden)


def encoder_of(model: PreTrainedModel) -> Any:
    """The module whose `layer` list holds the encoder's layers. Raises `Refusal` for another family."""
    if model.config.model_type not in PRUNABLE and model.config.model_type not in PRUNED:
        known = ", ".join(sorted(PRUNABLE))
        raise Refusal(
            f"a {model.config.model_type} model's layers cannot be changed; families that can: {known}"
        )
    return model.base_model.encoder


def layer_stack(model: PreTrainedModel) -> tuple[nn.Module, str]:
    """The module and attribute that hold the model's list of layers, whatever its family calls them.

    Raises `Refusal` where there is no such list, as in a model whose layers share their weights.
    """
    depth = model.config.num_hidden_layers
    for owner in model.base_model.modules():
        for attribute, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                return owner, attribute
    raise Refusal(f"a {model.config.model_type} model has no list of {depth} layers to take some of")


def layer_shapes(model: PreTrainedModel) -> list[tuple[int, int]]:
    """(heads, feed-forward width) of each encoder layer; empty for a family that is not known."""
    try:
        layers = encoder_of(model).layer
    except Refusal:
        return []
    return [
        (
            0 if isinstance(layer.attention.self, NoHeads) else layer.attention.self.num_attention_heads,
            layer.intermediate.dense.out_features,
        )
        for layer in layers
    ]


def encoder_weights(model: PreTrainedModel) -> int | None:
    """Number of weights (no biases) in the encoder's Q, K, V, O and feed-forward matrices, or None."""
    try:
        layers = encoder_of(model).layer
    except Refusal:
        return None
    return sum(m.weight.numel() for m in layers.modules() if isinstance(m, nn.Linear))


def ffn_weights(model: PreTrainedModel) -> int:
    """Number of weights (no biases) in the encoder's feed-forward matrices."""
    return sum(
        layer.intermediate.dense.weight.numel() + layer.output.dense.weight.numel()
        for layer in encoder_of(model).layer
    )


PRUNABLE: dict[str, Family] = {
    config.model_type: _register(config, model) for config, model in STOCK_FAMILIES
}
PRUNED: dict[str, Family] = {family.config_class.model_type: family for family in PRUNABLE.values()}
