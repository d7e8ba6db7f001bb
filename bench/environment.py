"""Where a run happens: a fingerprint of hardware, software and settings, and what of it is a handicap."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import psutil

import bench
from bench.meters.nvml import device_count, devices
from bench.nouns.environment import ABSENT, Caution, Environment

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "safetensors",
    "numpy",
    "scipy",
    "codecarbon",
)
# Modules that only some variants import, and that need not be installed.
EXTRAS = ("torchao", "onnx", "onnxruntime", "onnxscript")
# The packages that carry them, newest first; torch's CPU builds come without.
CUDA_LIBRARIES = {
    "cuda": ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"),
    "cudnn": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
}
VARIABLES = (
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "CUDA_",
    "TORCH_",
    "TORCHINDUCTOR_",
    "ATEN_",
    "CUBLAS_",
    "CXX",
    "DNNL_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "MALLOC_",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "HF_HUB_OFFLINE",
    "TOKENIZERS_PARALLELISM",
)
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
# By any of these the user says how OpenMP's threads wait.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# By this the workers, who see one GPU, know of the others.
GPUS = "BENCH_GPUS"
CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
CPUS = Path("/sys/devices/system/cpu")


def worker_environment() -> dict[str, str]:
    """The variables workers run with beyond the user's: a fixed thread count, and how threads wait.

    OpenMP threads that spin while they wait slow a throttled or shared machine down up to tenfold; where
    the machine is ours alone they react faster, so there OpenMP's own default stays. One GPU is used, but
    for a training by several processes, which finds all of them named, too; CUDA counts devices as NVML does,
    so that the energy read is that of the one in use. What a run needs of a hub is here before the first
    worker starts, and no worker asks for more. Python imports nothing from the working folder, which may hold
    a stranger's files.
    """
    ours = {
        "OMP_NUM_THREADS": str(cores()),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "HF_HUB_OFFLINE": "1",
        "PYTHONSAFEPATH": "1",
        GPUS: ",".join(gpus()),
    }
    if is_shared() and not any(name in os.environ for name in WAITING):
        ours["OMP_WAIT_POLICY"] = "PASSIVE"
    one_device = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    return {name: value for name, value in ours.items() if name not in os.environ} | one_device


def gpus() -> list[str]:
    """The GPUs that a run may use, as `CUDA_VISIBLE_DEVICES` names them; a worker sees one of them."""
    named = os.environ.get(GPUS, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if named is None:
        return [str(number) for number in range(device_count())]
    return [name for name in named.split(",") if name]


def is_shared() -> bool:
    """Whether CPU time can be held back from us: on a virtual machine, or under a quota."""
    return is_virtual(read_cpu()[1]) or math.isfinite(cpu_quota())


def is_virtual(flags: set[str]) -> bool:
    """Whether a CPU with these flags is a hypervisor's; only x86 tells."""
    return "hypervisor" in flags


def affinity() -> list[int]:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cores() -> int:
    """CPU cores this process may use: those of its affinity, or fewer where a container's quota is."""
    return math.ceil(min(len(affinity()), cpu_quota()))


def cpu_quota() -> float:
    """Cores' worth of CPU time that this process's control groups grant; infinite without a quota."""
    return min(map(quota_of, cpu_groups()), default=math.inf)


def limiting_group() -> Path | None:
    """The folder of the control group whose quota is the least, None without a quota."""
    group = min(cpu_groups(), key=quota_of, default=None)
    return group if group and math.isfinite(quota_of(group)) else None


def cpu_groups() -> list[Path]:
    """Folders of the control groups that limit this process's CPU time, of either version, innermost first.

    A group's quota holds for all below it, so those above count too.
    """
    groups: list[Path] = []
    for line in read_lines(OWN_CGROUPS):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = CGROUP / "cpu" if controllers else CGROUP
        own = mount / path.lstrip("/")
        groups += [folder for folder in (own, *own.parents) if folder.is_relative_to(mount)]
    return groups


def quota_of(group: Path) -> float:
    """Cores' worth of CPU time that a control group of either version grants; infinite without a quota."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        quota = "".join(read_lines(group / "cpu.cfs_quota_us"))
        period = "".join(read_lines(group / "cpu.cfs_period_us"))
    limited = quota.isdecimal() and period.isdecimal() and int(period) > 0
    return int(quota) / int(period) if limited else math.inf


def frequency_governor() -> str | None:
    """What sets the clock of the CPUs in use (all kinds, where they differ); None where none is shown."""
    kinds = {line for cpu in affinity() for line in read_lines(CPUS / f"cpu{cpu}/cpufreq/scaling_governor")}
    return ", ".join(sorted(kinds)) or None


def load_average() -> float:
    """The one-minute load average, for each core of the machine."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def fingerprint() -> Environment:
    """This machine, its software and settings, without importing torch. Nothing is warned of yet."""
    cpu_model, flags = read_cpu()
    found = devices()
    memory = psutil.virtual_memory().total
    quota = cpu_quota()
    hardware = [
        [cpu_model, sorted(flags.intersection(FEATURES)), is_virtual(flags), cores(), str(quota)],
        round(memory / 2**30),
        [[device.name, device.memory, device.mig] for device in found],
    ]
    variables = {**os.environ, **worker_environment()}
    return Environment(
        machine_key=hashlib.sha256(json.dumps(hardware).encode()).hexdigest()[:12],
        platform=platform.platform(),
        cpu_model=cpu_model,
        cpu_cores=cores(),
        cpu_features=[feature for feature in FEATURES if feature in flags],
        cpu_quota=quota if math.isfinite(quota) else None,
        affinity=affinity(),
        governor=frequency_governor(),
        load=load_average(),
        virtualised=is_virtual(flags),
        memory=memory,
        devices=found,
        versions={
            "bench": bench.__version__,
            "python": platform.python_version(),
            **{library: library_version(library) or ABSENT for library in LIBRARIES},
            **{module: module_version(module) for module in EXTRAS},
            **cuda_versions(),
        },
        threads=thread_count(variables["OMP_NUM_THREADS"]),
        variables={
            name: value
            for name, value in sorted(variables.items())
            # Which GPU it is says its UUID: a cluster gives one row this one, the next another.
            if name.startswith(VARIABLES) and name != "CUDA_VISIBLE_DEVICES"
        },
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
    for line in read_lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    model = fields.get("model name") or platform.processor() or platform.machine()
    return model, set((fields.get("flags") or fields.get("Features") or "").split())


def read_lines(path: Path) -> list[str]:
    """The lines of one of the kernel's files, none where it is not there."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def library_version(name: str) -> str | None:
    """A library's installed version, None where it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def module_version(module: str) -> str:
    """The installed version of what carries a module, whatever that is called: onnxruntime-gpu, for one."""
    carriers = sorted(set(distributions().get(module, [])))
    return ", ".join(map(version, carriers)) or ABSENT


@cache
def distributions() -> Mapping[str, list[str]]:
    """The installed distributions by the modules they carry; looking takes a good part of a second."""
    return packages_distributions()


def cuda_versions() -> dict[str, str]:
    """Versions of the CUDA libraries that came with torch."""
    found = {library: list(map(library_version, names)) for library, names in CUDA_LIBRARIES.items()}
    return {library: next(filter(None, versions)) for library, versions in found.items() if any(versions)}


def git_commit() -> str | None:
    """The commit of the current folder, or None outside git.

    `+dirty` follows where files were changed, `+unchecked` where to see that git would run programs on them
    that the repository itself names.
    """
    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        if names_filters(git("config", "--show-scope", "--name-only", "--list")):
            return commit + "+unchecked"
        looked = git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
        return commit + ("+dirty" if looked else "")
    except (OSError, subprocess.SubprocessError):
        return None


def names_filters(settings: str) -> bool:
    """Whether any of git's settings that are a repository's own is a program to run on its files."""
    lines = (line.partition("\t") for line in settings.lower().split("\n"))
    return any(
        name.startswith("filter.") and name.endswith((".clean", ".process"))
        for scope, _, name in lines
        if scope not in {"system", "global", "command"}
    )


def git(*arguments: str) -> str:
    """What a git command prints that changes nothing, without what a repository may name to be run.

    That is a monitor of its files, or what fetches those that it lacks.
    """
    plain = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false"]
    apart = {**os.environ, "GIT_ALLOW_PROTOCOL": ""}
    done = subprocess.run(
        [*plain, *arguments], env=apart, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def setting_cautions(environment: Environment) -> list[Caution]:
    """What of the machine's settings makes times less sure: threads beyond a quota, a clock that changes."""
    found = []
    quota = environment.cpu_quota
    if quota is not None and environment.threads > quota:
        found.append(
            Caution(
                code="quota",
                text=f"the CPU quota grants {quota:g} cores' worth of time, and there are "
                f"{environment.threads} threads: once it is used up, all are halted",
                remedy=quota_remedy(quota),
            )
        )
    if environment.governor not in (None, "performance"):
        found.append(
            Caution(
                code="governor",
                text=f"the frequency governor is {environment.governor}, so the clock follows the load",
                remedy="cpupower frequency-set -g performance",
            )
        )
    return found


def quota_remedy(quota: float) -> str:
    """What to do about a quota (in cores): raise it, or use no more threads than it keeps running, if any."""
    raised = "raise the container's CPU limit"
    return f"{raised}, or set OMP_NUM_THREADS={math.floor(quota)}" if quota >= 1 else raised


def precision_cautions(environment: Environment, device: str, dtypes: set[str | None]) -> list[Caution]:
    """What to know of the precisions in use: bfloat16 on a CPU that has no instructions for it."""
    native = NATIVE_BF16 & set(environment.cpu_features)
    if device != "cpu" or "bfloat16" not in dtypes or native or not environment.cpu_features:
        return []
    return [
        Caution(
            code="emulated-precision",
            text="this CPU has no bfloat16 instructions, so bfloat16 is emulated and slower than float32",
            remedy="judge mp on a GPU, or on a CPU with avx512_bf16 or amx_bf16",
        )
    ]
