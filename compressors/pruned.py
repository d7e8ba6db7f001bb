"""Classifiers whose encoder layers differ in heads and feed-forward width, as pruning leaves them.

Stock models cannot hold such layers. Importing this file registers the classes with transformers. It needs
nothing but torch and transformers, so that a copy of it beside a checkpoint is enough to load that one
(`AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)`).
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)


class NoHeads(nn.Module):
    """Stands for the self-attention of a layer that lost all its heads: its output has no columns."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        return hidden_states.new_empty((*hidden_states.shape[:-1], 0)), None


class NoHeadsDistilBert(NoHeads):
    """The same where the output projection, of which the bias is left, belongs to the attention."""

    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        self.out_lin = attention.out_lin

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        return self.out_lin(super().forward(hidden_states)[0]), None


class NoHeadsAlbert(NoHeads):
    """The same where residual and layer norm belong to the attention too."""

    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        self.dense = attention.dense
        self.output_dropout = attention.output_dropout
        self.LayerNorm = attention.LayerNorm

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        output = self.output_dropout(self.dense(super().forward(hidden_states)[0]))
        return self.LayerNorm(hidden_states + output), None


@dataclass(frozen=True)
class Anatomy:
    """Where a family keeps what is pruned.

    `layer` is the pattern of a layer's name in the model; the next seven are names in the layer: the module
    that computes attention, its matrices, and the feed-forward matrices. `head_count` is that module's
    attribute, `ffn_width` the stock configuration's. `no_heads` stands for the module without heads.
    """

    layer: str = r"\w+\.encoder\.layer\.\d+"
    attention: str = "attention.self"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    ffn_in: str = "intermediate.dense"
    ffn_out: str = "output.dense"
    head_count: str = "num_attention_heads"
    ffn_width: str = "intermediate_size"
    no_heads: type[NoHeads] = NoHeads

    @property
    def inputs(self) -> tuple[str, str, str]:
        """The matrices whose rows are the heads'; the columns of `output` are theirs, too."""
        return self.query, self.key, self.value

    def layers(self, model: nn.Module) -> dict[str, Any]:
        """The encoder's layers by their names in `model`; one that is run several times is listed once."""
        return {name: part for name, part in model.named_modules() if re.fullmatch(self.layer, name)}

    def shape(self, layer: Any) -> tuple[int, int]:
        """(heads, feed-forward width) of one layer."""
        heads = getattr(layer.get_submodule(self.attention), self.head_count)
        return heads, layer.get_submodule(self.ffn_in).out_features


BERT = Anatomy()
DISTILBERT = Anatomy(
    layer=r"\w+\.transformer\.layer\.\d+",
    attention="attention",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    output="attention.out_lin",
    ffn_in="ffn.lin1",
    ffn_out="ffn.lin2",
    head_count="n_heads",
    ffn_width="hidden_dim",
    no_heads=NoHeadsDistilBert,
)
ALBERT = Anatomy(
    layer=r"\w+\.encoder\.albert_layer_groups\.\d+\.albert_layers\.\d+",
    attention="attention",
    query="attention.query",
    key="attention.key",
    value="attention.value",
    output="attention.dense",
    ffn_in="ffn",
    ffn_out="ffn_output",
    no_heads=NoHeadsAlbert,
)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer that may have no inputs or no outputs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        return nn.Linear(in_features, out_features)


def shape_layer(layer: Any, anatomy: Anatomy, heads: int, width: int) -> None:
    """Replace an encoder layer's matrices by fresh ones for `heads` heads and `width` neurons."""
    attention = layer.get_submodule(anatomy.attention)
    hidden = layer.get_submodule(anatomy.output).out_features
    inner = heads * attention.attention_head_size
    if heads:
        for name in anatomy.inputs:
            layer.set_submodule(name, linear(hidden, inner))
    else:
        attention = anatomy.no_heads(attention)
        layer.set_submodule(anatomy.attention, attention)
    setattr(attention, anatomy.head_count, heads)
    layer.set_submodule(anatomy.output, linear(inner, hidden))
    layer.set_submodule(anatomy.ffn_in, linear(hidden, width))
    layer.set_submodule(anatomy.ffn_out, linear(width, hidden))


class Pruned:
    """Mixed into a stock classifier: the layers get the shapes that the configuration lists.

    Its `layer_heads` and `layer_ffn_widths` have one number for each layer that has weights of its own.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        anatomy = PRUNED[config.model_type].anatomy
        layers = anatomy.layers(self).values()  # type: ignore[arg-type]
        for layer, heads, width in zip(layers, config.layer_heads, config.layer_ffn_widths, strict=True):
            shape_layer(layer, anatomy, heads, width)


class PrunedBertConfig(BertConfig):
    model_type = "bench-pruned-bert"


class PrunedBertForSequenceClassification(Pruned, BertForSequenceClassification):
    config_class = PrunedBertConfig


class PrunedRobertaConfig(RobertaConfig):
    model_type = "bench-pruned-roberta"


class PrunedRobertaForSequenceClassification(Pruned, RobertaForSequenceClassification):
    config_class = PrunedRobertaConfig


class PrunedXLMRobertaConfig(XLMRobertaConfig):
    model_type = "bench-pruned-xlm-roberta"


class PrunedXLMRobertaForSequenceClassification(Pruned, XLMRobertaForSequenceClassification):
    config_class = PrunedXLMRobertaConfig


class PrunedElectraConfig(ElectraConfig):
    model_type = "bench-pruned-electra"


class PrunedElectraForSequenceClassification(Pruned, ElectraForSequenceClassification):
    config_class = PrunedElectraConfig


class PrunedDistilBertConfig(DistilBertConfig):
    model_type = "bench-pruned-distilbert"


class PrunedDistilBertForSequenceClassification(Pruned, DistilBertForSequenceClassification):
    config_class = PrunedDistilBertConfig


class PrunedAlbertConfig(AlbertConfig):
    model_type = "bench-pruned-albert"


class PrunedAlbertForSequenceClassification(Pruned, AlbertForSequenceClassification):
    config_class = PrunedAlbertConfig


@dataclass(frozen=True)
class Family:
    """A family that can be pruned: where its parts are, and the classes that hold what is left of it."""

    anatomy: Anatomy
    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]


PRUNABLE: dict[str, Family] = {
    "bert": Family(BERT, PrunedBertConfig, PrunedBertForSequenceClassification),
    "roberta": Family(BERT, PrunedRobertaConfig, PrunedRobertaForSequenceClassification),
    "xlm-roberta": Family(BERT, PrunedXLMRobertaConfig, PrunedXLMRobertaForSequenceClassification),
    "electra": Family(BERT, PrunedElectraConfig, PrunedElectraForSequenceClassification),
    "distilbert": Family(DISTILBERT, PrunedDistilBertConfig, PrunedDistilBertForSequenceClassification),
    "albert": Family(ALBERT, PrunedAlbertConfig, PrunedAlbertForSequenceClassification),
}
PRUNED: dict[str, Family] = {family.config_class.model_type: family for family in PRUNABLE.values()}

for family in PRUNED.values():
    AutoConfig.register(family.config_class.model_type, family.config_class, exist_ok=True)
    AutoModelForSequenceClassification.register(family.config_class, family.model_class, exist_ok=True)
