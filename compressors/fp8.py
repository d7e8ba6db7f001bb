"""fp8 through torchao: weights and inputs of linear layers in float8 (e4m3), the rest in bfloat16.

Source: Micikevicius et al., "FP8 Formats for Deep Learning", 2022; here one scale for each output of a
weight, and for each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.errors import Refusal
from compressors.contract import Compressor, Context, Phase
from compressors.quantised import quantise, why_not_faster

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEAST_CAPABILITY = (8, 9)
# torch._scaled_mm takes no other sides.
MULTIPLE = 16


@dataclass
class Fp8(Compressor):
    """float8 weights in the encoder's linear layers, their inputs quantised as they come; else bfloat16."""

    name: ClassVar[str] = "fp8"
    phase: ClassVar[Phase] = Phase.PRECISION
    summary: ClassVar[str] = "float8 linear layers in the encoder, on GPUs that compute in it"
    trains: ClassVar[bool] = False
    extra: ClassVar[str | None] = "torchao"
    packages: ClassVar[tuple[str, ...]] = ("torchao",)
    quantises: ClassVar[bool] = True

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        refuse_device(context.device)
        return model

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        import torch
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow

        # torch._scaled_mm gives bfloat16 where each row has a scale. As for set_inductor_config, see int8.
        config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
        return quantise(model.to(torch.bfloat16), config, MULTIPLE, context, self.name)

    def runtime(self, model: PreTrainedModel, folder: Path, device: str) -> PreTrainedModel:
        refuse_device(device)
        return model

    def why_not_faster(
        self, parts: Sequence[Compressor], device: str, cpu_features: Sequence[str]
    ) -> str | None:
        return why_not_faster(self.name, parts)


def refuse_device(device: str) -> None:
    """Raise `Refusal` where `device` has no float8 products."""
    import torch

    here = device
    if device == "cuda":
        capability = torch.cuda.get_device_capability()
        if capability >= LEAST_CAPABILITY:
            return
        here = f"{torch.cuda.get_device_name()} of {'.'.join(map(str, capability))}"
    needed = ".".join(map(str, LEAST_CAPABILITY))
    raise Refusal(f"fp8 needs a GPU of compute capability {needed} or more (Ada, Hopper); this is {here}")
