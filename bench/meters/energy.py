"""Energy of a window of work, from the best source this machine has.

In order: NVML's energy counter for work on a GPU, RAPL's for the CPU package, else codecarbon's model of
the machine's power, which is marked `estimated`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.meters.findings import Findings
from bench.meters.subject import synchronise
from bench.nouns.measurement import measured

RAPL = Path("/sys/class/powercap")
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Energy:
    """What a window used. `joules` is gross: what the device or machine drew, idle power included."""

    joules: float
    source: str
    estimated: bool


class EnergyMeter(Protocol):
    """`begin` opens a window, `end` closes it and says what was used since."""

    def begin(self) -> None: ...

    def end(self) -> Energy: ...


class NvmlEnergy:
    """The GPU's own energy counter (mJ since the driver was loaded)."""

    def __init__(self) -> None:
        import pynvml

        from bench.meters.nvml import visible_device

        self._read = pynvml.nvmlDeviceGetTotalEnergyConsumption
        self._device = visible_device()
        self._read(self._device)

    def begin(self) -> None:
        synchronise("cuda")
        self._before = self._read(self._device)

    def end(self) -> Energy:
        synchronise("cuda")
        joules = (self._read(self._device) - self._before) / 1000
        return Energy(joules, "NVML energy counter, GPU only", estimated=False)


class RaplEnergy:
    """The CPU packages' energy counters (µJ, wrapping at `max_energy_range_uj`)."""

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self._read()

    def _read(self) -> list[int]:
        return [int((package / "energy_uj").read_text()) for package in self._packages]

    def begin(self) -> None:
        self._before = self._read()

    def end(self) -> Energy:
        used = 0
        for package, before, after in zip(self._packages, self._before, self._read(), strict=True):
            wraps_at = int((package / "max_energy_range_uj").read_text())
            used += (after - before) % wraps_at
        return Energy(used / 1e6, "RAPL, CPU packages", estimated=False)


class ModelledEnergy:
    """codecarbon's model: CPU load times rated power plus a constant for memory."""

    def __init__(self) -> None:
        logging.getLogger("codecarbon").disabled = True
        from codecarbon import OfflineEmissionsTracker

        self._tracker: Any = OfflineEmissionsTracker(
            country_iso_code="IND",  # only its energy is used, so any country will do
            output_methods=[],
            allow_multiple_runs=True,
            log_level="critical",
            measure_power_secs=1,
            tracking_mode="machine",
        )
        self._tracker.start()

    def begin(self) -> None:
        self._tracker.start_task("window")

    def end(self) -> Energy:
        import codecarbon

        used = self._tracker.stop_task("window").energy_consumed * JOULES_PER_KWH
        return Energy(used, f"codecarbon {codecarbon.__version__}, modelled", estimated=True)


def open_energy_meter(device: str) -> EnergyMeter:
    """The best meter for work on `device`, started and ready. May take seconds; open it before timing."""
    if device == "cuda":
        import pynvml

        try:
            return NvmlEnergy()
        except pynvml.NVMLError:
            return ModelledEnergy()
    packages = sorted(package for package in RAPL.glob("intel-rapl:*") if package.name.count(":") == 1)
    try:
        return RaplEnergy(packages) if packages else ModelledEnergy()
    except OSError:
        return ModelledEnergy()


def energy_findings(name: str, energy: Energy, units: int = 1) -> Findings:
    """The window's energy under `name`, divided by the `units` of work it held."""
    if energy.joules <= 0:
        return Findings(unavailable={name: f"the window was too short for {energy.source}"})
    metric = measured(name, energy.joules / units, energy.source, estimated=energy.estimated)
    return Findings(metrics={name: metric})
