"""NVIDIA's management library, through the `nvidia-ml-py` package."""

from __future__ import annotations

import os
from typing import Any

import pynvml

from bench.nouns.run import Device


def devices() -> list[Device]:
    """The NVIDIA device that a run would use; none without a driver, or where CUDA is to see none."""
    if hidden():
        return []
    try:
        pynvml.nvmlInit()
        driver = text(pynvml.nvmlSystemGetDriverVersion())
        handle = visible_device()
        return [
            Device(
                name=text(pynvml.nvmlDeviceGetName(handle)),
                uuid=text(pynvml.nvmlDeviceGetUUID(handle)),
                driver=driver,
                memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            )
        ]
    except pynvml.NVMLError:
        return []


def hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides every device."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() in ("", "-1")


def visible_device() -> Any:
    """The NVML handle of the device that torch calls cuda:0. Raises `pynvml.NVMLError`."""
    pynvml.nvmlInit()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if visible.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(visible))
    return pynvml.nvmlDeviceGetHandleByUUID(visible)


def text(value: str | bytes) -> str:
    """NVML gives bytes in older versions."""
    return value.decode() if isinstance(value, bytes) else value
