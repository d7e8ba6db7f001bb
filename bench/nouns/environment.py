"""Where a run happened: hardware, software, what disturbed it, and how finely it can measure."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Literal

from pydantic import Field

from bench.nouns.document import Count, Document

ABSENT = "absent"  # the version of a library that is not installed
WarningCode = Literal[
    "steal",
    "throttling",
    "quota",
    "governor",
    "load",
    "spinning",
    "busy-gpu",
    "gpu-throttling",
    "power-cap",
    "emulated-precision",
    "further-training",
    "smaller-batch",
    "several-machines",
    "no-locks",
]


class Caution(Document):
    """Something that makes figures less sure, with what it was seen by and what to do about it."""

    code: WarningCode
    text: str
    remedy: str


class Device(Document):
    """One accelerator as NVML names it. `memory` in bytes, `power_limit` in W, `sm_clock_max` in Hz.

    `mig` is true for a slice of a GPU.
    """

    name: str
    uuid: str | None = None
    driver: str | None = None
    memory: Count | None = None
    power_limit: float | None = None
    sm_clock_max: float | None = None
    mig: bool = False


class NoiseFloor(Document):
    """What differences this machine shows where there are none, as shares (0.02 is 2 %).

    95th percentiles of A/A trials: `paired` of a speed-up within one run, `between` of an absolute time
    in separate runs. `false_alarms` counts the trials that the usual margin calls faster or slower.
    `budget`, `protocol_version` and `torch` (a version) are what the trials ran with. `trials` is 0 and
    all of these and `measured_at` None where nobody calibrated and these are starting values.
    """

    paired: float
    between: float
    trials: Count = 0
    false_alarms: Count | None = None
    budget: str | None = None
    protocol_version: Count | None = None
    torch: str | None = None
    measured_at: datetime | None = None
    source: str


class Environment(Document):
    """Where the run happened. `machine_key` hashes the hardware part alone.

    `cpu_quota` is in cores, None without a limit; `governor` None where the kernel shows none; `load` the
    one-minute load average at the start, a core; `openmp_spin` the share of idle time that OpenMP threads
    burnt while they waited, None where no worker looked.
    """

    machine_key: str = Field(pattern=r"^[0-9a-f]{1,64}$")
    platform: str
    cpu_model: str
    cpu_cores: Count
    cpu_features: list[str]
    cpu_quota: float | None
    affinity: list[Count]
    governor: str | None
    load: float
    virtualised: bool
    memory: Count
    devices: list[Device]
    versions: dict[str, str]
    threads: Count
    variables: dict[str, str]
    fp32_precision: str
    openmp_spin: float | None = None
    noise_floor: NoiseFloor | None = None
    commit: str | None
    warnings: list[Caution]

    @property
    def measuring_key(self) -> str:
        """A hash of everything here that timings depend on besides software: machine, devices, settings."""
        devices = [device.model_dump() for device in self.devices]
        parts = [self.machine_key, self.threads, self.affinity, self.governor, self.variables, devices]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
