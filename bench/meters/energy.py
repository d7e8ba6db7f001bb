"""Energy of a window of work, net of what the idle machine draws, from the best source this machine has.

On a GPU: NVML's energy counter, else NVML's power readings, added up; both see the GPU alone. On a CPU:
RAPL's counters, else codecarbon's model of the machine's power, which is marked `estimated`.

What is measured is read in sections, whose spread gives an interval.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pynvml

from bench.errors import MeasuringError
from bench.meters.carbon import load_codecarbon
from bench.meters.findings import Findings
from bench.meters.nvml import average_power, instant_power, is_mig, visible_device
from bench.meters.rounds import synchronise
from bench.nouns.measurement import JOULES_PER_KWH, Measurement, measured
from bench.statistics import SECTIONS, t_interval

RAPL = Path("/sys/class/powercap")
IDLE_WINDOW_S = 2.0
NVML_WINDOW_S = 10.0
NVML_POLL_S = 0.1


@dataclass(frozen=True)
class Energy:
    """What was drawn while a window was open, the idle draw included."""

    joules: float
    seconds: float

    @property
    def power(self) -> float:
        """Its mean, in W."""
        return self.joules / self.seconds


class EnergyMeter(Protocol):
    """`begin` opens a window; `end` closes it and says what was drawn, or raises what the source raised.

    `source` says what is read, and why nothing better. Less than `shortest_window_s` holds no energy that can
    be told. That many seconds may be windows one right after the other, one for each of `SECTIONS`.
    """

    source: str
    estimated: bool
    shortest_window_s: float

    def begin(self) -> None: ...

    def end(self) -> Energy: ...


class NvmlCounter:
    """The GPU's own energy counter (mJ since the driver was loaded), which moves in steps."""

    source = "NVML energy counter, GPU only"
    estimated = False
    shortest_window_s = NVML_WINDOW_S

    def __init__(self, gpu: Any) -> None:
        self._gpu = gpu
        self.begin()

    def _counter(self) -> float:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu) / 1000

    def begin(self) -> None:
        self._before, self._began = self._counter(), time.perf_counter()

    def end(self) -> Energy:
        return Energy(self._counter() - self._before, time.perf_counter() - self._began)


class NvmlPower:
    """The GPU's power, read ten times a second and integrated.

    Some GPUs sense their power during a quarter of the time alone, and some average it over the last second
    (Yang, Adamek and Armour 2024, SC24), so short windows tell nothing.
    """

    estimated = False
    shortest_window_s = NVML_WINDOW_S

    def __init__(self, gpu: Any, lacking: str) -> None:
        self._gpu = gpu
        try:
            instant_power(gpu)
            self._power, kind = instant_power, "instantaneous"
        except pynvml.NVMLError:
            average_power(gpu)
            self._power, kind = average_power, "averaged by the driver"
        self.source = f"NVML power every {NVML_POLL_S} s, {kind}, GPU only ({lacking})"

    def _read(self) -> None:
        self._readings.append((time.perf_counter(), self._power(self._gpu)))

    def begin(self) -> None:
        self._readings: list[tuple[float, float]] = []
        self._read()
        self._poll = Poll(self._read, NVML_POLL_S)

    def end(self) -> Energy:
        self._poll.stop()
        self._read()
        return integral(self._readings)


def integral(readings: Sequence[tuple[float, float]]) -> Energy:
    """The energy of (time in s, power in W) readings, by the trapezoid rule."""
    joules = sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in itertools.pairwise(readings))
    return Energy(joules, readings[-1][0] - readings[0][0])


class RaplEnergy:
    """The CPU packages' energy counters (µJ, wrapping at `max_energy_range_uj`).

    A counter may wrap within minutes, so it is read every `poll_s` seconds while a window is open.
    """

    source = "RAPL, CPU packages"
    estimated = False
    shortest_window_s = 0.0

    def __init__(self, packages: list[Path], poll_s: float = 30.0) -> None:
        self._packages, self._poll_s = packages, poll_s
        self._wraps_at = [int((package / "max_energy_range_uj").read_text()) for package in packages]
        self._used, self._before = 0, self._counters()

    def _counters(self) -> list[int]:
        return [int((package / "energy_uj").read_text()) for package in self._packages]

    def _read(self) -> None:
        now = self._counters()
        for before, after, wraps_at in zip(self._before, now, self._wraps_at, strict=True):
            self._used += (after - before) % wraps_at
        self._before = now

    def begin(self) -> None:
        self._used, self._before, self._began = 0, self._counters(), time.perf_counter()
        self._poll = Poll(self._read, self._poll_s)

    def end(self) -> Energy:
        self._poll.stop()
        self._read()
        return Energy(self._used / 1e6, time.perf_counter() - self._began)


class Poll:
    """Calls `read` every `every_s` seconds in a thread, until `stop`, which raises what `read` raised."""

    def __init__(self, read: Callable[[], None], every_s: float) -> None:
        self._read, self._every_s = read, every_s
        self._stopped = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self._every_s):
                self._read()
        except Exception as error:
            self._error = error

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


class ModelledEnergy:
    """codecarbon's model: CPU load times rated power, and a constant for memory.

    Its first task takes seconds, so one is done at once. codecarbon takes what is not set here from files and
    variables of the user's; these could change the figures, and send them elsewhere.
    """

    estimated = True
    shortest_window_s = 0.0

    def __init__(self, lacking: str) -> None:
        codecarbon = load_codecarbon()
        self.source = f"codecarbon {codecarbon.__version__}, modelled ({lacking})"
        self._tracker: Any = codecarbon.OfflineEmissionsTracker(
            country_iso_code="IND",  # only its energy is used, so any country will do
            force_carbon_intensity_g_co2e_kwh=0.0,
            output_methods=[],
            allow_multiple_runs=True,
            log_level="critical",
            force_cpu_power=None,
            force_ram_power=None,
            gpu_ids=[],
            pue=1.0,
            tracking_mode="machine",
        )
        self.begin()
        self.end()

    def begin(self) -> None:
        self._began = time.perf_counter()
        self._tracker.start_task()

    def end(self) -> Energy:
        joules = self._tracker.stop_task().energy_consumed * JOULES_PER_KWH
        used = Energy(joules, time.perf_counter() - self._began)
        self._wait_for_timers()
        return used

    def _wait_for_timers(self) -> None:
        """Until nothing of codecarbon's runs: a timer cancelled as it fires would go on to start the next."""
        monitor = self._tracker._scheduler_monitor_power
        while timers := [t for t in threading.enumerate() if getattr(t, "function", None) == monitor._run]:
            monitor.stop()
            timers[0].join(0.01)


def open_energy_meter(device: str) -> EnergyMeter:
    """The best meter for work on `device`, ready to begin. May take seconds; open it before timing.

    Raises `MeasuringError` where there is none. A GPU has no model to fall back on: codecarbon asks NVML
    the same questions, and a model of the CPU would leave out what does the work.
    """
    return open_gpu_meter() if device == "cuda" else open_cpu_meter()


def open_gpu_meter() -> EnergyMeter:
    """NVML's counter, else its power readings. Raises `MeasuringError`."""
    try:
        gpu = visible_device()
    except pynvml.NVMLError as error:
        raise MeasuringError(f"NVML: {error}") from None
    if is_mig(gpu):
        raise MeasuringError("NVML tells the energy of a whole GPU, and this is a MIG slice")
    try:
        return NvmlCounter(gpu)
    except pynvml.NVMLError as error:
        lacking = f"energy counter: {error}"
    try:
        return NvmlPower(gpu, lacking)
    except pynvml.NVMLError as error:
        raise MeasuringError(f"NVML: {lacking}, power: {error}") from None


def open_cpu_meter() -> EnergyMeter:
    """RAPL, else the model, whose source says why. Raises `MeasuringError`."""
    try:
        packages = rapl_packages()
        if packages:
            return RaplEnergy(packages)
        lacking = "RAPL: none here"
    except OSError as error:
        lacking = f"RAPL: {error.strerror}"
    with naming(f"codecarbon ({lacking})"):
        return ModelledEnergy(lacking)


def rapl_packages() -> list[Path]:
    """The zones of whole CPU packages; not their parts, nor the platform (`psys`) that holds them all."""
    zones = [zone for zone in RAPL.glob("intel-rapl:*") if zone.name.count(":") == 1]
    return sorted(zone for zone in zones if (zone / "name").read_text().startswith("package"))


class EnergyWindow:
    """A window in which the machine idles, then one of work, by the same meter in the same process.

    To be opened right before the work: opening takes seconds and ends with the work's window begun. Whatever
    goes wrong leaves a reason in place of figures. `idle_time_s` is how long the machine idled for it.

    Where energy is measured, idling is read in `sections`, and so is work that has laps. What was read in
    several has a 95 % interval by their spread, with Student's t (`bench.statistics.quantile_interval`), and
    their figures as samples. Modelled energy has neither: they would say nothing of the model's error.

    The interval holds what differs between sections: rows, disturbances, and the steps in which a counter
    moves (which make it too wide rather than too narrow: what one section lacks the next has over). It does
    not hold a sensor's constant error, nor an idle draw that is another at work than before.
    """

    shortest_s = 0.0
    idle_time_s = 0.0
    sections = 1

    def __init__(self, device: str, idle_s: float = IDLE_WINDOW_S) -> None:
        self._device = device
        self._error: MeasuringError | None = None
        self._idle: Measurement | None = None
        self._work: list[Energy] = []
        self._units: list[int] = []
        try:
            self._meter = open_energy_meter(device)
            self.shortest_s = self._meter.shortest_window_s
            self.sections = 1 if self._meter.estimated else SECTIONS
            section_s = max(idle_s, self.shortest_s) / self.sections
            idle = [self._left_alone(section_s) for _ in range(self.sections)]
            joules, seconds = [section.joules for section in idle], [section.seconds for section in idle]
            self.idle_time_s = sum(seconds)
            self._idle = self._measured("idle_power", joules, seconds, self._meter.source)
            self._begin()
        except MeasuringError as error:
            self._error = error

    def _left_alone(self, seconds: float) -> Energy:
        self._begin()
        time.sleep(seconds)
        return self._end()

    def _begin(self) -> None:
        synchronise(self._device)
        with naming(self._meter.source):
            self._meter.begin()

    def _end(self) -> Energy:
        if self._error:
            raise self._error
        synchronise(self._device)
        with naming(self._meter.source):
            return self._meter.end()

    def lap(self, units: int) -> None:
        """End a section of the work, in which so many units of it were done, and begin the next."""
        try:
            self._work.append(self._end())
            self._units.append(units)
            self._begin()
        except MeasuringError as error:
            self._error = error

    def close(self, name: str, units: int = 1) -> Findings:
        """`name` net of idle and `name`_gross, both in J for one unit of work; `units` since the last lap.

        The net one's interval is that of the sections at the mean idle power, widened by the idle power's:
        the root of the squares, as for independent quantities.
        """
        gross_name = f"{name}_gross"
        try:
            self._work.append(self._end())
            self._units.append(units)
            worked_s = sum(section.seconds for section in self._work)
            if worked_s < self.shortest_s:
                raise MeasuringError(
                    f"the work took {worked_s:.1f} s, {self._meter.source} needs {self.shortest_s:g} s"
                )
            gross_j = [section.joules for section in self._work]
            if sum(gross_j) <= 0:
                raise MeasuringError(f"the work was too short for {self._meter.source}")
        except MeasuringError as error:
            return Findings(unavailable=dict.fromkeys((name, gross_name), str(error)))
        assert self._idle is not None
        source, idle_w = self._meter.source, self._idle.value
        findings = Findings(metrics={gross_name: self._measured(gross_name, gross_j, self._units, source)})
        net_j = [section.joules - idle_w * section.seconds for section in self._work]
        if sum(net_j) > 0:
            idle_reach_w = 0.0 if self._idle.ci_high is None else self._idle.ci_high - idle_w
            shared_j = idle_reach_w * worked_s / sum(self._units)
            findings.metrics[name] = self._measured(
                name, net_j, self._units, f"{source}, less idle", shared_j
            )
        else:
            findings.unavailable[name] = (
                f"not above what the machine draws when idle, {idle_w:.3g} W by {source}"
            )
        return findings

    def idle_power(self) -> Findings:
        """What was drawn while nothing ran."""
        if self._idle is None:
            return Findings(unavailable={"idle_power": str(self._error)})
        return Findings(metrics={"idle_power": self._idle})

    def _measured(
        self,
        name: str,
        amounts: Sequence[float],
        units: Sequence[float],
        source: str,
        shared: float = 0.0,
    ) -> Measurement:
        """The sections' amounts over their units, where there are several with an interval.

        `shared` is the reach, to either side, of an error that all sections share, independent of their own.
        """
        value = sum(amounts) / sum(units)
        if len(amounts) == 1:
            return measured(name, value, source, estimated=self._meter.estimated)
        samples = tuple(amount / unit for amount, unit in zip(amounts, units, strict=True))
        _, high = t_interval(value, np.array(samples))
        reach = math.hypot(high - value, shared)
        return measured(name, value, source, (value - reach, value + reach), samples)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Make a `MeasuringError` that names the source of whatever the source raises, codecarbon anything."""
    try:
        yield
    except Exception as error:
        raise MeasuringError(f"{source}: {str(error) or type(error).__name__}") from error
