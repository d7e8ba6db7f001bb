"""Memory first, then energy: each in a window of its own, with nothing of the meters in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.encoding import Batch
from bench.meters.memory import CLEAR_REFS
from bench.meters.subject import Subject
from bench.steps.footprint import measure_footprint
from bench.steps.request import Request
from tests.bench.meters.clockwork import Clockwork
from tests.bench.steps.conftest import OpenMeter, silent

MB = 2**20
NAMES = {
    "peak_memory_host",
    "peak_memory_allocator",
    "peak_memory_reserved",
    "peak_memory_device",
    "inference_energy_per_sample",
    "inference_energy_per_sample_gross",
    "idle_power",
}


def test_every_metric_is_there_or_has_a_reason(asked: Request, tmp_path: Path) -> None:
    started = time.perf_counter()
    found = measure_footprint(asked, tmp_path, silent)
    took_s = time.perf_counter() - started
    assert found.metrics.keys() | found.unavailable.keys() == NAMES
    assert found.metrics["inference_energy_per_sample_gross"].value > 0
    assert found.metrics["idle_power"].value > 0
    assert found.spent.keys() == {"memory", "energy"}
    assert 2.5 <= found.spent["energy"] <= sum(found.spent.values()) <= took_s


def test_energy_of_a_row_is_that_of_the_window_over_its_rows(
    asked: Request,
    tmp_path: Path,
    metered: Callable[[OpenMeter], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classified: list[int] = []
    classify = Subject.__call__
    meter = Clockwork(lambda window: [50, 150][window])

    def count(subject: Subject, batch: Batch) -> torch.Tensor:
        if meter.window == 1:
            classified.append(len(batch["input_ids"]))
        return classify(subject, batch)

    monkeypatch.setattr(Subject, "__call__", count)
    metered(lambda device: meter)
    found = measure_footprint(asked, tmp_path, silent).metrics
    net, gross = (found[f"inference_energy_per_sample{kind}"].value for kind in ("", "_gross"))
    assert gross / net == pytest.approx(1.5)
    assert found["idle_power"].value == pytest.approx(50)
    assert gross * sum(classified) == pytest.approx(150 * meter.spans_s[1])
    assert meter.spans_s[1] >= 1.5


def test_what_is_measured_is_measured_in_sections(
    asked: Request,
    tmp_path: Path,
    metered: Callable[[OpenMeter], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classified: list[int] = []
    classify = Subject.__call__

    def count(subject: Subject, batch: Batch) -> torch.Tensor:
        classified.append(len(batch["input_ids"]))
        return classify(subject, batch)

    meter = Clockwork(lambda window: 50 if window < 5 else 150)
    meter.estimated = False

    def open_measuring(device: str) -> Clockwork:
        classified.clear()
        return meter

    monkeypatch.setattr(Subject, "__call__", count)
    metered(open_measuring)
    found = measure_footprint(asked, tmp_path, silent)
    net, gross = (found.metrics[f"inference_energy_per_sample{kind}"] for kind in ("", "_gross"))
    assert len(net.samples) == len(gross.samples) == len(found.metrics["idle_power"].samples) == 5
    assert gross.value / net.value == pytest.approx(1.5)
    assert gross.value * sum(classified) == pytest.approx(150 * sum(meter.spans_s[5:]))
    assert min(meter.spans_s[5:]) >= 1.5 / 5
    assert gross.ci_low is not None
    assert gross.ci_low < gross.value


def test_every_shape_was_run_before_the_energy_is_metered(
    asked: Request,
    tmp_path: Path,
    metered: Callable[[OpenMeter], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run: list[torch.Size] = []
    before: list[int] = []
    classify = Subject.__call__

    def note(subject: Subject, batch: Batch) -> torch.Tensor:
        run.append(batch["input_ids"].shape)
        return classify(subject, batch)

    def open_meter(device: str) -> Clockwork:
        before.append(len(run))
        return Clockwork(lambda window: [50, 150][window])

    def one_after_the_other(subject: Subject, size: int) -> list[Batch]:
        return [subject.batch(subject.rows[:rows]) for rows in (4, 7, 4, 9)]

    monkeypatch.setattr(Subject, "__call__", note)
    monkeypatch.setattr(Subject, "batches", one_after_the_other)
    metered(open_meter)
    measure_footprint(asked, tmp_path, silent)
    [opened] = before
    metered_shapes = run[opened:]
    assert len(set(metered_shapes)) == 3
    assert set(metered_shapes) == set(run[opened - 3 : opened]), "each once, and last thing before"


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="needs Linux's /proc/self/clear_refs")
def test_the_energy_meter_is_no_part_of_the_memory(
    asked: Request, tmp_path: Path, metered: Callable[[OpenMeter], None]
) -> None:
    def open_large(device: str) -> Clockwork:
        meter = Clockwork(lambda window: [50, 150][window])
        meter.held = bytearray(b"x") * (200 * MB)  # type: ignore[attr-defined]
        return meter

    metered(open_large)
    found = measure_footprint(asked, tmp_path, silent)
    assert found.metrics["peak_memory_host"].value < 100 * MB
