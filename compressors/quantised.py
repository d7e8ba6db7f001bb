"""Linear layers with quantised weights: made by torchao, saved and reloaded by transformers, without pickle.

Beside `config.json`'s `quantization_config`, `model.safetensors` holds the quantised values and their scales
as plain tensors, and the metadata by which `from_pretrained` puts the same layers together again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quantise(
    model: PreTrainedModel, config: Any, multiple: int, context: Context, name: str
) -> PreTrainedModel:
    """`model`, the linear layers of its encoder quantised in place as torchao's `config` says.

    Pooler and head run on one token a row and decide the class, so they stay. So do layers whose sides are no
    multiples of `multiple`, which GPUs' kernels do not take; how many goes to `context.notes`. Raises
    `Refusal` where nothing is left to quantise, or it was done before.
    """
    from torch import nn
    from torchao.quantization import quantize_
    from transformers import TorchAoConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    if is_quantised(model):
        raise Refusal(f"{name}: the model is quantised already; name the one it was made from")
    layers = [
        layer
        for part, layer in model.base_model.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight.numel() and not part.startswith("pooler")
    ]
    fitting = {layer for layer in layers if all(side % multiple == 0 for side in layer.weight.shape)}
    if not fitting:
        why = f"with sides that are multiples of {multiple}" if layers else "at all"
        raise Refusal(f"{name}: the encoder of this {model.config.model_type} has no linear layers {why}")
    if left := len(layers) - len(fitting):
        context.notes.append(
            f"{name}: {left} of the encoder's {len(layers)} linear layers stay in floating point: "
            f"their sides are no multiples of {multiple}"
        )
    quantize_(model.base_model, config, lambda layer, _: layer in fitting)
    model.config.quantization_config = TorchAoConfig(config)
    model.hf_quantizer = AutoHfQuantizer.from_config(model.config.quantization_config)
    return model


def is_quantised(model: PreTrainedModel) -> bool:
    """Whether the model holds quantised weights, as `quantise` or `from_pretrained` leaves it."""
    return getattr(model, "hf_quantizer", None) is not None


def why_not_faster(name: str, parts: Sequence[Compressor]) -> str:
    """Why quantised layers that compute in fewer bits can fail to be faster, in a variant of `parts`."""
    if any(part.phase == Phase.RUNTIME for part in parts):
        return (
            f"{name} makes the linear layers' products faster and nothing else; attention, normalisation and "
            "the quantising of each layer's input can outweigh that"
        )
    return (
        f"{name} runs eagerly here: each layer quantises its input and rescales its output in passes of "
        f"their own, which can take what the faster product saves; add compile ({name}+compile)"
    )
