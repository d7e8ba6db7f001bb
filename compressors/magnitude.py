"""Magnitude pruning: the baseline that keeps what is large.

Sources: Han, Pool, Tran and Dally, "Learning both Weights and Connections for Efficient Neural Networks",
NeurIPS 2015, for the magnitude as score; Li, Kadav, Durdanovic, Samet and Graf, "Pruning Filters for
Efficient ConvNets", ICLR 2017, for the sum of magnitudes of what leaves as a whole. Here it is taken per
weight, so that heads and neurons compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compressors.structured import StructuredPruning


@dataclass
class MagnitudePruning(StructuredPruning):
    """Structured pruning by the mean magnitude of the weights as they are at that step."""

    name: ClassVar[str] = "magnitude"
    summary: ClassVar[str] = "magnitude pruning, a baseline: heads and neurons of small weights leave"

    def score(self) -> None:
        for layer in self._layers:
            *attention, ffn_in, ffn_out = [weight.abs() for weight in layer.weights()]
            for mask, magnitudes in zip(layer.blocks, attention, strict=True):
                mask.scores.copy_(mask.means(magnitudes))
            layer.neurons.scores.copy_((ffn_in.mean(1) + ffn_out.mean(0)) / 2)
