"""int8 through torchao: dynamic, where layers compute in int8, and weight-only, where they store it.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 2.1; symmetric here, one scale for each output of a weight and for each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError
from compressors.contract import Compressor, Context, Phase
from compressors.quantised import quantise, why_not_faster

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODES = ("dynamic", "weight-only")
# torch._int_mm on CUDA takes no other sides.
MULTIPLE = 8
INT8_INSTRUCTIONS = {"avx512_vnni", "amx_int8"}


@dataclass
class Int8(Compressor):
    """int8 weights in the encoder's linear layers; `dynamic` quantises their inputs too, as they come."""

    name: ClassVar[str] = "int8"
    phase: ClassVar[Phase] = Phase.PRECISION
    summary: ClassVar[str] = "int8 linear layers in the encoder, inputs quantised as they come"
    argument: ClassVar[str | None] = "mode"
    trains: ClassVar[bool] = False
    extra: ClassVar[str | None] = "torchao"
    packages: ClassVar[tuple[str, ...]] = ("torchao",)
    quantises: ClassVar[bool] = True

    mode: str = "dynamic"

    def validate(self, device: str) -> None:
        if self.mode not in MODES:
            raise InputError(f"int8: mode={self.mode} is unknown; use {' or '.join(MODES)}")

    def refuses(self, other: Compressor) -> str | None:
        if self.mode == "dynamic" and other.name == "graphs":
            return (
                "torchao reads each int8 product's input back to the host, which no CUDA graph can hold; "
                "take compile:reduce-overhead, whose graphs are of compiled products, or int8:weight-only"
            )
        return None

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig

        kind = Int8WeightOnlyConfig if self.mode == "weight-only" else Int8DynamicActivationInt8WeightConfig
        # Its compiler settings would hold for the whole process, and so for dense beside this model.
        return quantise(model, kind(set_inductor_config=False), MULTIPLE, context, self.name)

    def why_not_faster(
        self, parts: Sequence[Compressor], device: str, cpu_features: Sequence[str]
    ) -> str | None:
        if self.mode == "weight-only":
            return (
                "int8:weight-only stores int8 and computes in floating point, so every call converts the "
                "weights first; it saves memory, and time only where reading the weights takes most of it"
            )
        if device == "cuda" and not any(part.name == "compile" for part in parts):
            return (
                "int8 runs eagerly here: torchao reads each int8 product's input back to the host "
                "(pytorch/ao issue 4872), which waits for the GPU every time; add compile (int8+compile)"
            )
        if device == "cpu" and "avx2" in cpu_features and INT8_INSTRUCTIONS.isdisjoint(cpu_features):
            return "int8: this CPU has no instructions for int8 products (avx512_vnni or amx_int8)"
        return why_not_faster(self.name, parts)
