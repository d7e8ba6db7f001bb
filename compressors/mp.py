"""Mixed precision: autocast while training, half-precision weights at inference.

Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018, for the training part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase
from compressors.quantised import is_quantised

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class MixedPrecision(Compressor):
    """Half-precision weights of `dtype`; where the variant trains at all, under autocast."""

    name: ClassVar[str] = "mp"
    phase: ClassVar[Phase] = Phase.PRECISION
    summary: ClassVar[str] = "half-precision weights; autocast where the variant trains"
    trains: ClassVar[bool] = False

    dtype: str = "bfloat16"

    def validate(self, device: str) -> None:
        if self.dtype not in ("bfloat16", "float16"):
            raise InputError(f"mp: dtype={self.dtype} is unknown; use bfloat16 or float16")
        if self.dtype == "float16" and device == "cpu":
            raise InputError("mp: dtype=float16 needs a CUDA device; use bfloat16 on cpu")

    @property
    def autocast(self) -> str | None:
        return self.dtype

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        import torch

        if is_quantised(model):
            raise Refusal("mp: the model's weights are quantised; name the one it was made from")
        return model.to(getattr(torch, self.dtype))
