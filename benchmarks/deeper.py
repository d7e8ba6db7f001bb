"""A plugin that adds work: more encoder layers, so that a known slow-down can be looked for."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from transformers import PreTrainedModel

from compressors import Compressor, Phase
from compressors.contract import Context


@dataclass
class Deeper(Compressor):
    """Repeats the encoder's last layer: of 20 layers, one more is 5 % more work."""

    name = "deeper"
    phase = Phase.ARCHITECTURE
    summary = "adds layers"
    trains = False

    layers: int = 1

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        """The model with `layers` more."""
        stack = model.bert.encoder.layer
        for _ in range(self.layers):
            stack.append(copy.deepcopy(stack[-1]))
        model.config.num_hidden_layers = len(stack)
        return model
