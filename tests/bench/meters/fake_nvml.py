"""NVML as it answers on machines that are not here: the functions of `pynvml`, with its own errors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pynvml
import pytest

Answers = dict[str, Any]


@dataclass
class FakeGpu:
    """A GPU or a slice of one; what it has no answer to is not supported.

    `answers` by function: a value, a function of the further arguments, or an error.
    """

    uuid: str
    answers: Answers = field(default_factory=dict)
    slices: list[FakeGpu | None] = field(default_factory=list)
    parent: FakeGpu | None = None

    def __post_init__(self) -> None:
        self.answers.setdefault("nvmlDeviceGetUUID", self.uuid)
        self.answers["nvmlDeviceIsMigDeviceHandle"] = ctypes.c_uint(self.parent is not None)
        if self.parent is not None:
            self.answers["nvmlDeviceGetDeviceHandleFromMigDeviceHandle"] = self.parent
        self.answers["nvmlDeviceGetMaxMigDeviceCount"] = lambda: len(self.slices)
        self.answers["nvmlDeviceGetMigDeviceHandleByIndex"] = self._slice

    def _slice(self, number: int) -> FakeGpu:
        found = self.slices[number]
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found


def install(monkeypatch: pytest.MonkeyPatch, *gpus: FakeGpu) -> None:
    """Make `pynvml` answer for these GPUs."""

    def by_index(index: int) -> FakeGpu:
        if index >= len(gpus):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return gpus[index]

    def by_uuid(uuid: str) -> FakeGpu:
        for gpu in gpus:
            for device in (gpu, *gpu.slices):
                if device is not None and device.uuid == uuid:
                    return device
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    for name in dir(pynvml):
        if name.startswith("nvmlDevice"):
            monkeypatch.setattr(pynvml, name, asking(name))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "570.1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(gpus))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", by_index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)


def asking(name: str) -> Callable[..., Any]:
    """The function of this name."""

    def ask(gpu: FakeGpu, *arguments: Any) -> Any:
        answer = gpu.answers.get(name, pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED))
        if isinstance(answer, Exception):
            raise answer
        return answer(*arguments) if callable(answer) else answer

    return ask


def field_value(milliwatts: int, code: int = pynvml.NVML_SUCCESS) -> Callable[[list[int]], list[Any]]:
    """What `nvmlDeviceGetFieldValues` answers when asked for the instantaneous power alone."""

    def answer(fields: list[int]) -> list[Any]:
        assert fields == [pynvml.NVML_FI_DEV_POWER_INSTANT]
        value = pynvml.c_nvmlFieldValue_t()
        value.nvmlReturn, value.value.uiVal = code, milliwatts
        return [value]

    return answer
