"""Where a run happens: a fingerprint of hardware and software, and what disturbed it meanwhile."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

import bench
from bench.meters.nvml import devices
from bench.nouns.run import Environment

LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "safetensors", "numpy", "codecarbon")
VARIABLES = (
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "CUDA_",
    "HF_HUB_OFFLINE",
    "TOKENIZERS_PARALLELISM",
)
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
STEAL_WORTH_SAYING = 0.02
CGROUP = Path("/sys/fs/cgroup")


def worker_environment() -> dict[str, str]:
    """The variables workers run with beyond the user's: a fixed thread count, and passive waiting.

    OpenMP threads that spin while they wait slow a throttled or shared machine down up to tenfold. One GPU
    is used, and CUDA counts devices as NVML does, so that the energy read is that of the one in use.
    """
    ours = {
        "OMP_NUM_THREADS": str(cores()),
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    one_device = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    return {name: value for name, value in ours.items() if name not in os.environ} | one_device


def cores() -> int:
    """CPU cores this process may use: those of its affinity, or fewer where a container's quota is."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(own, cpu_quota()))


def cpu_quota() -> float:
    """Cores' worth of CPU time that this control group may use; infinite without a quota."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (CGROUP / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (CGROUP / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return int(quota) / int(period) if quota.isdecimal() and int(period) else math.inf


def fingerprint() -> Environment:
    """This machine and its software, without importing torch."""
    cpu_model, flags = read_cpu()
    found = devices()
    memory = psutil.virtual_memory().total
    hardware = [cpu_model, cores(), round(memory / 2**30), [(device.name, device.memory) for device in found]]
    variables = {**os.environ, **worker_environment()}
    return Environment(
        machine_key=hashlib.sha256(json.dumps(hardware).encode()).hexdigest()[:12],
        platform=platform.platform(),
        cpu_model=cpu_model,
        cpu_cores=cores(),
        cpu_features=[feature for feature in FEATURES if feature in flags],
        virtualised="hypervisor" in flags,
        memory=memory,
        devices=found,
        versions={
            "bench": bench.__version__,
            "python": platform.python_version(),
            **{library: library_version(library) for library in LIBRARIES},
        },
        threads=thread_count(variables["OMP_NUM_THREADS"]),
        variables={name: value for name, value in sorted(variables.items()) if name.startswith(VARIABLES)},
        fp32_precision="ieee",
        commit=git_commit(),
        warnings=[],
    )


def thread_count(asked: str) -> int:
    """The outermost level of OMP_NUM_THREADS; OpenMP takes all cores where it is no number."""
    first = asked.split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else cores()


def read_cpu() -> tuple[str, set[str]]:
    """(model name, feature flags) of the first CPU."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine(), set()
    model = fields.get("model name") or platform.machine()
    return model, set((fields.get("flags") or fields.get("Features") or "").split())


def library_version(name: str) -> str:
    """A library's installed version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def git_commit() -> str | None:
    """The commit of the current folder, with `+dirty` where files were changed, or None outside git."""
    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def git(*arguments: str) -> str:
    """What a git command prints."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def precision_warnings(environment: Environment, device: str, dtypes: set[str | None]) -> list[str]:
    """What to know of the precisions in use: bfloat16 on a CPU that has no instructions for it."""
    native = NATIVE_BF16 & set(environment.cpu_features)
    if device != "cpu" or "bfloat16" not in dtypes or native or not environment.cpu_features:
        return []
    return [
        "this CPU has no bfloat16 instructions, so bfloat16 is emulated and slower than float32: judge mp on "
        "a GPU, or on a CPU with avx512_bf16 or amx_bf16"
    ]


class MachineWatch:
    """What disturbed the machine between its making and `warnings()`."""

    def __init__(self) -> None:
        self._before = cpu_times()

    def warnings(self) -> list[str]:
        """One sentence per disturbance, each with its remedy."""
        before, now = self._before, cpu_times()
        total = sum(now) - sum(before)
        stolen = (now[-1] - before[-1]) / total if total > 0 else 0.0
        if stolen < STEAL_WORTH_SAYING:
            return []
        return [
            f"{stolen:.1%} of the CPU time was taken by other guests of this host; ratios hold, absolute "
            "times are high: measure on a quiet or dedicated machine"
        ]


def cpu_times() -> tuple[float, float]:
    """(CPU seconds not stolen, CPU seconds stolen) since the machine started."""
    times = psutil.cpu_times()
    stolen = float(getattr(times, "steal", 0.0))
    return float(times.user + times.nice + times.system + times.idle), stolen
