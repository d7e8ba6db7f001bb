"""The estimate: rough, but in the right direction, and right about the demo's disk space."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import InputError
from bench.estimate import ModelSize, estimate, flops_per_s, model_size, stored_bytes
from bench.meters.size import weights_size
from bench.options import Options
from bench.plan import Plan, make_plan
from bench.scratch import VOCABULARY, small_bert
from bench.tasks.demo import LABELS
from compressors.variant import Variant, parse_variant


def plan(variants: str = "mp", rows: int = 600, budget: str = "quick") -> Plan:
    asked = {"variants": variants, "limit": rows, "limit_test": 100, "device": "cpu", "budget": budget}
    return make_plan(Options.model_validate(asked))


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's speed as a constant: else it is measured anew for each estimate."""
    monkeypatch.setattr("bench.estimate.flops_per_s", lambda device: 1e10)


@pytest.mark.usefixtures("steady")
def test_more_work_takes_longer_and_more_room() -> None:
    few, more = estimate(plan("mp")), estimate(plan("mp,kd,bmp25"))
    assert 0 < few.time_s < more.time_s
    assert 0 < few.disk_bytes < more.disk_bytes


@pytest.mark.usefixtures("steady")
def test_more_rows_and_a_larger_budget_take_longer() -> None:
    base = estimate(plan("kd", rows=60)).time_s
    assert estimate(plan("kd", rows=6000)).time_s > base
    assert estimate(plan("kd", rows=60, budget="standard")).time_s > 2 * base


def test_a_demo_in_full_is_minutes_not_hours() -> None:
    demo = estimate(make_plan(Options(device="cpu")))
    assert 60 < demo.time_s < 3 * 3600
    assert 16 * 1e6 < demo.disk_bytes < 16 * 6e6


def test_the_demo_model_takes_about_the_room_it_was_given(tmp_path: Path) -> None:
    model = small_bert(LABELS, VOCABULARY, 64)
    model.save_pretrained(tmp_path / "dense")
    expected = stored_bytes(Variant(), model_size(None))
    assert weights_size(tmp_path / "dense") == pytest.approx(expected, rel=0.1)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(model_size(None).parameters, rel=0.1)


def test_what_compression_leaves_is_what_is_stored() -> None:
    size = ModelSize(parameters=3_000_000, encoder=2_000_000, depth=4)
    stored = {
        spec: stored_bytes(parse_variant(spec), size)
        for spec in ("dense", "mp", "kd", "kd:layers=all", "layers:1", "bmp50", "bmp75+kd+mp", "kd+onnx")
    }
    assert stored == {
        "dense": 12_000_000,
        "mp": 6_000_000,
        "kd": 8_000_000,
        "kd:layers=all": 12_000_000,
        "layers:1": 6_000_000,
        "bmp50": 8_000_000,
        "bmp75+kd+mp": 2_500_000,
        "kd+onnx": 16_000_000,
    }


@pytest.mark.usefixtures("steady")
def test_what_is_made_besides_the_rows_takes_room_once() -> None:
    size = model_size(None)
    made = ["dense", "kd+compile", "kd", "compile"]
    room = sum(stored_bytes(parse_variant(spec), size) for spec in made)
    assert estimate(plan("kd+compile")).disk_bytes == room
    assert estimate(plan("kd+compile,kd")).disk_bytes == room


def checkpoint(folder: Path, config: str) -> str:
    (folder / "config.json").write_bytes(config.encode("latin-1"))
    (folder / "model.safetensors").write_bytes(b"")
    return str(folder)


def test_a_checkpoint_is_sized_by_its_config(tmp_path: Path) -> None:
    sizes = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
    model = checkpoint(tmp_path, json.dumps({"model_type": "bert", **sizes}))
    encoder = 2 * (4 * 64 * 64 + 2 * 64 * 128)
    assert model_size(model) == ModelSize(encoder + 64_000, encoder, 2)


@pytest.mark.parametrize("content", ['{"hidden_size": ', "[]", "\xff"])
def test_a_config_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"config\.json: not"):
        model_size(checkpoint(tmp_path, content))


def test_a_config_of_another_family_counts_as_a_bert_base(tmp_path: Path) -> None:
    size = model_size(checkpoint(tmp_path, json.dumps({"dim": 768, "n_layers": 6, "vocab_size": None})))
    assert size.encoder == 84_934_656
    assert size.parameters == pytest.approx(109e6, rel=0.02)


def test_the_trial_product_is_plausible() -> None:
    assert 1e8 < flops_per_s("cpu") < 1e13
