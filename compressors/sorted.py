"""Rows that wait are put into batches in order of their length, so that batches hold less padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.errors import Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Sorted(Compressor):
    """Leaves the model as it is; who runs it sorts rows, and puts the answers back into their order."""

    name: ClassVar[str] = "sorted"
    phase: ClassVar[Phase] = Phase.BATCHING
    summary: ClassVar[str] = "rows that wait are batched in order of length"
    trains: ClassVar[bool] = False
    sorts_rows: ClassVar[bool] = True

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        if context.batch_size == 1:
            raise Refusal("sorted saves the padding of batches, and a batch of one row has none")
        return model
