"""Energy of a window of work, from the best source this machine has.

In order: NVML's energy counter for work on a GPU, RAPL's for the CPU package, else codecarbon's model of
the machine's power, which is marked `estimated`.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.meters.findings import Findings
from bench.meters.subject import synchronise
from bench.nouns.measurement import JOULES_PER_KWH, measured

RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Energy:
    """What a window used. `joules` is gross: what the device or machine drew, idle power included."""

    joules: float
    source: str
    estimated: bool


class EnergyMeter(Protocol):
    """`begin` opens a window, `end` closes it and says what was used since.

    A window shorter than `shortest_window_s` holds no energy that can be told.
    """

    shortest_window_s: float

    def begin(self) -> None: ...

    def end(self) -> Energy: ...


class NvmlEnergy:
    """The GPU's own energy counter (mJ since the driver was loaded), which moves in steps."""

    shortest_window_s = 10.0

    def __init__(self) -> None:
        import pynvml

        from bench.meters.nvml import visible_device

        self._read = pynvml.nvmlDeviceGetTotalEnergyConsumption
        self._device = visible_device()
        self._read(self._device)

    def begin(self) -> None:
        synchronise("cuda")
        self._before, self._began = self._read(self._device), time.perf_counter()

    def end(self) -> Energy:
        synchronise("cuda")
        long_enough = time.perf_counter() - self._began >= self.shortest_window_s
        joules = (self._read(self._device) - self._before) / 1000 if long_enough else 0.0
        return Energy(joules, "NVML energy counter, GPU only", estimated=False)


class RaplEnergy:
    """The CPU packages' energy counters (µJ, wrapping at `max_energy_range_uj`).

    A counter may wrap within minutes, so it is read every `poll_s` seconds while a window is open.
    """

    shortest_window_s = 0.0

    def __init__(self, packages: list[Path], poll_s: float = 30.0) -> None:
        self._packages, self._poll_s = packages, poll_s
        self._wraps_at = [int((package / "max_energy_range_uj").read_text()) for package in packages]
        self._used, self._before = 0, self._read()

    def _read(self) -> list[int]:
        return [int((package / "energy_uj").read_text()) for package in self._packages]

    def _add(self) -> None:
        now = self._read()
        for before, after, wraps_at in zip(self._before, now, self._wraps_at, strict=True):
            self._used += (after - before) % wraps_at
        self._before = now

    def _keep_up(self, closed: threading.Event) -> None:
        while not closed.wait(self._poll_s):
            self._add()

    def begin(self) -> None:
        self._used, self._before = 0, self._read()
        self._closed = threading.Event()
        self._poll = threading.Thread(target=self._keep_up, args=[self._closed], daemon=True)
        self._poll.start()

    def end(self) -> Energy:
        self._closed.set()
        self._poll.join()
        self._add()
        return Energy(self._used / 1e6, "RAPL, CPU packages", estimated=False)


class ModelledEnergy:
    """codecarbon's model: CPU load times rated power plus a constant for memory."""

    shortest_window_s = 0.0

    def __init__(self, device: str) -> None:
        self._device = device
        logging.getLogger("codecarbon").disabled = True
        from codecarbon import OfflineEmissionsTracker

        self._tracker: Any = OfflineEmissionsTracker(
            country_iso_code="IND",  # only its energy is used, so any country will do
            output_methods=[],
            allow_multiple_runs=True,
            log_level="critical",
            measure_power_secs=1,
            pue=1.0,
            tracking_mode="machine",
        )
        self._tracker.start()

    def begin(self) -> None:
        synchronise(self._device)
        self._tracker.start_task()

    def end(self) -> Energy:
        import codecarbon

        synchronise(self._device)
        used = self._tracker.stop_task().energy_consumed * JOULES_PER_KWH
        return Energy(used, f"codecarbon {codecarbon.__version__}, modelled", estimated=True)


def open_energy_meter(device: str) -> EnergyMeter:
    """The best meter for work on `device`, started and ready. May take seconds; open it before timing."""
    if device == "cuda":
        import pynvml

        try:
            return NvmlEnergy()
        except pynvml.NVMLError:
            return ModelledEnergy(device)
    try:
        packages = rapl_packages()
        return RaplEnergy(packages) if packages else ModelledEnergy(device)
    except OSError:
        return ModelledEnergy(device)


def rapl_packages() -> list[Path]:
    """The zones of whole CPU packages; not their parts, nor the platform (`psys`) that holds them all."""
    zones = [zone for zone in RAPL.glob("intel-rapl:*") if zone.name.count(":") == 1]
    return sorted(zone for zone in zones if (zone / "name").read_text().startswith("package"))


def energy_findings(name: str, energy: Energy, units: int = 1) -> Findings:
    """The window's energy under `name`, divided by the `units` of work it held."""
    if energy.joules <= 0:
        return Findings(unavailable={name: f"the work was too short for {energy.source}"})
    metric = measured(name, energy.joules / units, energy.source, estimated=energy.estimated)
    return Findings(metrics={name: metric})
