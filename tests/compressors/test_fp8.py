"""fp8: where it is refused, and on a CPU what float8 weights are stored as; computing is for tests/gpu."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors
from bench.errors import Refusal
from compressors import artifact, fp8
from compressors.contract import Context
from compressors.fp8 import MULTIPLE, Fp8
from compressors.quantised import quantise
from compressors.variant import Variant, parse_variant
from tests.compressors.tiny import context_of, logits, tiny

NEEDED = r"fp8 needs a GPU of compute capability 8.9 or more \(Ada, Hopper\); this is "


def test_a_cpu_is_refused_before_anything_is_trained(tokenizer: PreTrainedTokenizerBase) -> None:
    variant = parse_variant("bmp50+fp8")
    assert variant.trains
    with pytest.raises(Refusal, match=NEEDED + "cpu"):
        variant.parts[-1].prepare(tiny(), context_of(tiny(), tokenizer))


def test_what_was_made_elsewhere_is_not_run_on_a_cpu(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    artifact.save(tiny().to(torch.bfloat16), tokenizer, parse_variant("fp8"), tmp_path)
    with pytest.raises(Refusal, match=NEEDED + "cpu"):
        compressors.load(tmp_path)


@pytest.mark.parametrize(("capability", "works"), [((8, 0), False), ((8, 9), True), ((9, 0), True)])
def test_a_gpu_is_judged_by_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], works: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    if works:
        fp8.refuse_device("cuda")
    else:
        with pytest.raises(Refusal, match=NEEDED + "NVIDIA A100 of 8.0"):
            fp8.refuse_device("cuda")


def weight_only(model: PreTrainedModel, context: Context) -> None:
    """Put float8 weights, which a CPU can hold, into `model`, as `Fp8.finish` puts them in on a GPU."""
    from torchao.quantization import Float8WeightOnlyConfig

    quantise(model, Float8WeightOnlyConfig(set_inductor_config=False), MULTIPLE, context, Fp8.name)


def test_float8_weights_are_stored_as_such_and_come_back_the_same(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = tiny(intermediate_size=72).to(torch.bfloat16)
    before, context = logits(model), context_of(model, tokenizer)
    weight_only(model, context)
    assert context.notes == [
        "fp8: 4 of the encoder's 12 linear layers stay in floating point: their sides are no multiples of 16"
    ]
    artifact.save(model, tokenizer, Variant(), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    query = "bert.encoder.layer.0.attention.self.query"
    assert stored[f"{query}._weight_qdata"].dtype == torch.float8_e4m3fn
    assert f"{query}.weight" not in stored
    loaded = compressors.load(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(logits(loaded), logits(model))
    assert not torch.equal(logits(model), before)
    torch.testing.assert_close(logits(model), before, atol=0.5, rtol=0.2)
