"""NVML on machines of every kind: each thing it does not give is missing alone, and nothing else with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from bench.meters.nvml import device_count, devices, gpu_state, other_processes, utilisation, visible_device
from bench.nouns.environment import Device
from tests.bench.meters.fake_nvml import FakeGpu, field_value, install

NOT_SUPPORTED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
NO_PERMISSION = pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)
NAME = "NVIDIA H100 80GB HBM3"
WHOLE = Device(
    name=NAME, uuid="GPU-aa11", driver="570.1", memory=80 * 2**30, power_limit=700.0, sm_clock_max=1.98e9
)
MIG_ON = [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_all_gpus_of_the_machine_are_counted(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    install(monkeypatch, *(gpu(f"GPU-{number}") for number in range(count)))
    assert device_count() == count


def clock(megahertz: int) -> Callable[[int], int]:
    """An answer about the SM's clock, and about no other."""

    def answer(kind: int) -> int:
        assert kind == pynvml.NVML_CLOCK_SM
        return megahertz

    return answer


def gpu(uuid: str = "GPU-aa11", **changes: Any) -> FakeGpu:
    """A whole GPU that answers everything."""
    answers = {
        "nvmlDeviceGetName": NAME,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * 2**30),
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        "nvmlDeviceGetMaxClockInfo": clock(1980),
        "nvmlDeviceGetClockInfo": clock(1755),
        "nvmlDeviceGetTemperature": lambda sensor: {pynvml.NVML_TEMPERATURE_GPU: 41}[sensor],
        "nvmlDeviceGetFieldValues": field_value(312_500),
        "nvmlDeviceGetPowerUsage": 298_000,
        "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlClocksEventReasonSwPowerCap,
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37, memory=5),
        "nvmlDeviceGetComputeRunningProcesses": [],
        "nvmlDeviceGetMigMode": [pynvml.NVML_DEVICE_MIG_DISABLE, pynvml.NVML_DEVICE_MIG_DISABLE],
    }
    return FakeGpu(uuid, answers | changes)


def divided() -> FakeGpu:
    """A GPU in MIG mode whose first slice belongs to somebody else."""
    whole = gpu("GPU-dd44", nvmlDeviceGetMigMode=MIG_ON)
    answers = {
        "nvmlDeviceGetName": f"{NAME} MIG 1g.10gb",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=10 * 2**30),
    }
    whole.slices = [None, FakeGpu("MIG-ee55", dict(answers), parent=whole)]
    whole.slices.append(FakeGpu("MIG-ff66", dict(answers), parent=whole))
    return whole


@pytest.fixture(autouse=True)
def everything_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine that runs the tests has set."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_device_with_all_that_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gpu())
    assert devices() == [WHOLE]


@pytest.mark.parametrize("error", [NOT_SUPPORTED, NO_PERMISSION], ids=str)
@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("nvmlDeviceGetUUID", {"uuid": None}),
        ("nvmlDeviceGetMemoryInfo", {"memory": None}),
        ("nvmlDeviceGetEnforcedPowerLimit", {"power_limit": None}),
        ("nvmlDeviceGetMaxClockInfo", {"sm_clock_max": None}),
        ("nvmlDeviceGetMigMode", {}),
        ("nvmlDeviceGetName", {"name": "NVIDIA device without a name"}),
    ],
)
def test_one_thing_not_told_hides_nothing_else(
    monkeypatch: pytest.MonkeyPatch, query: str, missing: dict[str, Any], error: pynvml.NVMLError
) -> None:
    install(monkeypatch, gpu(**{query: error}))
    assert devices() == [WHOLE.model_copy(update=missing)]


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [
        (None, "GPU-aa11"),
        ("0", "GPU-aa11"),
        ("1", "GPU-bb22"),
        ("1,0", "GPU-bb22"),
        (" 1 , 0", "GPU-bb22"),
        ("0,-1", "GPU-aa11"),
        ("GPU-bb22", "GPU-bb22"),
        ("GPU-bb22,GPU-aa11", "GPU-bb22"),
        ("GPU-b", "GPU-bb22"),
        ("2", "MIG-ee55"),
        ("GPU-dd44", "MIG-ee55"),
        ("MIG-ff66", "MIG-ff66"),
    ],
)
def test_the_device_is_the_first_that_cuda_sees(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, uuid: str
) -> None:
    install(monkeypatch, gpu("GPU-aa11"), gpu("GPU-bb22"), divided())
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    [device] = devices()
    assert device.uuid == uuid
    assert device.mig == uuid.startswith("MIG")


@pytest.mark.parametrize("visible", ["", " ", "-1", "-1,0", "7", "GPU-cc33", "MIG-cc33", "nonsense"])
def test_devices_that_cuda_does_not_see_are_not_there(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    install(monkeypatch, gpu())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices() == []


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    ],
)
def test_without_a_driver_that_answers_there_is_no_device(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(code)

    install(monkeypatch, gpu())
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert devices() == []


def test_a_slice_has_its_own_memory_and_its_gpus_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, divided())
    [device] = devices()
    assert device == Device(
        name=f"{NAME} MIG 1g.10gb",
        uuid="MIG-ee55",
        driver="570.1",
        memory=10 * 2**30,
        power_limit=700.0,
        sm_clock_max=1.98e9,
        mig=True,
    )


def test_a_divided_gpu_whose_slices_are_hidden_is_no_whole_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gpu(nvmlDeviceGetMigMode=MIG_ON))
    assert devices() == [WHOLE.model_copy(update={"mig": True})]


STATE = {
    "sm_clock": 1.755e9,
    "temperature": 41.0,
    "power": 312.5,
    "clock_events": float(pynvml.nvmlClocksEventReasonSwPowerCap),
}


def test_the_state_is_in_si_units(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gpu(), divided())
    assert gpu_state(visible_device()) == STATE
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-ff66")
    assert gpu_state(visible_device()) == STATE


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("nvmlDeviceGetClockInfo", "sm_clock"),
        ("nvmlDeviceGetTemperature", "temperature"),
        ("nvmlDeviceGetCurrentClocksEventReasons", "clock_events"),
    ],
)
def test_a_state_that_is_not_told_is_none(monkeypatch: pytest.MonkeyPatch, query: str, key: str) -> None:
    install(monkeypatch, gpu(**{query: NOT_SUPPORTED}))
    assert gpu_state(visible_device()) == {**STATE, key: None}


def test_power_is_the_drivers_mean_where_there_is_no_instantaneous_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = field_value(0, pynvml.NVML_ERROR_NOT_SUPPORTED)
    install(monkeypatch, gpu(nvmlDeviceGetFieldValues=older))
    assert gpu_state(visible_device()) == {**STATE, "power": 298.0}
    install(monkeypatch, gpu(nvmlDeviceGetFieldValues=older, nvmlDeviceGetPowerUsage=NO_PERMISSION))
    assert gpu_state(visible_device()) == {**STATE, "power": None}


def test_clock_events_have_another_name_in_older_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    older = {"nvmlDeviceGetCurrentClocksThrottleReasons": pynvml.nvmlClocksThrottleReasonHwSlowdown}
    install(monkeypatch, gpu(nvmlDeviceGetCurrentClocksEventReasons=missing, **older))
    assert gpu_state(visible_device())["clock_events"] == pynvml.nvmlClocksThrottleReasonHwSlowdown


def test_utilisation_is_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gpu(), gpu("GPU-bb22", nvmlDeviceGetUtilizationRates=NOT_SUPPORTED))
    assert utilisation(visible_device()) == 0.37
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert utilisation(visible_device()) is None


def test_our_own_processes_are_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        pids = [os.getpid(), child.pid, os.getppid()]
        running = [SimpleNamespace(pid=pid, usedGpuMemory=2**20) for pid in pids]
        for known, others in ((0, 0), (1, 0), (2, 0), (3, 1)):
            install(monkeypatch, gpu(nvmlDeviceGetComputeRunningProcesses=running[:known]))
            assert other_processes(visible_device()) == others
        child.communicate(b"\n")


def test_processes_of_another_namespace_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    running = [SimpleNamespace(pid=gone.pid, usedGpuMemory=None)]
    install(monkeypatch, gpu(nvmlDeviceGetComputeRunningProcesses=running))
    assert other_processes(visible_device()) is None
    install(monkeypatch, gpu(nvmlDeviceGetComputeRunningProcesses=NO_PERMISSION))
    assert other_processes(visible_device()) is None


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="an NVIDIA driver is here")
def test_on_this_machine_without_a_driver_there_is_no_device() -> None:
    assert devices() == []
