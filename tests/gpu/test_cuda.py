"""What only a CUDA device can show: its meters, float16, and the command line on it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.folder import read_run
from bench.meters.energy import NvmlEnergy, open_energy_meter
from bench.meters.memory import MemoryWindow
from bench.meters.nvml import devices
from bench.meters.speed import measure_speed, time_block
from bench.meters.subject import Subject, load_subject
from bench.nouns.measurement import METRICS
from bench.protocol import PROTOCOLS
from bench.steps.timing import same_precision
from tests.bench.meters.conftest import ROWS, save_tiny
from tests.commands import bench, write_rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

MB = 2**20
QUICK = replace(
    PROTOCOLS["quick"],
    min_rounds=10,
    max_rounds=20,
    min_time_s=0.0,
    warm_up_min_s=0.0,
    warm_up_cap_s=0.5,
    requests=11,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = save_tiny(tmp_path_factory.mktemp("tiny") / "artifact")
    return load_subject("dense", folder, ROWS, 32, "cuda")


def multiply(seconds: float) -> None:
    """Keep the device busy."""
    a = torch.randn(2048, 2048, device="cuda")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        a = (a @ a).tanh()
        torch.cuda.synchronize()


def test_nvml_sees_the_device_that_torch_uses() -> None:
    names = [device.name for device in devices()]
    assert torch.cuda.get_device_name(0) in names
    assert all(device.uuid and device.driver and device.memory for device in devices())


def test_work_takes_more_energy_than_rest() -> None:
    meter = open_energy_meter("cuda")
    if not isinstance(meter, NvmlEnergy):
        pytest.skip("this device has no energy counter")
    used = []
    for work in (time.sleep, multiply):
        meter.begin()
        work(2.0)
        used.append(meter.end())
    rest, busy = used
    assert 0 < rest.joules < busy.joules < 2 * 2000
    assert not busy.estimated
    assert "NVML" in busy.source


def test_the_allocators_peak_is_what_was_allocated() -> None:
    window = MemoryWindow("cuda")
    held = torch.cuda.memory_allocated()
    block = torch.zeros(64 * MB, dtype=torch.uint8, device="cuda")
    del block
    found = window.close()
    assert found.metrics["peak_memory_allocator"].value == pytest.approx(held + 64 * MB, rel=0.05)
    assert "peak_memory_device" in found.metrics.keys() | found.unavailable.keys()
    if "peak_memory_device" in found.metrics:
        assert found.metrics["peak_memory_device"].value >= 64 * MB


def test_opening_cuda_is_no_part_of_the_hosts_peak() -> None:
    found = MemoryWindow("cuda").close()
    if "peak_memory_host" in found.metrics:
        assert found.metrics["peak_memory_host"].value < 16 * MB


def test_a_block_has_a_device_time_within_its_wall_time(tiny: Subject) -> None:
    feed = tiny.batches(8)
    time_block(tiny, feed)
    wall_s, device_s = time_block(tiny, feed)
    assert device_s is not None
    assert 0 < device_s <= wall_s * 1.05


def test_half_precision_is_timed_against_dense_in_half_precision(tiny: Subject) -> None:
    variant = tiny.cast(torch.float16)
    anchors = [tiny, *same_precision(tiny, variant)]
    assert [anchor.name for anchor in anchors] == ["dense", "dense as float16"]
    variant.name = "mp:dtype=float16"
    found = measure_speed(anchors, variant, 8, QUICK, seed=0)
    names = {name for name in METRICS if name.startswith(("throughput", "latency", "speedup"))}
    assert found.metrics.keys() | found.unavailable.keys() == names
    for scenario in found.scenarios.values():
        assert 0 <= scenario.metrics["launch_overhead"].value < 1
    assert found.metrics["speedup_same_precision"].value == pytest.approx(1, abs=0.3)


def test_a_run_on_the_device(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 200)
    asked = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1", "--out", "run")
    variants = "mp,mp:dtype=float16,bmp50+kd+mp"
    process = bench("run", *asked, "--device", "cuda", "--variants", variants, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    run = read_run(tmp_path / "run")
    assert run.config.device == "cuda"
    assert run.environment.devices
    assert {result.status for result in run.results} == {"ok"}
    for result in run.results:
        assert set(METRICS) == result.metrics.keys() | result.unavailable.keys()
        assert result.metrics["peak_memory_allocator"].value > 0
        assert result.metrics["inference_energy_per_sample"].value > 0
        assert "launch_overhead" in result.scenarios["batch 32"].metrics
