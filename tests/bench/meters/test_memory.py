"""Peak memory, in fresh processes that allocate known amounts."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pynvml
import pytest

from bench.meters import memory
from bench.meters.findings import Findings
from bench.meters.memory import MemoryWindow, device_memory
from tests.bench.meters.fake_nvml import FakeGpu, install

MB = 2**20

MEASURE = """
import sys
from bench.meters.memory import MemoryWindow

MB = 2**20
{before}
window = MemoryWindow("cpu")
{within}
findings = window.close()
{after}
print(findings.model_dump_json())
"""


def measure(before: str = "", within: str = "", after: str = "") -> Findings:
    """What a window sees in a process that runs these statements around it."""
    script = MEASURE.format(before=before, within=within, after=after)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return Findings.model_validate_json(done.stdout)


needs_peak = pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="needs Linux's /proc/self/clear_refs")


@needs_peak
@pytest.mark.parametrize("within", ["held = bytearray(b'x') * (64 * MB)", "bytearray(b'x') * (64 * MB)"])
def test_a_peak_is_seen_whether_or_not_it_is_still_there(within: str) -> None:
    found = measure(within=within)
    assert found.metrics["peak_memory_host"].value == pytest.approx(64 * MB, rel=0.2)
    assert found.metrics["peak_memory_host"].unit == "B"


@needs_peak
def test_what_was_before_and_after_is_no_part_of_it() -> None:
    big = "bytearray(b'x') * (200 * MB)"
    found = measure(before=f"held = {big}; {big}", within="own = bytearray(b'x') * (64 * MB)", after=big)
    assert found.metrics["peak_memory_host"].value == pytest.approx(64 * MB, rel=0.2)


@needs_peak
def test_nothing_done_is_nothing_used() -> None:
    assert measure().metrics["peak_memory_host"].value < 4 * MB


PARENT = f"""
import subprocess, sys
held = bytearray(b"x") * (300 * {MB})
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


@needs_peak
def test_the_peak_of_a_parent_that_starts_us_is_not_ours() -> None:
    script = MEASURE.format(before="", within="own = bytearray(b'x') * (64 * MB)", after="")
    parent = [sys.executable, "-c", PARENT, script]
    done = subprocess.run(parent, capture_output=True, text=True, check=True)
    found = Findings.model_validate_json(done.stdout)
    assert found.metrics["peak_memory_host"].value == pytest.approx(64 * MB, rel=0.2)


FORK = """
import os
held = bytearray(b'x') * (300 * MB)
del held
if os.fork():
    os.wait()
    os._exit(0)
"""


@needs_peak
def test_the_peak_of_a_parent_that_forks_us_is_not_ours() -> None:
    found = measure(before=FORK, within="own = bytearray(b'x') * (64 * MB)")
    assert found.metrics["peak_memory_host"].value == pytest.approx(64 * MB, rel=0.2)


def test_device_memory_needs_a_device() -> None:
    names = {"peak_memory_allocator", "peak_memory_reserved", "peak_memory_device"}
    found = MemoryWindow("cpu").close()
    assert found.unavailable.keys() - {"peak_memory_host"} == names
    assert {found.unavailable[name] for name in names} == {"needs a CUDA device"}


@pytest.mark.parametrize(
    ("listed", "memory"),
    [
        ([(os.getppid(), 7 * MB), (os.getpid(), 300 * MB)], 300 * MB),
        ([(os.getppid(), 7 * MB)], "NVML does not list this process (another process namespace)"),
        ([(os.getpid(), None)], "NVML does not list this process (another process namespace)"),
        (pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION), "NVML: Insufficient Permissions"),
    ],
)
def test_device_memory_is_this_processs_own(
    monkeypatch: pytest.MonkeyPatch, listed: list[tuple[int, int | None]] | Exception, memory: int | str
) -> None:
    answer: object = listed
    if isinstance(listed, list):
        answer = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in listed]
    install(monkeypatch, FakeGpu("GPU-aa11", {"nvmlDeviceGetComputeRunningProcesses": answer}))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_memory() == memory


def test_without_a_kernel_that_resets_the_peak_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CLEAR_REFS", memory.CLEAR_REFS.with_name("no_such_file"))
    found = MemoryWindow("cpu").close()
    assert found.metrics == {}
    assert "cannot be reset" in found.unavailable["peak_memory_host"]
