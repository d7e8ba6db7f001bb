"""The encoder on real tokens only: the same answers, fewer tokens, and no other model affected."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors
from bench.errors import Refusal
from compressors import artifact
from compressors.pruned import PRUNABLE
from compressors.shapes import anatomy_of, layer_shapes
from compressors.variant import parse_variant
from tests.compressors.tiny import (
    FAMILIES,
    UNPRUNABLE,
    VOCABULARY,
    context_of,
    logits,
    padded_batch,
    randomised,
    tiny,
)

Batch = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def pair() -> tuple[PreTrainedModel, PreTrainedModel]:
    """The same model with padding and without."""
    return tiny(), unpadded(tiny())


def unpadded(model: PreTrainedModel) -> PreTrainedModel:
    """`model` itself, run on real tokens from now on."""
    return parse_variant("unpadded").parts[0].runtime(model, Path(), "cpu")


def saved(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    artifact.save(model, tokenizer, parse_variant("unpadded"), folder)
    return folder


def pruned(family: str, heads: Sequence[int], ffn_widths: Sequence[int]) -> PreTrainedModel:
    """A tiny model whose layers differ as pruning leaves them."""
    settings = tiny(family, layers=len(heads)).config.to_dict()
    del settings["model_type"]
    kinds = PRUNABLE[family]
    shapes = {"layer_heads": list(heads), "layer_ffn_widths": list(ffn_widths)}
    return randomised(kinds.model_class(kinds.config_class(**settings, **shapes)))


def tokens_seen(model: PreTrainedModel, batch: Batch) -> list[int]:
    """How many tokens each layer's first feed-forward matrix is given."""
    anatomy = anatomy_of(model)
    assert anatomy is not None
    seen: list[int] = []

    def count(matrix: torch.nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0].shape[:-1].numel())

    matrices = [layer.get_submodule(anatomy.ffn_in) for layer in anatomy.layers(model).values()]
    handles = [matrix.register_forward_pre_hook(count) for matrix in matrices]
    logits(model, batch)
    for handle in handles:
        handle.remove()
    return seen


def test_it_is_a_runtime_that_trains_nothing() -> None:
    variant = parse_variant("sorted+unpadded+mp")
    assert variant.name == "mp+unpadded+sorted"
    assert variant.setting.name == "mp+unpadded"
    assert not variant.trains


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_with_padding(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str
) -> None:
    padded = tiny(family, layers=3)
    packed = compressors.load(saved(padded, tokenizer, tmp_path))
    batch = padded_batch(rows=9, longest=20)
    torch.testing.assert_close(logits(packed, batch), logits(padded, batch), atol=1e-5, rtol=0)
    assert layer_shapes(packed) == layer_shapes(padded)


@pytest.mark.parametrize("family", FAMILIES)
def test_real_tokens_alone_reach_the_layers(family: str) -> None:
    batch = padded_batch(rows=9, longest=20)
    model = tiny(family)
    assert tokens_seen(model, batch) == [9 * 20] * 2
    assert tokens_seen(unpadded(model), batch) == [int(batch["attention_mask"].sum())] * 2


@pytest.mark.parametrize(
    ("family", "heads", "ffn_widths"),
    [
        *((family, (0, 3, 4), (64, 0, 8)) for family in FAMILIES if family != "albert"),
        ("bert", (0, 0), (0, 0)),
        ("albert", (0,), (8,)),
        ("albert", (3,), (0,)),
    ],
)
def test_layers_that_lost_heads_or_neurons_run(
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    family: str,
    heads: tuple[int, ...],
    ffn_widths: tuple[int, ...],
) -> None:
    padded = pruned(family, heads, ffn_widths)
    packed = compressors.load(saved(padded, tokenizer, tmp_path))
    batch = padded_batch(rows=7)
    torch.testing.assert_close(logits(packed, batch), logits(padded, batch), atol=1e-5, rtol=0)


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=9),
    st.sampled_from(["right", "left", "none"]),
    st.integers(0, 2**16),
)
def test_any_lengths_give_each_row_its_own_answer(
    pair: tuple[PreTrainedModel, PreTrainedModel], lengths: list[int], side: str, seed: int
) -> None:
    width = max(lengths)
    tokens = torch.randint(
        5, VOCABULARY, (len(lengths), width), generator=torch.Generator().manual_seed(seed)
    )
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    mask = {"right": mask, "left": mask.flip(1), "none": torch.ones_like(mask)}[side]
    if side == "left":
        mask[:, 0] = 1  # the heads read the first token, so that one is real
    batch = {"input_ids": tokens * mask, "attention_mask": mask}
    padded, packed = pair
    torch.testing.assert_close(logits(packed, batch), logits(padded, batch), atol=1e-5, rtol=0)


def test_a_batch_without_a_mask_is_taken_whole(pair: tuple[PreTrainedModel, PreTrainedModel]) -> None:
    padded, packed = pair
    batch = {"input_ids": padded_batch()["input_ids"].clamp(min=5)}
    torch.testing.assert_close(logits(packed, batch), logits(padded, batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_stays_so(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str) -> None:
    padded = tiny(family).to(torch.bfloat16)
    artifact.save(padded, tokenizer, parse_variant("mp+unpadded"), tmp_path)
    packed = compressors.load(tmp_path)
    answer = logits(packed)
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer, logits(padded), atol=0.1, rtol=0.05)


def test_other_models_of_the_process_run_as_before(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    dense, batch = tiny(), padded_batch()
    before, implementation = logits(dense, batch), dense.config._attn_implementation
    packed = compressors.load(saved(dense, tokenizer, tmp_path))
    assert packed.config._attn_implementation != implementation
    assert tokens_seen(packed, batch) != tokens_seen(dense, batch) == [5 * 12] * 2
    assert torch.equal(logits(dense, batch), before)
    assert dense.config._attn_implementation == implementation
    assert artifact.load_model(str(tmp_path)).config._attn_implementation == implementation


def test_a_fresh_process_gives_the_same_answers(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    folder = saved(tiny(), tokenizer, tmp_path / "artifact")
    code = (
        "import sys, torch, compressors; from safetensors.torch import load_file, save_file\n"
        "with torch.no_grad():\n"
        "    answer = compressors.load(sys.argv[1])(**load_file(sys.argv[2])).logits\n"
        "save_file({'logits': answer}, sys.argv[3])\n"
    )
    save_file(padded_batch(), tmp_path / "batch")
    files = [str(tmp_path / name) for name in ("artifact", "batch", "answer")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, capture_output=True)
    there = load_file(tmp_path / "answer")["logits"]
    torch.testing.assert_close(there, logits(compressors.load(folder)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", UNPRUNABLE)
def test_another_family_is_refused_by_name(tokenizer: PreTrainedTokenizerBase, family: str) -> None:
    model = tiny(family)
    with pytest.raises(Refusal, match=f"a {family} model without padding; it can those of bert, roberta"):
        parse_variant("unpadded").parts[0].prepare(model, context_of(model, tokenizer))


def test_attention_without_a_kernel_for_any_length_is_said(tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny("bert")
    context = context_of(model, tokenizer)
    assert parse_variant("unpadded").parts[0].finish(model, context) is model
    assert "it goes through the rows of one length after the other" in context.notes[0]
    context.device, context.notes[:] = "cuda", []
    parse_variant("unpadded").parts[0].finish(model.half(), context)
    assert context.notes == []
