"""Layer dropping: which layers stay, in every family, what is saved of them, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    FlaubertConfig,
    FlaubertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import compressors
from bench.errors import InputError, Refusal
from compressors import artifact
from compressors.kd import Distillation
from compressors.layers import DROPS, LayerDropping, evenly_spaced, kept_layers, layer_count, with_layers
from compressors.shapes import layer_stack
from compressors.variant import check, parse_variant
from tests.compressors.tiny import EVERY_FAMILY, context_of, logits, padded_batch, tiny

STACKED = sorted({*EVERY_FAMILY} - {"albert"})


def dropped(tokenizer: PreTrainedTokenizerBase, dense: PreTrainedModel, **fields: str) -> PreTrainedModel:
    """What is left of `dense`."""
    return LayerDropping(**fields).prepare(dense, context_of(dense, tokenizer))


def hidden_states(model: PreTrainedModel) -> tuple[torch.Tensor, ...]:
    """The states after the embeddings and after each layer."""
    with torch.no_grad():
        states: tuple[torch.Tensor, ...] = model.eval()(
            **padded_batch(), output_hidden_states=True
        ).hidden_states
    return states


@pytest.mark.parametrize(
    ("drop", "count", "depth", "kept"),
    [
        ("top", 6, 12, [0, 1, 2, 3, 4, 5]),
        ("bottom", 4, 6, [2, 3, 4, 5]),
        ("middle", 6, 12, [0, 1, 2, 9, 10, 11]),
        ("middle", 3, 6, [0, 1, 5]),
        ("middle", 1, 4, [0]),
        ("evenly", 6, 12, [1, 3, 5, 7, 9, 11]),
        ("evenly", 4, 6, [0, 2, 3, 5]),
    ],
)
def test_where_layers_leave(drop: str, count: int, depth: int, kept: list[int]) -> None:
    assert kept_layers(drop, count, depth) == kept


@given(st.sampled_from(DROPS), st.data())
def test_as_many_layers_stay_as_asked_in_their_order(drop: str, data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 48))
    count = data.draw(st.integers(1, depth))
    kept = kept_layers(drop, count, depth)
    assert len(kept) == count
    assert kept == sorted(set(kept))
    assert 0 <= kept[0] <= kept[-1] < depth


@pytest.mark.parametrize(
    ("depth", "layers", "taken"),
    [
        (12, "half", [1, 3, 5, 7, 9, 11]),
        (4, "half", [1, 3]),
        (5, "half", [1, 4]),
        (1, "half", [0]),
        (12, "all", list(range(12))),
        (12, "3", [3, 7, 11]),
        (12, "4", [2, 5, 8, 11]),
        (12, "12", list(range(12))),
        (12, "1", [11]),
        (12, "7", [0, 2, 4, 5, 7, 9, 11]),
    ],
)
def test_a_distilled_students_layers_are_taken_evenly(depth: int, layers: str, taken: list[int]) -> None:
    assert evenly_spaced(layer_count(layers, depth), depth) == taken


@pytest.mark.parametrize("family", STACKED)
def test_layers_are_taken_whatever_the_family_calls_them(family: str) -> None:
    dense = tiny(family, layers=4)
    student = with_layers(dense, [1, 3])
    assert student.config.num_hidden_layers == 2
    assert dense.config.num_hidden_layers == 4
    whole, left = (getattr(*layer_stack(model)) for model in (dense, student))
    assert len(left) == 2
    for layer, number in zip(left, [1, 3], strict=True):
        own, dense_own = layer.state_dict(), whole[number].state_dict()
        assert all(torch.equal(own[name], dense_own[name]) for name in dense_own)
        assert all(own[name].data_ptr() != dense_own[name].data_ptr() for name in dense_own)


def test_a_layer_that_is_shared_is_run_fewer_times() -> None:
    dense = tiny("albert", layers=4)
    student = with_layers(dense, [1, 3])
    own, whole = hidden_states(student), hidden_states(dense)
    assert len(own) == 3
    assert all(torch.equal(mine, same) for mine, same in zip(own, whole, strict=False))
    assert dense.config.num_hidden_layers == 4


@pytest.mark.parametrize("settings", [{"inner_group_num": 2}, {"num_hidden_groups": 2}])
def test_several_shared_layers_are_not_taken_apart(settings: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="albert model of several shared layers"):
        with_layers(tiny("albert", layers=2, **settings), [1])


def test_layers_in_lists_that_belong_together_are_not_taken_apart() -> None:
    settings = FlaubertConfig(vocab_size=20, emb_dim=8, n_layers=2, n_heads=2)
    with pytest.raises(Refusal, match="a flaubert model has no one list of 2 layers"):
        with_layers(FlaubertForSequenceClassification(settings), [1])


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_without_the_top_the_lower_layers_say_the_same(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str
) -> None:
    dense = tiny(family, layers=4)
    whole = hidden_states(dense)
    model = dropped(tokenizer, dense, keep="3")
    own = hidden_states(model)
    assert len(own) == 4
    assert all(torch.equal(mine, same) for mine, same in zip(own, whole, strict=False))
    artifact.save(model, tokenizer, parse_variant("layers:3"), tmp_path)
    loaded = compressors.load(tmp_path)
    assert loaded.config.num_hidden_layers == 3
    assert torch.equal(logits(loaded), logits(model))


def test_layers_that_were_pruned_keep_their_shapes_in_a_fresh_process(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    dense = tiny(layers=3)
    [part] = parse_variant("bmp40:multiple=1").parts
    masked = part.prepare(dense, context_of(dense, tokenizer))
    with torch.no_grad():
        for i, layer in enumerate(part._layers):  # type: ignore[attr-defined]
            layer.neurons.scores.fill_(-i)
    pruned = part.finish(masked, context_of(dense, tokenizer))
    widths = pruned.config.layer_ffn_widths
    assert len(set(widths)) > 1
    model = dropped(tokenizer, pruned, keep="2", drop="bottom")
    assert model.config.layer_ffn_widths == widths[1:]
    artifact.save(model, tokenizer, parse_variant("layers:2,drop=bottom"), tmp_path)
    torch.save(padded_batch(), tmp_path / "batch.pt")
    code = (
        "import torch, compressors; "
        "torch.save(compressors.load('.')(**torch.load('batch.pt')).logits.detach(), 'logits.pt')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), logits(model))


def test_dense_is_left_as_it_is(tokenizer: PreTrainedTokenizerBase) -> None:
    dense = tiny(layers=4)
    before = logits(dense)
    dropped(tokenizer, dense)
    assert torch.equal(logits(dense), before)


def test_a_layer_that_is_shared_has_no_top_and_the_user_is_told(tokenizer: PreTrainedTokenizerBase) -> None:
    dense = tiny("albert", layers=4)
    context = context_of(dense, tokenizer)
    LayerDropping(drop="bottom").prepare(dense, context)
    assert context.notes == ["layers: the model's one layer is run 2 times instead of 4"]


@pytest.mark.parametrize("keep", ["2", "3"])
def test_keeping_every_layer_is_refused(tokenizer: PreTrainedTokenizerBase, keep: str) -> None:
    with pytest.raises(Refusal, match=f"layers: keep={keep} drops none of the 2 layers of dense"):
        dropped(tokenizer, tiny(layers=2), keep=keep)


@pytest.mark.parametrize(
    ("spec", "part_of_the_error"),
    [
        ("layers:0", "keep=0 is not a number above 0 or half"),
        ("layers:all", "keep=all is not a number above 0 or half"),
        ("layers:drop=outer", "drop=outer is none of top, middle, bottom, evenly"),
        ("layers+kd", "layers and kd do not combine: kd takes its student's layers itself"),
        ("ft+layers", "ft and layers do not combine: layers is trained anyway"),
        ("load:x+layers", "load and layers do not combine: load measures a checkpoint as it is"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(spec: str, part_of_the_error: str) -> None:
    with pytest.raises(InputError) as raised:
        check(parse_variant(spec), "cpu")
    assert part_of_the_error in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_it_is_spelt_by_its_number_and_is_trained_without_a_teacher() -> None:
    variant = parse_variant("bmp25+layers:4")
    check(variant, "cpu")
    assert variant.name == "bmp25+layers:4"
    assert parse_variant("layers:half,drop=top").name == "layers"
    assert variant.trains
    assert not variant.needs_teacher
    assert Distillation().needs_teacher
