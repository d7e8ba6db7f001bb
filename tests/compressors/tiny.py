"""Tiny real transformers and a toy task that they learn in seconds."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    MobileBertConfig,
    MobileBertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForSequenceClassification,
    SqueezeBertConfig,
    SqueezeBertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from bench.nouns.task import Example
from bench.scratch import train_tokenizer
from compressors.contract import Context, NameClasses

LABELS = ("red", "green", "blue")
TELLING = {
    "red": ["rose", "blood", "fire"],
    "green": ["leaf", "grass", "frog"],
    "blue": ["sea", "sky", "ice"],
}
FILLER = ["the", "a", "old", "new", "near", "under", "seen"]
NORM_WEIGHT = re.compile(r"(LayerNorm|layer_norm)\.weight$")
HIDDEN, HEADS, FFN, VOCABULARY, POSITIONS = 32, 4, 64, 96, 40

FAMILIES: dict[str, tuple[Any, Any]] = {
    "bert": (BertConfig, BertForSequenceClassification),
    "roberta": (RobertaConfig, RobertaForSequenceClassification),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForSequenceClassification),
    "electra": (ElectraConfig, ElectraForSequenceClassification),
    "distilbert": (DistilBertConfig, DistilBertForSequenceClassification),
    "albert": (AlbertConfig, AlbertForSequenceClassification),
}
UNPRUNABLE: dict[str, tuple[Any, Any]] = {
    "mobilebert": (MobileBertConfig, MobileBertForSequenceClassification),
    "squeezebert": (SqueezeBertConfig, SqueezeBertForSequenceClassification),
}
EVERY_FAMILY = sorted(FAMILIES | UNPRUNABLE)
OWN_SETTINGS: dict[str, dict[str, int]] = {
    "electra": {"embedding_size": HIDDEN // 2},
    "albert": {"embedding_size": HIDDEN // 2},
    "distilbert": {"hidden_dim": FFN},
    "squeezebert": {"embedding_size": HIDDEN},
    "mobilebert": {"embedding_size": HIDDEN // 2, "intra_bottleneck_size": HIDDEN // 2},
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
    config_class, model_class = (FAMILIES | UNPRUNABLE)[family]
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
    return randomised(model_class(config_class(**(shape | OWN_SETTINGS.get(family, {}) | settings))))


def randomised(model: PreTrainedModel) -> PreTrainedModel:
    """Weights far from a fresh model's, so that nothing cancels: no bias is 0, no layer norm is neutral."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if NORM_WEIGHT.search(name) else 0.0
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


def same_names(path_or_id: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Accepts a checkpoint whose classes are called as the toy task's, without looking at rows."""
    names = set(model.config.id2label.values())
    return None if set(LABELS) <= names else f"{path_or_id}: its classes are {sorted(names)}"


def toy_batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int | None = None
) -> Iterator[dict[str, torch.Tensor]]:
    """The toy task's rows, 16 at a time, as `Context.batches` gives them."""
    rows = TOY_ROWS[:count]
    for start in range(0, len(rows), 16):
        texts, labels = zip(*rows[start : start + 16], strict=True)
        batch = dict(tokenizer(list(texts), padding=True, return_tensors="pt"))
        yield {**batch, "labels": torch.tensor([model.config.label2id[label] for label in labels])}


def context_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    removed_share: float = 0.0,
    total_steps: int = 0,
    dense_logits: Callable[[], torch.Tensor] | None = None,
    name_classes: NameClasses = same_names,
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
        name_classes=name_classes,
        examples=[Example(text, LABELS.index(label)) for text, label in TOY_ROWS],
        batches=toy_batches,
        max_length=POSITIONS,
        batch_size=16,
        removed_share=removed_share,
        total_steps=total_steps,
    )
