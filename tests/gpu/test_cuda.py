"""What only a CUDA device can show: its meters, float16, and the command line on it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import compressors
from bench.errors import Refusal
from bench.folder import read_run
from bench.meters.energy import EnergyMeter, EnergyWindow, NvmlCounter, NvmlPower, open_energy_meter
from bench.meters.feeds import headline, usual
from bench.meters.memory import MemoryWindow
from bench.meters.nvml import devices, gpu_state, is_mig, utilisation, visible_device
from bench.meters.rounds import time_block
from bench.meters.speed import measure_speed
from bench.meters.subject import Subject, load_subject
from bench.nouns.measurement import METRICS
from bench.protocol import PROTOCOLS
from bench.steps.timing import anchors_of
from bench.training import StepClock
from bench.workers import call_apart, start_server
from compressors import artifact
from compressors.packing import has_kernel
from compressors.variant import parse_variant
from tests.bench.meters.conftest import ROWS, save_tiny
from tests.commands import bench, write_rows
from tests.compressors.tiny import context_of, logits, padded_batch
from tests.compressors.tiny import tiny as tiny_model

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


def test_workers_can_use_the_device_whatever_their_server_imports() -> None:
    assert call_apart(start_server(), torch.cuda.get_device_name) == torch.cuda.get_device_name()


def test_the_device_at_work_has_a_state() -> None:
    multiply(1.0)
    state = gpu_state(visible_device())
    [device] = devices()
    assert 0 < (state["sm_clock"] or 1.0) <= (device.sm_clock_max or 1e10)
    assert 10 < (state["temperature"] or 20.0) < 110
    assert 0 < (state["power"] or 1.0) < 1.5 * (device.power_limit or 2000)
    assert 0 <= (utilisation(visible_device()) or 0.0) <= 1


whole_gpu_told = pytest.mark.skipif(
    not devices() or is_mig(visible_device()), reason="NVML tells the energy of whole GPUs alone"
)


@whole_gpu_told
def test_work_takes_energy_beyond_that_of_idling() -> None:
    window = EnergyWindow("cuda")
    multiply(window.shortest_s + 0.5)
    found = window.close("inference_energy_per_sample", units=10).add(window.idle_power())
    assert found.unavailable == {}
    net, gross = (found.metrics[f"inference_energy_per_sample{kind}"] for kind in ("", "_gross"))
    assert 0 < net.value < gross.value < 2000
    assert 5 < found.metrics["idle_power"].value < 1000
    assert not net.estimated
    assert "NVML" in net.source


@whole_gpu_told
def test_power_readings_agree_with_the_counter() -> None:
    if not isinstance(open_energy_meter("cuda"), NvmlCounter):
        pytest.skip("this device has no energy counter")
    gpu = visible_device()
    meters: list[EnergyMeter] = [NvmlCounter(gpu), NvmlPower(gpu, "for comparison")]
    for meter in meters:
        meter.begin()
    multiply(10.0)
    counted, read = [meter.end() for meter in meters]
    assert read.joules == pytest.approx(counted.joules, rel=0.15)


def test_the_allocators_peak_is_what_was_allocated() -> None:
    window = MemoryWindow("cuda")
    held = torch.cuda.memory_allocated()
    block = torch.zeros(64 * MB, dtype=torch.uint8, device="cuda")
    del block
    found = window.close()
    assert found.metrics["peak_memory_allocator"].value == pytest.approx(held + 64 * MB, rel=0.05)
    assert "peak_memory_device" in found.metrics.keys() | found.unavailable.keys()
    reserved = found.metrics["peak_memory_reserved"].value
    assert reserved >= found.metrics["peak_memory_allocator"].value
    if "peak_memory_device" in found.metrics:
        assert found.metrics["peak_memory_device"].value >= 64 * MB


def test_opening_cuda_is_no_part_of_the_hosts_peak() -> None:
    found = MemoryWindow("cuda").close()
    if "peak_memory_host" in found.metrics:
        assert found.metrics["peak_memory_host"].value < 16 * MB


def test_a_block_has_a_device_time_within_its_wall_time(tiny: Subject) -> None:
    calls = headline(tiny, 8).calls(tiny)
    time_block(calls, "cuda")
    wall_s, device_s = time_block(calls, "cuda")
    assert device_s is not None
    assert 0 < device_s <= wall_s * 1.05


def test_a_training_step_has_the_devices_time_and_not_the_queues() -> None:
    matrix = torch.rand(4096, 4096, device="cuda")
    matrix @ matrix
    torch.cuda.synchronize()
    clock, started = StepClock("cuda"), time.perf_counter()
    for _ in range(21):
        matrix @ matrix
        clock.step_ended()
    times_s = clock.times_s()
    wall_s = time.perf_counter() - started
    assert len(times_s) == 20
    assert 0.5 * wall_s < sum(times_s) <= wall_s


def test_half_precision_is_timed_against_dense_in_half_precision(tiny: Subject) -> None:
    variant = replace(tiny.again(torch.float16), name="mp:dtype=float16")
    anchors = anchors_of(tiny, variant, equal=None, of_its_own=False)
    assert [anchor.name for anchor in anchors.values()] == ["dense", "dense as float16"]
    found = measure_speed(anchors, variant, usual(variant, 8), QUICK, seed=0)
    for scenario in found.scenarios.values():
        assert 0 <= scenario.metrics["launch_overhead"].value < 1
        assert scenario.raw is not None
        assert scenario.raw.machine["sm_clock"].unit == "Hz"
    assert found.metrics["speedup_same_precision"].value == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_without_padding_get_the_answers_of_padded_ones(tmp_path: Path, dtype: torch.dtype) -> None:
    padded = load_subject("dense", save_tiny(tmp_path / "dense"), ROWS, 32, "cuda")
    folder = save_tiny(tmp_path / "unpadded", variant="unpadded")
    unpadded = load_subject("unpadded", folder, ROWS, 32, "cuda")
    for subject in (padded, unpadded):
        subject.model.to(dtype)
    for theirs, own in zip(padded.batches(8), unpadded.batches(8), strict=True):
        tolerance = 1e-5 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(unpadded(own), padded(theirs), atol=tolerance, rtol=0)
    query = torch.empty(10, 2, 16, dtype=dtype, device="cuda")
    assert has_kernel(query) == (dtype != torch.float32 and torch.cuda.get_device_capability() >= (8, 0))


COMPUTES_IN_FLOAT8 = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)


@pytest.mark.parametrize(
    ("spec", "dtype", "tolerance"),
    [
        ("int8", torch.float32, 0.25),
        ("int8:weight-only", torch.float32, 0.15),
        pytest.param(
            "fp8",
            torch.bfloat16,
            0.6,
            marks=pytest.mark.skipif(not COMPUTES_IN_FLOAT8, reason="needs compute capability 8.9"),
        ),
    ],
)
def test_quantised_layers_compute_on_the_device_and_come_back_the_same(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, spec: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Rounding is 0.4 % of the largest value of a row in int8, and 6 % of each value in float8."""
    dense = tiny_model().to("cuda")
    batch = {name: tensor.to("cuda") for name, tensor in padded_batch(rows=32).items()}
    before = logits(dense, batch)
    context = replace(context_of(dense, tokenizer), device="cuda")
    variant = parse_variant(spec)
    model = dense
    for part in variant.parts:
        model = part.finish(part.prepare(model, context), context)
    assert context.notes == []
    after = logits(model, batch)
    assert after.dtype == dtype
    torch.testing.assert_close(after.float(), before, atol=tolerance, rtol=tolerance)
    assert not torch.equal(after.float(), before)
    artifact.save(model, tokenizer, variant, tmp_path)
    assert torch.equal(logits(compressors.load(tmp_path, "cuda"), batch), after)


@pytest.mark.parametrize("spec", ["graphs", "compile", "compile:reduce-overhead"])
def test_engines_answer_as_the_model_does_and_prepare_each_shape_once(tmp_path: Path, spec: str) -> None:
    eager = load_subject("dense", save_tiny(tmp_path / "dense"), ROWS, 32, "cuda")
    engine = load_subject(spec, save_tiny(tmp_path / "engine", variant=spec), ROWS, 32, "cuda")
    batches = [*eager.batches(8), *eager.batches(1)[:5]]
    answers = engine.run(batches)
    for answer, expected in zip(answers, eager.run(batches), strict=True):
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-4)
    prepared_s = engine.compile_time_s
    assert prepared_s
    torch.testing.assert_close(engine.run(batches), answers, atol=1e-6, rtol=1e-5)
    assert engine.compile_time_s == prepared_s


def test_a_graph_launches_faster_than_its_kernels(tmp_path: Path) -> None:
    eager = load_subject("dense", save_tiny(tmp_path / "dense"), ROWS, 32, "cuda")
    engine = load_subject("graphs", save_tiny(tmp_path / "engine", variant="graphs"), ROWS, 32, "cuda")
    found = measure_speed({"speedup": eager}, engine, [headline(eager, 8)], QUICK, seed=0)
    assert found.metrics["speedup"].value > 1.5
    assert found.notes == []


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_onnx_runs_on_the_device_or_says_why_not(tmp_path: Path, precision: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = save_tiny(tmp_path / "onnx", variant=f"onnx:precision={precision}")
    if precision == "int8" or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(Refusal):
            load_subject("onnx", folder, ROWS, 32, "cuda")
        return
    engine = load_subject("onnx", folder, ROWS, 32, "cuda")
    eager = load_subject("dense", save_tiny(tmp_path / "dense"), ROWS, 32, "cuda")
    for batch in eager.batches(8):
        torch.testing.assert_close(engine(batch), eager(batch), atol=1e-4, rtol=1e-3)


def test_a_run_on_the_device(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 200)
    asked = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1", "--out", "run")
    variants = "mp,mp:dtype=float16,bmp50+kd+mp,int8" + ",fp8" * COMPUTES_IN_FLOAT8
    process = bench("run", *asked, "--device", "cuda", "--variants", variants, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    run = read_run(tmp_path / "run")
    assert run.config.device == "cuda"
    assert run.environment.devices
    assert {result.status for result in run.results} == {"ok"}
    for result in run.results:
        assert set(METRICS) == result.metrics.keys() | result.unavailable.keys()
        assert result.metrics["peak_memory_allocator"].value > 0
        assert result.metrics["inference_energy_per_sample_gross"].value > 0
        assert result.metrics["idle_power"].value > 0
        assert "launch_overhead" in result.scenarios["batch 32"].metrics
