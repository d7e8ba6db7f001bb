"""Techniques together: each acts in its phase, and each counts what it was given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import compressors
from bench.steps.compress import prepare
from compressors import artifact
from compressors.shapes import encoder_weights
from compressors.variant import parse_variant
from tests.compressors.tiny import FAMILIES, context_of, logits, tiny


@pytest.mark.parametrize(
    ("family", "spec"),
    [
        *((family, "bmp50+kd+mp") for family in FAMILIES),
        ("bert", "mp+kd+bmp50"),
        ("bert", "kd+mp+bmp50"),
    ],
)
def test_depth_is_halved_then_pruned_then_cast(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str, spec: str
) -> None:
    dense = tiny(family, layers=4)
    whole = encoder_weights(dense)
    variant = parse_variant(spec)
    context = context_of(
        dense, tokenizer, variant.removed_share, total_steps=10, dense_logits=lambda: torch.zeros(5, 3)
    )
    model, before = prepare(variant, dense, context)
    assert whole is not None
    assert before == (whole if family == "albert" else whole // 2), "ALBERT's one layer is run half as often"
    for part in variant.parts:
        part.on_step(9, context)
    for part in variant.parts:
        model = part.finish(model, context)
    after = encoder_weights(model)
    assert after is not None
    assert 1 - after / before == pytest.approx(0.5, abs=0.05)
    artifact.save(model, tokenizer, variant, tmp_path)
    loaded = compressors.load(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.num_hidden_layers == 2
    assert torch.equal(logits(loaded), logits(model))


def test_listing_and_parsing_import_no_torch() -> None:
    code = (
        "import sys, compressors.artifact, compressors.presets as p, compressors.variant as v; "
        "p.expand('all,study,ft', 'cpu'); v.parse_variant('load:x'); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("spec", "trained"),
    [
        ("bmp50+onnx:int8", "bmp50"),
        ("bmp50+kd+int8+compile+sorted", "bmp50+kd"),
        ("bmp50+mp+unpadded", "bmp50+mp"),
        ("bmp50+kd", "bmp50+kd"),
        ("vocab+layers+sorted", "vocab+layers"),
        ("fisher50+onnx", "dense"),
        ("mp+sorted", "dense"),
    ],
)
def test_variants_share_the_training_of_all_that_takes_part_in_it(spec: str, trained: str) -> None:
    variant = parse_variant(spec)
    assert variant.trained.name == trained
    rest = variant.without(variant.trained)
    assert {*rest.spelled_parts, *variant.trained.spelled_parts} == set(variant.spelled_parts)
    assert not rest.trains or not variant.trained.parts
