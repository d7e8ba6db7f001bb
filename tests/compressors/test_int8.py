"""int8: what is stored, that it comes back the same, and how far it is from what it was made of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors
from bench.errors import InputError, Refusal
from bench.nouns.task import Task
from bench.steps.dense import starting_point
from compressors import artifact
from compressors.contract import Context
from compressors.pruned import PRUNABLE
from compressors.variant import Variant, check, parse_variant
from tests.commands import bench, write_rows
from tests.compressors.tiny import (
    EVERY_FAMILY,
    FAMILIES,
    LABELS,
    context_of,
    logits,
    padded_batch,
    randomised,
    same_names,
    tiny,
)

QUANTISABLE = sorted(set(EVERY_FAMILY) - {"squeezebert"})
WEIGHTS = "model.safetensors"
STEPS = 127


def quantised(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, spec: str = "int8"
) -> tuple[PreTrainedModel, Context]:
    """The model that `spec` makes of `model`, and what it was told."""
    context = context_of(model, tokenizer)
    [part] = parse_variant(spec).parts
    return part.finish(model, context), context


def with_empty_layers(family: str) -> PreTrainedModel:
    """A pruned model whose first layer has no heads and whose last has no neurons."""
    kind = PRUNABLE[family]
    settings = tiny(family).config.to_dict() | {"layer_heads": [0, 3], "layer_ffn_widths": [40, 0]}
    del settings["model_type"], settings["architectures"]
    return randomised(kind.model_class(kind.config_class(**settings)))


def encoder_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The linear layers that see every token."""
    return {
        name: layer
        for name, layer in model.base_model.named_modules(prefix=model.base_model_prefix)
        if isinstance(layer, nn.Linear) and ".pooler" not in name
    }


@pytest.mark.parametrize("spec", ["int8", "int8:weight-only"])
@pytest.mark.parametrize("family", QUANTISABLE)
def test_the_encoder_is_int8_on_disk_and_comes_back_the_same(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str, spec: str
) -> None:
    dense = tiny(family)
    parameters, matrices = sum(p.numel() for p in dense.parameters()), encoder_layers(dense)
    model, context = quantised(tokenizer, tiny(family), spec)
    assert context.notes == []
    artifact.save(model, tokenizer, parse_variant(spec), tmp_path)
    assert not [file for file in tmp_path.iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".pth")]
    stored = load_file(tmp_path / WEIGHTS)
    whole = {name for name, tensor in stored.items() if name.endswith(".weight") and tensor.ndim == 2}
    assert matrices
    for name, layer in matrices.items():
        assert f"{name}.weight" not in whole
        values = stored[f"{name}._weight_qdata"]
        assert values.dtype == torch.int8
        step = layer.weight.abs().amax(dim=1, keepdim=True) / STEPS
        assert ((values * stored[f"{name}._weight_scale"] - layer.weight).abs() <= 0.51 * step).all()
    loaded = compressors.load(tmp_path)
    assert loaded.dtype == torch.float32
    assert sum(p.numel() for p in loaded.parameters()) == parameters
    assert torch.equal(logits(loaded), logits(model))


def test_pooler_and_head_stay_as_they_were(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    artifact.save(quantised(tokenizer, tiny())[0], tokenizer, parse_variant("int8"), tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    for name in ("classifier.weight", "bert.pooler.dense.weight", "bert.embeddings.word_embeddings.weight"):
        assert torch.equal(stored[name], tiny().get_parameter(name))


def layer_of(model: PreTrainedModel) -> nn.Linear:
    found = model.get_submodule("bert.encoder.layer.0.intermediate.dense")
    assert isinstance(found, nn.Linear)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_layer_computes_with_rounded_weights_and_where_dynamic_inputs(
    tokenizer: PreTrainedTokenizerBase, seed: int
) -> None:
    """A token's largest value lies halfway between two steps, and may go either way."""
    values = torch.randn(6, 10, 32, generator=torch.Generator().manual_seed(seed))
    layers = [layer_of(quantised(tokenizer, tiny(), spec)[0]) for spec in ("int8", "int8:weight-only")]
    dense = layer_of(tiny())
    weight = layers[0].weight.dequantize()
    assert (weight - dense.weight).abs().max() > 0
    with torch.no_grad():
        dynamic, weight_only = (layer(values) for layer in layers)
        torch.testing.assert_close(weight_only, F.linear(values, weight, dense.bias))
        step = values.abs().amax(dim=-1, keepdim=True) / (STEPS + 0.5)
        rounded = (values / step).round().clamp(-STEPS - 1, STEPS) * step
        other_way = 1.01 * step * weight.abs().amax(dim=1)
        assert ((dynamic - F.linear(rounded, weight, dense.bias)).abs() <= other_way).all()
        assert (dynamic - weight_only).abs().max() > 0.001


def test_logits_stay_close_to_those_of_dense(tokenizer: PreTrainedTokenizerBase) -> None:
    """Of weights this large, without training; rounding is 0.4 % of a row's largest value at most."""
    before = logits(tiny())
    for spec in ("int8", "int8:weight-only"):
        after = logits(quantised(tokenizer, tiny(), spec)[0])
        assert torch.equal(after.argmax(-1), before.argmax(-1))
        torch.testing.assert_close(after, before, atol=0.25, rtol=0.1)
        assert not torch.equal(after, before)


COMPARE = """
import sys
import compressors, torch
from safetensors.torch import load_file
for folder in sys.argv[1:]:
    stored = load_file(folder + ".expected")
    expected = stored.pop("logits")
    with torch.no_grad():
        assert torch.equal(compressors.load(folder)(**stored).logits, expected), folder
print("the same")
"""


def test_in_a_fresh_process_pruned_ones_with_empty_layers_answer_the_same(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    folders = []
    for family in sorted(set(FAMILIES) - {"albert"}):
        sizes = []
        for spec in ("bmp50", "bmp50+int8"):
            model = with_empty_layers(family)
            if spec != "bmp50":
                model, context = quantised(tokenizer, model)
                assert context.notes == []
            folder = tmp_path / f"{family}-{spec}"
            artifact.save(model, tokenizer, parse_variant(spec), folder)
            sizes.append(sum(tensor.nbytes for tensor in load_file(folder / WEIGHTS).values()))
            expected = {**padded_batch(), "logits": logits(model)}
        assert sizes[1] < sizes[0]
        save_file(expected, f"{folder}.expected")
        folders.append(str(folder))
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, *folders], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "the same", done.stderr[-2000:]


def test_layers_of_awkward_sides_stay_and_the_user_is_told(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model, context = quantised(tokenizer, tiny(intermediate_size=60))
    assert context.notes == [
        "int8: 4 of the encoder's 12 linear layers stay in floating point: their sides are no multiples of 8"
    ]
    artifact.save(model, tokenizer, parse_variant("int8"), tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    assert stored["bert.encoder.layer.0.intermediate.dense.weight"].dtype == torch.float32
    assert torch.equal(logits(compressors.load(tmp_path)), logits(model))


def test_an_encoder_without_linear_layers_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(Refusal, match="int8: the encoder of this squeezebert has no linear layers at all"):
        quantised(tokenizer, tiny("squeezebert"))
    with pytest.raises(Refusal, match="no linear layers with sides that are multiples of 8"):
        quantised(tokenizer, tiny(hidden_size=36, intermediate_size=60))


@pytest.fixture
def saved(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    """An artifact made by int8."""
    artifact.save(quantised(tokenizer, tiny())[0], tokenizer, parse_variant("int8"), tmp_path / "int8")
    return tmp_path / "int8"


@pytest.mark.parametrize("spec", ["int8", "int8:weight-only", "mp"])
def test_what_is_quantised_is_not_brought_to_another_precision(
    tokenizer: PreTrainedTokenizerBase, saved: Path, spec: str
) -> None:
    loaded = artifact.load_model(str(saved), "auto")
    with pytest.raises(Refusal, match="quantised"):
        quantised(tokenizer, loaded, spec)


def test_an_int8_artifact_can_be_measured_beside_the_others(
    tokenizer: PreTrainedTokenizerBase, saved: Path, tmp_path: Path
) -> None:
    [part] = parse_variant(f"load:{saved}").parts
    loaded = part.prepare(tiny(), context_of(tiny(), tokenizer))
    artifact.save(loaded, tokenizer, Variant((part,)), tmp_path / "again")
    assert torch.equal(logits(compressors.load(tmp_path / "again")), logits(compressors.load(saved)))


def test_a_quantised_checkpoint_is_no_dense_model(saved: Path) -> None:
    task = Task("toy", "rows", LABELS, (), (), (), model=str(saved))
    for fine_tune in (True, False):
        with pytest.raises(InputError, match="its weights are quantised; name the checkpoint it was made"):
            starting_point(replace(task, fine_tune=fine_tune), 32, same_names, [])


def test_spelling_and_what_does_not_combine() -> None:
    assert parse_variant("int8+bmp50").name == "bmp50+int8"
    assert parse_variant("int8:mode=weight-only").name == "int8:weight-only"
    assert parse_variant("int8:dynamic").name == "int8"
    assert not parse_variant("int8").trains
    for spec, problem in (
        ("int8:static", "int8: mode=static is unknown; use dynamic or weight-only"),
        ("int8+mp", "do not combine: weights have one precision"),
        ("int8+fp8", "do not combine: weights have one precision"),
    ):
        with pytest.raises(InputError, match=problem):
            check(parse_variant(spec), "cpu")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Int8Tensor does not implement _stable_hash_for_caching")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses what torch deprecates
def test_compiled_it_answers_as_it_does_eagerly(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """As near as rounding lets: a token's largest value, halfway between two steps, may go either way."""
    model, _ = quantised(tokenizer, tiny())
    artifact.save(model, tokenizer, parse_variant("int8+compile"), tmp_path)
    found = compressors.load(tmp_path)(**padded_batch()).logits
    torch.testing.assert_close(found, logits(model), atol=0.15, rtol=0.05)


VNNI, PLAIN = ["avx2", "avx512f", "avx512_vnni"], ["avx2", "avx512f"]


@pytest.mark.parametrize(
    ("spec", "device", "features", "reason"),
    [
        ("int8", "cpu", VNNI, r"int8 runs eagerly here: .*; add compile \(int8\+compile\)"),
        ("int8", "cpu", PLAIN, r"this CPU has no instructions for int8 products"),
        ("int8", "cpu", ["asimd"], "int8 runs eagerly here"),
        ("int8", "cuda", PLAIN, r"reads each int8 product's input back .*; add compile"),
        ("int8+compile", "cuda", PLAIN, "int8 makes the linear layers' products faster and nothing else"),
        ("int8+compile", "cpu", VNNI, "int8 makes the linear layers' products faster and nothing else"),
        ("int8:weight-only", "cpu", VNNI, "stores int8 and computes in floating point"),
        ("fp8", "cuda", PLAIN, "fp8 runs eagerly here"),
    ],
)
def test_why_it_can_fail_to_be_faster(spec: str, device: str, features: list[str], reason: str) -> None:
    variant = parse_variant(spec)
    found = variant.parts[0].why_not_faster(variant.parts, device, features)
    assert found is not None
    assert re.search(reason, found)


def test_what_no_cuda_graph_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match=r"do not combine: torchao reads .* take compile:reduce-overhead"):
        check(parse_variant("int8+graphs"), "cuda")
    check(parse_variant("int8:weight-only+graphs"), "cuda")
    check(parse_variant("int8+compile:reduce-overhead"), "cuda")


def test_without_torchao_the_row_is_skipped_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that `sys.modules` has as None is, to Python, not installed."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torchao'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    write_rows(tmp_path / "rows.csv", 80)
    asked = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1", "--out", "run")
    done = bench("run", *asked, "--variants", "int8", "--cache", "cache", cwd=tmp_path)
    rows = json.loads((tmp_path / "run" / "run.json").read_text())["results"]
    assert [row["status"] for row in rows] == ["ok", "skipped"], done.stderr
    needed = "int8 needs torchao, which is not installed: pip install 'compressed-transformer-bench[torchao]'"
    assert rows[1]["reason"] == needed
    assert done.returncode == 0
