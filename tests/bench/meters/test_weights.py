"""What weights alone say of a model's speed: zeros that are multiplied all the same, and odd widths."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.meters import weights
from bench.meters.weights import friendly_multiple, relative_cost, unfriendly_widths, zero_share
from compressors import artifact
from compressors.variant import parse_variant
from tests.compressors.tiny import EVERY_FAMILY, FFN, HIDDEN, tiny


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU whose instructions take 16 numbers at a time."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(weights, "ROUNDS", 3)


def saved(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    artifact.save(model, tokenizer, parse_variant("dense"), folder)
    return folder


def test_zeros_are_those_of_the_encoders_matrices(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model = tiny()
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
        model.bert.encoder.layer[0].intermediate.dense.bias.zero_()
        model.bert.encoder.layer[1].output.dense.weight.zero_()
    whole = 2 * (4 * HIDDEN**2 + 2 * HIDDEN * FFN)
    assert zero_share(saved(model, tokenizer, tmp_path)) == HIDDEN * FFN / whole


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_every_familys_matrices_are_found(
    family: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    assert zero_share(saved(tiny(family), tokenizer, tmp_path)) == 0.0


@pytest.mark.usefixtures("lanes")
def test_widths_that_no_kernel_takes_whole_are_named_once_each(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = tiny(layers=3, intermediate_size=50, hidden_size=HIDDEN + 4)
    found, refused = unfriendly_widths(saved(model, tokenizer, tmp_path), 16, "float32", "cpu")
    assert [(each.what, each.width, each.friendly) for each in found] == [
        ("feed-forward", 50, 64),
        ("attention heads", 36, 48),
    ]
    assert all(each.cost > 0 and each.share == 1 for each in found)
    assert refused == []


@pytest.mark.usefixtures("lanes")
def test_of_many_widths_those_are_timed_that_most_layers_have(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(layers=8, intermediate_size=64)
    for layer, width in zip(model.bert.encoder.layer, (17, 18, 64, 19, 20, 21, 22, 22), strict=True):
        layer.intermediate.dense = torch.nn.Linear(HIDDEN, width)
    monkeypatch.setattr(weights, "skeleton", lambda folder: model)
    found, _ = unfriendly_widths(tmp_path, 16, "float32", "cpu")
    assert len(found) == weights.MOST_WIDTHS
    assert (found[0].width, found[0].share) == (22, 2 / 8)
    assert all(each.share == 1 / 8 for each in found[1:])


@pytest.mark.usefixtures("lanes")
def test_friendly_widths_are_not_named(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    assert unfriendly_widths(saved(tiny(), tokenizer, tmp_path), 16, "float32", "cpu") == ([], [])


@pytest.mark.usefixtures("lanes")
def test_a_width_that_torch_refuses_in_a_type_is_told(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    # On a CPU torch has no products in uint16.
    model = saved(tiny(intermediate_size=50), tokenizer, tmp_path)
    assert unfriendly_widths(model, 16, "uint16", "cpu") == ([], [50])


def test_a_gpu_takes_sixteen_bytes_of_each_type() -> None:
    assert [friendly_multiple(dtype, "cuda") for dtype in ("float32", "bfloat16", "int8")] == [4, 8, 16]


def test_the_cost_is_of_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both products take 3 s a round, but the first round, which does not count."""
    times_s = iter([9.0, 1.0, *[3.0] * (2 * weights.ROUNDS - 2)])
    monkeypatch.setattr(weights, "time_block", lambda calls, device: (next(times_s), None))
    assert relative_cost("cpu", "float32", rows=8, inner=8, width=24, friendly=32) == pytest.approx(32 / 24)
    assert next(times_s, None) is None
