"""Batches without padding inside the encoder: every matrix works on real tokens only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.errors import Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Unpadded(Compressor):
    """Leaves padding out of the encoder; see `compressors.packing`."""

    name: ClassVar[str] = "unpadded"
    phase: ClassVar[Phase] = Phase.RUNTIME
    summary: ClassVar[str] = "the encoder's layers run on real tokens, without padding"
    trains: ClassVar[bool] = False

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.pruned import PRUNABLE
        from compressors.shapes import anatomy_of

        if anatomy_of(model) is None:
            raise Refusal(
                f"unpadded cannot lay out the rows of a {model.config.model_type} model without padding; "
                f"it can those of {', '.join(PRUNABLE)}"
            )
        return model

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        import torch

        if context.device != "cuda" or model.dtype == torch.float32:
            context.notes.append(
                "unpadded: attention over rows of different length at once takes CUDA and half precision; "
                "here it goes through the rows of one length after the other"
            )
        return model

    def runtime(self, model: PreTrainedModel, folder: Path, device: str) -> PreTrainedModel:
        from compressors.packing import run_packed
        from compressors.shapes import anatomy_of

        anatomy = anatomy_of(model)
        assert anatomy is not None, "refused before it was made"
        return run_packed(model, anatomy)
