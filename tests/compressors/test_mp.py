"""Mixed precision: half-precision weights that stay so on disk and after reloading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

import compressors
from bench.errors import InputError
from compressors import artifact
from compressors.variant import Variant, check, parse_variant
from tests.compressors.tiny import EVERY_FAMILY, context_of, logits, tiny


@pytest.mark.parametrize(
    ("family", "spec", "dtype"),
    [
        ("bert", "mp:dtype=float16", torch.float16),
        *((family, "mp", torch.bfloat16) for family in EVERY_FAMILY),
    ],
)
def test_weights_are_cast_saved_and_reloaded_as_they_are(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str, spec: str, dtype: torch.dtype
) -> None:
    variant = parse_variant(spec)
    model = variant.parts[0].finish(tiny(family), context_of(tiny(family), tokenizer))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    artifact.save(model, tokenizer, variant, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    loaded = compressors.load(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert torch.equal(logits(loaded), logits(model))


def test_half_precision_halves_the_weights_file(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    for name, model in (("whole", tiny()), ("half", tiny().to(torch.bfloat16))):
        artifact.save(model, tokenizer, Variant(), tmp_path / name)
    whole, half = (
        sum(tensor.nbytes for tensor in load_file(tmp_path / name / "model.safetensors").values())
        for name in ("whole", "half")
    )
    assert half * 2 == whole


def test_logits_stay_close_to_those_of_dense(tokenizer: PreTrainedTokenizerBase) -> None:
    before = logits(tiny())
    after = logits(parse_variant("mp").parts[0].finish(tiny(), context_of(tiny(), tokenizer)))
    assert after.dtype == torch.bfloat16
    torch.testing.assert_close(after.float(), before, atol=0.2, rtol=0.1)
    assert not torch.equal(after.float(), before)


def test_it_trains_under_autocast_where_the_variant_trains() -> None:
    assert not parse_variant("mp").trains
    assert parse_variant("bmp25+mp").trains
    assert parse_variant("bmp25+mp").autocast == "bfloat16"
    assert parse_variant("kd+mp:dtype=float16").autocast == "float16"


def test_float16_on_cpu_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match="needs a CUDA device; use bfloat16 on cpu"):
        check(parse_variant("kd+mp:dtype=float16"), "cpu")
