"""Peak memory of loading and running a model, in a process that has done nothing else.

Never mixed: resident memory of the process, what torch's CUDA allocator gave out and what it reserved for
that, and the process's memory on the device as NVML sees it.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.meters.findings import Findings
from bench.nouns.measurement import measured

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
ON_CUDA = ("peak_memory_allocator", "peak_memory_reserved", "peak_memory_device")


class MemoryWindow:
    """Opened before a model is loaded, closed after it has run."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cuda":
            import torch

            torch.zeros(1, device="cuda")  # opens CUDA's context, which is no part of the model
            torch.cuda.reset_peak_memory_stats()
        self.before = self._reset_host_peak()

    def _reset_host_peak(self) -> int | str:
        """Resident bytes now, the kernel's high-water mark brought down to them; or why that cannot be."""
        try:
            CLEAR_REFS.write_text(RESET_PEAK)
            return status_bytes("VmRSS")
        except OSError as error:
            return f"the kernel's peak cannot be reset here ({error.strerror})"

    def close(self) -> Findings:
        """The peaks since the window was opened."""
        findings = Findings()
        if isinstance(self.before, str):
            findings.unavailable["peak_memory_host"] = self.before
        else:
            peak = status_bytes("VmHWM") - self.before
            source = "VmHWM less VmRSS before loading"
            findings.metrics["peak_memory_host"] = measured("peak_memory_host", peak, source)
        if self.device == "cuda":
            return findings.add(cuda_peaks())
        findings.unavailable |= dict.fromkeys(ON_CUDA, "needs a CUDA device")
        return findings


def status_bytes(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def cuda_peaks() -> Findings:
    """The allocator's peaks, and this process's memory on the device now."""
    import torch

    given, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    findings = Findings(
        metrics={
            "peak_memory_allocator": measured("peak_memory_allocator", given, "max_memory_allocated"),
            "peak_memory_reserved": measured("peak_memory_reserved", reserved, "max_memory_reserved"),
        }
    )
    used = device_memory()
    if isinstance(used, str):
        findings.unavailable["peak_memory_device"] = used
    else:
        findings.metrics["peak_memory_device"] = measured("peak_memory_device", used, "NVML, per process")
    return findings


def device_memory() -> int | str:
    """Bytes this process holds on the first visible device, or why NVML does not say."""
    import pynvml

    from bench.meters.nvml import visible_device

    try:
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(visible_device())
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    own = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    if not own or own[0] is None:
        return "NVML does not list this process (another process namespace)"
    return int(own[0])
