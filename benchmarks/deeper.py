"""Models that differ by known work: more or fewer encoder layers, so that a slow-down can be looked for."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from bench.nouns.task import Example
from bench.scratch import train_tokenizer
from compressors import Compressor, Phase, artifact
from compressors.contract import Context
from compressors.variant import Variant
from tests.compressors.tiny import context_of

LAYERS, HIDDEN, FFN, MAX_LENGTH = 20, 128, 256, 32
WORDS = [
    f"{start}{end}" for start in ("ba", "de", "mi", "to", "su", "ka") for end in ("lo", "ne", "ri", "pa")
]


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


def short_rows(count: int) -> list[Example]:
    """Rows of 4 to 23 words, of two classes."""
    rng = random.Random(0)
    return [Example(" ".join(rng.choices(WORDS, k=rng.randrange(4, 24))), i % 2) for i in range(count)]


def deep_artifacts(
    root: Path, rows: Sequence[Example], layers: Mapping[str, int], depth: int = LAYERS
) -> dict[str, Path]:
    """By name, artifacts of a BERT with so many layers more than `depth`, or fewer; the same weights else."""
    tokenizer, made = train_tokenizer(rows, MAX_LENGTH), {}
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_attention_heads=4,
        intermediate_size=FFN,
        max_position_embeddings=64,
    )
    for name, more in layers.items():
        torch.manual_seed(0)
        config.num_hidden_layers = depth + min(more, 0)
        model = BertForSequenceClassification(config).eval()
        if more > 0:
            model = Deeper(layers=more).finish(model, context_of(model, tokenizer))
        made[name] = root / name
        artifact.save(model, tokenizer, Variant(), made[name])
    return made
