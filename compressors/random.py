"""Random pruning: the baseline that any score has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from compressors.contract import Context
from compressors.structured import StructuredPruning

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class RandomPruning(StructuredPruning):
    """Structured pruning by scores drawn once from the run's seed, one for each head and each neuron.

    Were they drawn for each block, every head's mean would be near the middle, and either hardly any or
    nearly all heads would leave.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random pruning, a baseline: heads and neurons leave by the seed alone"

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        import torch

        model = super().prepare(model, context)
        generator = torch.Generator().manual_seed(context.seed)
        for layer in self._layers:
            layer.score_units(
                heads=torch.rand(layer.heads, generator=generator),
                neurons=torch.rand(len(layer.neurons.scores), generator=generator),
            )
        return model
