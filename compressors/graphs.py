"""CUDA graphs: a batch's kernels launched as one, which helps where launching takes longer than computing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Graphs(Compressor):
    """Captured once a shape and replayed.

    Batches are padded to a multiple of `multiple` tokens; the graphs of the last `shapes` shapes are kept.
    """

    name: ClassVar[str] = "graphs"
    phase: ClassVar[Phase] = Phase.RUNTIME
    summary: ClassVar[str] = "run as CUDA graphs, one for each shape of a batch"
    trains: ClassVar[bool] = False

    multiple: int = 8
    shapes: int = 128

    def validate(self, device: str) -> None:
        for name in ("multiple", "shapes"):
            if getattr(self, name) < 1:
                raise InputError(f"graphs: {name}={getattr(self, name)} is not 1 or more")

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        refuse_without_cuda(context.device)
        return model

    def runtime(self, model: PreTrainedModel, folder: Path, device: str) -> PreTrainedModel:
        from compressors.engines import Captured

        refuse_without_cuda(device)
        return Captured(model, self.multiple, self.shapes)


def refuse_without_cuda(device: str) -> None:
    """Raise `Refusal` on any other device."""
    if device != "cuda":
        raise Refusal(f"graphs needs a CUDA device, and this is {device}")
