"""An encoder that runs on real tokens only: a batch's rows are laid end to end, without their padding.

Embeddings, pooler and head see the padded batch as ever. Importing this file registers the attention with
transformers under a name of its own; only models that `run_packed` was given use it.

Source: Zhai et al., "ByteTransformer: A High-Performance Transformer Boosted for Variable-Length Inputs",
IPDPS 2023, section III-D.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from compressors.pruned import Anatomy

ATTENTION = "bench-packed"


class Packing:
    """Where a batch's real tokens stand, and where they go: rows end to end, the shortest first.

    Rows of one length thus lie side by side, so that their attention is one call. `mask` is the batch's
    attention mask, shape (rows, width), true for real tokens.
    """

    def __init__(self, mask: torch.Tensor) -> None:
        self.rows, self.width = mask.shape
        counts, order = mask.sum(-1).sort(stable=True)
        places = torch.arange(mask.numel(), device=mask.device).view_as(mask)
        self.places = places[order][mask[order]]
        self.lengths: list[int] = counts.tolist()
        self.ends = pad(counts.cumsum(0), (1, 0)).int()

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """(rows, width, …) -> (1, tokens, …)."""
        return padded.flatten(0, 1)[self.places][None]

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """(1, tokens, …) -> (rows, width, …), zeros where padding stood."""
        padded = packed.new_zeros((self.rows * self.width, *packed.shape[2:]))
        padded[self.places] = packed[0]
        return padded.unflatten(0, (self.rows, self.width))

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        """Each row's attention to itself; all of shape (tokens, heads, head size)."""
        if has_kernel(query):
            ends, longest = self.ends, self.lengths[-1]
            answer = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scale)
            assert isinstance(answer, torch.Tensor)
            return answer
        pieces, start = [], 0
        for length, same in groupby(self.lengths):
            rows = len(list(same))
            piece = slice(start, start := start + rows * length)
            q, k, v = (
                each[piece].unflatten(0, (rows, length)).transpose(1, 2) for each in (query, key, value)
            )
            attended = scaled_dot_product_attention(q, k, v, scale=scale)
            pieces.append(attended.transpose(1, 2).flatten(0, 1))
        return torch.cat(pieces)


def has_kernel(query: torch.Tensor) -> bool:
    """Whether the device has variable-length attention for this head size and precision."""
    if not query.is_cuda or query.shape[-1] % 8:
        return False
    heads = query.transpose(0, 1)[None]
    return can_use_flash_attention(SDPAParams(heads, heads, heads, None, 0.0, False, False))


def packing_of(
    batch_size: int, kv_length: int, attention_mask: torch.Tensor | None, device: torch.device, **_: Any
) -> Packing:
    """What the model's layers are given in place of a mask."""
    if attention_mask is None:
        attention_mask = torch.ones((batch_size, kv_length), dtype=torch.bool, device=device)
    return Packing(attention_mask)


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Packing,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it, from (1, heads, tokens, head size) to (1, tokens, heads, head size)."""
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    return attention_mask.attention(q, k, v, scaling)[None], None


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, packing_of)


def pack(encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Before the encoder: its hidden states without padding."""
    given = dict(zip(("hidden_states", "attention_mask"), args, strict=False)) | kwargs
    return (), given | {"hidden_states": given["attention_mask"].pack(given["hidden_states"])}


def unpack(encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """After the encoder: its hidden states as a padded batch again."""
    output.last_hidden_state = kwargs["attention_mask"].unpack(output.last_hidden_state)
    return output


def run_packed(model: PreTrainedModel, anatomy: Anatomy) -> PreTrainedModel:
    """`model` itself, its encoder run on real tokens from now on, for inference.

    Hidden states and attentions of single layers can no longer be had.
    """
    first_layer = next(iter(anatomy.layers(model)))
    base_model, encoder_name, *_ = first_layer.split(".")
    encoder = model.get_submodule(f"{base_model}.{encoder_name}")
    encoder.register_forward_pre_hook(pack, with_kwargs=True)
    encoder.register_forward_hook(unpack, with_kwargs=True)
    model.set_attn_implementation(ATTENTION)
    return model
