"""A tiny real classifier on disk, as an artifact and as a subject of the meters."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from bench.meters import energy
from bench.meters.subject import Subject, load_subject
from bench.nouns.run import DENSE
from bench.nouns.task import Example
from bench.scratch import train_tokenizer
from compressors import artifact
from compressors.variant import parse_variant
from tests.bench.meters.clockwork import Polled, SleepersClock

LABELS = ("money", "sport", "travel")
HIDDEN, LAYERS, HEADS, FFN = 32, 2, 2, 64
WORDS = ["bank", "goal", "train", "team", "price", "hotel", "new", "the", "today", "city"]
ROWS = tuple(
    Example(" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 3 + i % 6)), i % 3) for i in range(50)
)

Open = Callable[[str], Subject]


def save_tiny(folder: Path, labels: tuple[str, ...] = LABELS, seed: int = 0, variant: str = DENSE) -> Path:
    """An artifact of a BERT with fresh weights, hidden 32, 2 layers, said to be `variant`."""
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = train_tokenizer(ROWS, 32)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FFN,
        max_position_embeddings=64,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    artifact.save(BertForSequenceClassification(config), tokenizer, parse_variant(variant), folder)
    return folder


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on only where somebody sleeps, so that nothing beside the test is in its times."""
    clock = SleepersClock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)
    monkeypatch.setattr(energy, "Poll", partial(Polled, clock))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact's folder; only to be read."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "artifact")


@pytest.fixture
def subject(tiny: Path) -> Open:
    """Opens the tiny artifact under a name."""

    def open_subject(name: str) -> Subject:
        return load_subject(name, tiny, ROWS, 32, "cpu")

    return open_subject


@pytest.fixture(scope="session")
def sorting(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The tiny model as a variant that sorts its rows."""
    folder = save_tiny(tmp_path_factory.mktemp("sorted") / "artifact", variant="sorted")
    return load_subject("sorted", folder, ROWS, 32, "cpu")
