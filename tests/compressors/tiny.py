"""Tiny real transformers and a toy task that they learn in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from bench.nouns.task import Example
from bench.scratch import train_tokenizer
from compressors.contract import Context

LABELS = ("red", "green", "blue")
TELLING = {
    "red": ["rose", "blood", "fire"],
    "green": ["leaf", "grass", "frog"],
    "blue": ["sea", "sky", "ice"],
}
FILLER = ["the", "a", "old", "new", "near", "under", "seen"]
HIDDEN, HEADS, FFN, VOCABULARY, POSITIONS = 32, 4, 64, 96, 40

FAMILIES: dict[str, tuple[Any, Any]] = {
    "bert": (BertConfig, BertForSequenceClassification),
    "roberta": (RobertaConfig, RobertaForSequenceClassification),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForSequenceClassification),
}


def toy_rows(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) rows whose label one word of the text gives away."""
    rng = random.Random(seed)
    rows = []
    for _ in range(number):
        label = rng.choice(LABELS)
        words = [rng.choice(TELLING[label]), *rng.choices(FILLER, k=rng.randrange(1, 6))]
        rng.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


TOY_ROWS = toy_rows(96)


def toy_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer trained on `texts`."""
    return train_tokenizer([Example(text, 0) for text in texts], POSITIONS)


def tiny(
    family: str = "bert", layers: int = 2, labels: Sequence[str] = LABELS, seed: int = 0, **settings: Any
) -> PreTrainedModel:
    """A classifier in eval mode, every bias and layer norm made to matter."""
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    return randomised(model_class(config_class(**{**shape, **settings})))


def tiny_distilbert(labels: Sequence[str] = LABELS) -> PreTrainedModel:
    """A family that no technique here can change."""
    config = DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=HIDDEN,
        n_layers=2,
        n_heads=HEADS,
        hidden_dim=FFN,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    return DistilBertForSequenceClassification(config).eval()


def randomised(model: PreTrainedModel) -> PreTrainedModel:
    """Weights far from a fresh model's, so that nothing cancels: no bias is 0, no layer norm is neutral."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "LayerNorm.weight" in name else 0.0
            parameter.copy_(centre + 0.3 * torch.randn(parameter.shape))
    return model.eval()


def padded_batch(rows: int = 5, longest: int = 12, seed: int = 1) -> dict[str, torch.Tensor]:
    """Token numbers of rows of different lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, VOCABULARY, (rows, longest), generator=generator)
    lengths = torch.linspace(3, longest, rows).long()
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    return {"input_ids": tokens * mask, "attention_mask": mask}


def logits(model: PreTrainedModel, batch: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """What the model answers in eval mode."""
    with torch.no_grad():
        answer: torch.Tensor = model.eval()(**(batch or padded_batch())).logits
    return answer


def context_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    removed_share: float = 0.0,
    total_steps: int = 0,
    dense_logits: Callable[[], torch.Tensor] | None = None,
) -> Context:
    """What a compressor is told, with `model` as dense."""

    def no_logits() -> torch.Tensor:
        raise AssertionError("this variant has no teacher")

    return Context(
        device="cpu",
        seed=0,
        labels=LABELS,
        tokenizer=tokenizer,
        load_dense=lambda: model,
        dense_logits=dense_logits or no_logits,
        removed_share=removed_share,
        total_steps=total_steps,
    )
