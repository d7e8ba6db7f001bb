"""What making costs: the energy meter starts before the clock does, and its failure is a reason."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench import checkpoint as checkpoints
from bench.errors import MeasuringError
from bench.meters.findings import Findings
from bench.steps.compress import make_variant
from bench.steps.dense import make_dense
from bench.steps.request import Request
from bench.steps.teacher import LOGITS, make_teacher
from compressors.artifact import ARTIFACT
from tests.bench.meters.clockwork import Clockwork
from tests.bench.steps.conftest import OpenMeter, silent

SLOW_START_S = 30.0
EARLIER_S = 1.0
WEIGHTS = "model.safetensors"
ENERGIES = {"compress_energy", "compress_energy_gross"}


def compress(asked: Request, folder: Path) -> Findings:
    request = asked.model_copy(update={"kind": "compress", "variant": "mp"})
    return make_variant(request, folder, silent)


def teach(asked: Request, folder: Path) -> Findings:
    return make_teacher(asked.model_copy(update={"kind": "teacher"}), folder, silent)


@pytest.mark.parametrize("make", [compress, teach])
def test_a_meters_slow_start_is_in_no_figure(
    make: Callable[[Request, Path], Findings],
    asked: Request,
    tmp_path: Path,
    metered: Callable[[OpenMeter], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, spent_s = time.perf_counter, 0.0

    def open_slowly(device: str) -> Clockwork:
        nonlocal spent_s
        spent_s += SLOW_START_S
        return Clockwork(lambda window: [50, 150][window])

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + spent_s)
    metered(open_slowly)
    found = make(asked, tmp_path)
    wall_time_s = found.metrics["compress_wall_time"].value
    window_s = found.metrics["compress_energy"].value / 100
    assert wall_time_s <= window_s < SLOW_START_S
    assert window_s == pytest.approx(wall_time_s, abs=1)
    assert found.metrics["compress_energy_gross"].value == pytest.approx(150 * window_s)
    assert found.spent["energy"] < SLOW_START_S
    assert found.spent["compressing"] + found.spent.get("training", 0.0) == pytest.approx(wall_time_s)
    assert "idle_power" not in found.metrics.keys() | found.unavailable.keys()


def broken(device: str) -> Clockwork:
    return Clockwork(lambda window: [50, None][window])


def absent(device: str) -> Clockwork:
    raise MeasuringError("no meter here")


@pytest.mark.parametrize(
    ("meter", "reason"), [(broken, "a clockwork: [Errno 19] No such device"), (absent, "no meter here")]
)
def test_a_meter_that_fails_costs_its_figures_alone(
    meter: OpenMeter,
    reason: str,
    asked: Request,
    tmp_path: Path,
    metered: Callable[[OpenMeter], None],
) -> None:
    metered(meter)
    variant, teacher = compress(asked, tmp_path), teach(asked, tmp_path)
    for found in (variant, teacher):
        assert "compress_wall_time" in found.metrics
        assert {found.unavailable[name] for name in ENERGIES} == {reason}
    assert (tmp_path / ARTIFACT / "model.safetensors").exists()
    assert (tmp_path / LOGITS).exists()


def test_training_is_told_apart_from_the_rest(
    asked: Request, tmp_path: Path, metered: Callable[[OpenMeter], None]
) -> None:
    request = asked.model_copy(update={"kind": "compress", "variant": "bmp50"})
    found = make_variant(request, tmp_path / "variant", silent)
    assert found.spent.keys() == {"energy", "training", "compressing"}
    assert min(found.spent.values()) > 0
    dense = make_dense(asked.model_copy(update={"kind": "dense"}), tmp_path / "dense", silent)
    assert dense.spent["training"] > 0


def test_a_variant_goes_on_from_what_is_trained_already(
    asked: Request, tmp_path: Path, metered: Callable[[OpenMeter], None]
) -> None:
    def make(spec: str, name: str, trained: Path | None = None) -> Findings:
        request = asked.model_copy(update={"kind": "compress", "variant": spec, "trained": trained})
        return make_variant(request, tmp_path / name, silent)

    make("bmp50", "bmp50")
    alone = make("bmp50+sorted", "alone")
    on_top = make("bmp50+sorted", "on top", tmp_path / "bmp50")
    weights = [load_file(tmp_path / name / ARTIFACT / WEIGHTS) for name in ("alone", "on top")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert "training" in alone.spent
    assert "training" not in on_top.spent
    assert "pruned_fraction" not in on_top.metrics.keys() | on_top.unavailable.keys()
    document = json.loads((tmp_path / "on top" / ARTIFACT / "variant.json").read_text())
    assert document["variant"] == "bmp50+sorted"
    assert document["parameters"].keys() == {"bmp", "sorted"}


def test_the_precision_it_was_trained_to_is_kept(
    asked: Request, tmp_path: Path, metered: Callable[[OpenMeter], None]
) -> None:
    for spec, trained in (("bmp50+mp", None), ("bmp50+mp+sorted", tmp_path / "bmp50+mp")):
        request = asked.model_copy(update={"kind": "compress", "variant": spec, "trained": trained})
        make_variant(request, tmp_path / spec, silent)
    weights = load_file(tmp_path / "bmp50+mp+sorted" / ARTIFACT / WEIGHTS)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}


class BrokenOffError(Exception):
    """The machine went away."""


@pytest.mark.parametrize("kind", ["compress", "dense"])
def test_a_training_that_went_on_costs_the_time_of_all_its_parts_and_energy_that_nobody_knows(
    kind: str,
    asked: Request,
    tmp_path: Path,
    metered: Callable[[OpenMeter], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(checkpoints, "SAVING_SHARE", math.inf)
    make = {"compress": make_variant, "dense": make_dense}[kind]
    request = asked.model_copy(
        update={
            "kind": kind,
            "variant": {"compress": "bmp50", "dense": "dense"}[kind],
            "batch_size": 4,
            "checkpoint": tmp_path / "state",
        }
    )

    def breaks(stage: str, done: int, total: int) -> None:
        if done == 5:
            time.sleep(EARLIER_S)
        if done == 6:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        make(request, tmp_path / "broken off", breaks)
    found = make(request, tmp_path / "gone on", silent)
    whole = make(request.model_copy(update={"checkpoint": None}), tmp_path / "whole", silent)
    weights, others = ((tmp_path / name / ARTIFACT / WEIGHTS).read_bytes() for name in ("gone on", "whole"))
    assert weights == others
    assert found.training == whole.training
    assert any(note.startswith("training went on from step 5 of") for note in found.notes)
    if kind == "compress":
        wall_time_s = found.metrics["compress_wall_time"].value
        here_s = found.spent["compressing"] + found.spent["training"]
        assert wall_time_s >= here_s + EARLIER_S
        assert not ENERGIES & found.metrics.keys()
        assert all("broken off" in found.unavailable[name] for name in ENERGIES)
        assert whole.metrics.keys() >= ENERGIES
