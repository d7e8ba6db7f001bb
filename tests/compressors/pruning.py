"""One pruning of one tiny model, moment by moment, for the tests of what prunes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compressors.bmp import BlockMovementPruning
from compressors.contract import Context
from compressors.shapes import encoder_weights
from compressors.structured import StructuredPruning
from tests.compressors.tiny import HEADS, HIDDEN, context_of, tiny

AMOUNTS = [0.1, 0.25, 0.5, 0.75, 0.9]
HEAD_SIZE = HIDDEN // HEADS
NEURON_COST = 2 * HIDDEN


class Pruning:
    """A model made ready by `part`, and its encoder's weights before."""

    def __init__(self, part: StructuredPruning, model: PreTrainedModel, context: Context) -> None:
        self.part, self.context = part, context
        self.weights = encoder_weights(model) or 0
        self.model = part.prepare(model, context)
        self.layers = part._layers

    def draw_scores(self, seed: int) -> None:
        """Give every block and neuron a score of its own."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in self.layers:
                for scores in layer.scores():
                    scores.copy_(torch.randn(scores.shape, generator=generator))

    def freeze(self) -> PreTrainedModel:
        """The model in eval mode with what stays decided, the rest masked."""
        self.part.on_step(99, self.context)
        return self.model.eval()

    def finish(self) -> PreTrainedModel:
        """The model without what was masked."""
        return self.part.finish(self.model, self.context)


def pruning(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    kind: type[StructuredPruning] = BlockMovementPruning,
    seed: int = 0,
    **fields: Any,
) -> Pruning:
    """`model` about to be pruned in 100 steps, by movement unless told."""
    context = context_of(model, tokenizer, total_steps=100)
    context.seed = seed
    return Pruning(kind(**fields), model, context)


def with_own_layers(family: str, layers: int = 2) -> PreTrainedModel:
    """A model of so many layers with weights of their own; ALBERT, which shares them, gets an inner group."""
    own: dict[str, Any] = {"inner_group_num": layers} if family == "albert" else {}
    return tiny(family, layers, **own)
