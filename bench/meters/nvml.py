"""NVIDIA's management library, through the `nvidia-ml-py` package.

Whatever a GPU, its driver or the permissions do not give is None here, each on its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import psutil
import pynvml

from bench.nouns.environment import Device


def devices() -> list[Device]:
    """The NVIDIA device that a run would use; none without a driver, or where CUDA is to see none."""
    if hidden():
        return []
    try:
        handle = visible_device()
    except pynvml.NVMLError:
        return []
    gpu = whole_gpu(handle)
    memory = ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return [
        Device(
            name=text(ask(pynvml.nvmlDeviceGetName, handle)) or "NVIDIA device without a name",
            uuid=text(ask(pynvml.nvmlDeviceGetUUID, handle)),
            driver=text(ask(pynvml.nvmlSystemGetDriverVersion)),
            memory=None if memory is None else int(memory.total),
            power_limit=quantity(1e-3, pynvml.nvmlDeviceGetEnforcedPowerLimit, gpu),
            sm_clock_max=quantity(1e6, pynvml.nvmlDeviceGetMaxClockInfo, gpu, pynvml.NVML_CLOCK_SM),
            mig=is_mig(handle),
        )
    ]


def device_count() -> int:
    """The GPUs of this machine; none where a run would use none."""
    return pynvml.nvmlDeviceGetCount() if devices() else 0


def hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides every device."""
    return visible() in ("", "-1")


def visible() -> str:
    """What CUDA_VISIBLE_DEVICES names first: an index, a UUID or the beginning of one."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()


def visible_device() -> Any:
    """The NVML handle of the device that torch calls cuda:0, a GPU or a MIG slice. Raises `NVMLError`."""
    pynvml.nvmlInit()
    return device_named(visible())


def device_named(name: str) -> Any:
    """The NVML handle of the device that CUDA_VISIBLE_DEVICES names so. Raises `NVMLError`."""
    return first_slice(
        pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else handle_by_uuid(name)
    )


def uuid_of(name: str) -> str | None:
    """The UUID of the device that CUDA_VISIBLE_DEVICES names so, which all processes know it by."""
    try:
        pynvml.nvmlInit()
        return text(ask(pynvml.nvmlDeviceGetUUID, device_named(name)))
    except pynvml.NVMLError:
        return None


def handle_by_uuid(uuid: str) -> Any:
    """The GPU or MIG slice of this UUID; CUDA takes a GPU's beginning for it too. Raises `NVMLError`."""
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        for number in range(pynvml.nvmlDeviceGetCount()):
            gpu = pynvml.nvmlDeviceGetHandleByIndex(number)
            if (text(ask(pynvml.nvmlDeviceGetUUID, gpu)) or "").startswith(uuid):
                return gpu
        raise


def first_slice(handle: Any) -> Any:
    """The first MIG slice of a GPU that is divided, which is what CUDA uses of it; else `handle` itself."""
    count = ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) if is_divided(handle) else 0
    slices = (ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, n) for n in range(count or 0))
    return next((found for found in slices if found is not None), handle)


def is_divided(handle: Any) -> bool:
    """Whether this is a GPU whose MIG mode is on."""
    modes = ask(pynvml.nvmlDeviceGetMigMode, handle)
    return modes is not None and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def is_mig(handle: Any) -> bool:
    """Whether this is a slice of a GPU, or a divided GPU of which we may not see the slice."""
    return bool(ask(pynvml.nvmlDeviceIsMigDeviceHandle, handle)) or is_divided(handle)


def whole_gpu(handle: Any) -> Any:
    """The GPU a MIG slice is cut from, which alone has clocks and a temperature; a GPU is itself."""
    parent = ask(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle)
    return handle if parent is None else parent


def gpu_state(handle: Any) -> dict[str, float | None]:
    """The whole GPU's SM clock (Hz), temperature (°C), power (W), and NVML's bit mask of clock events."""
    gpu = whole_gpu(handle)
    events = ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, gpu)
    if events is None:  # its name before driver 535
        events = ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, gpu)
    power = ask(instant_power, gpu)
    return {
        "sm_clock": quantity(1e6, pynvml.nvmlDeviceGetClockInfo, gpu, pynvml.NVML_CLOCK_SM),
        "temperature": quantity(1.0, pynvml.nvmlDeviceGetTemperature, gpu, pynvml.NVML_TEMPERATURE_GPU),
        "power": ask(average_power, gpu) if power is None else power,
        "clock_events": None if events is None else float(events),
    }


def utilisation(handle: Any) -> float | None:
    """Share of the last moments (a second at most) in which a kernel ran."""
    rates = ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return None if rates is None else rates.gpu / 100


def other_processes(handle: Any) -> int | None:
    """Processes that compute on the device besides this one and its children.

    None where NVML does not tell, or counts in another process namespace, where ours looks like another's.
    """
    processes = ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
    if processes is None:
        return None
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    others = {process.pid for process in processes} - ours
    return len(others) if all(psutil.pid_exists(pid) for pid in others) else None


def instant_power(gpu: Any) -> float:
    """What the GPU draws at this moment, in W. Raises `NVMLError`, as where there are averages only."""
    [field] = pynvml.nvmlDeviceGetFieldValues(gpu, [pynvml.NVML_FI_DEV_POWER_INSTANT])
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(field.nvmlReturn)
    return field.value.uiVal / 1000


def average_power(gpu: Any) -> float:
    """What the GPU drew in the last second (at once, up to A100), in W. Raises `NVMLError`."""
    return pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000


def ask(query: Callable[..., Any], *arguments: Any) -> Any:
    """NVML's answer, or None where it has none."""
    try:
        return query(*arguments)
    except pynvml.NVMLError:
        return None


def quantity(unit: float, query: Callable[..., Any], *arguments: Any) -> float | None:
    """NVML's answer times its unit, or None where it has none."""
    answer = ask(query, *arguments)
    return None if answer is None else answer * unit


def text(value: str | bytes | None) -> str | None:
    """NVML gives bytes in older versions."""
    return value.decode() if isinstance(value, bytes) else value
