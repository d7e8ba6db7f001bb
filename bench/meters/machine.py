"""What the machine does meanwhile: time taken or held back, clocks, heat, company; and when it is to be said.

Functions that decide are given readings alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

from bench.environment import limiting_group, load_average, quota_remedy, read_lines, setting_cautions
from bench.meters.nvml import gpu_state, other_processes, utilisation, visible_device
from bench.nouns.document import Series
from bench.nouns.environment import Caution, Environment

UNITS = {
    "steal": "1",
    "throttled": "1",
    "others": "1",
    "load": "1",
    "sm_clock": "Hz",
    "temperature": "°C",
    "power": "W",
    "clock_events": "bitmask",
}
# From the most telling on: any of them may come with the last.
SLOWDOWNS = {
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "hardware thermal slowdown",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "software thermal slowdown",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware slowdown",
}
SLOW_CLOCK = 0.75
MOST_DISCARDED = 0.10
WORTH_SAYING = 0.02
BUSY = 0.25
BUSY_GPU = 0.10
SPINS = 0.2
LOAD_SAMPLE_S = 0.3
SPIN_SAMPLE_S = 0.05
BUSY_ROUNDS = 0.10
SLOWER = "absolute times are high, and speed-ups of models that use the cores differently can move"


@dataclass(frozen=True)
class Counters:
    """Running totals in seconds: wall time, this process's CPU time, and all cores' CPU time with its parts.

    Of the cores' time, `idle_s` was not wanted and `stolen_s` went to other guests of the host.
    `throttled_s` sums up how long the quota halted each core. None where the machine does not count it.
    """

    wall_s: float
    own_s: float
    cores_s: float
    idle_s: float
    stolen_s: float | None
    throttled_s: float | None


def read_counters(group: Path | None) -> Counters:
    """The counters now; `group` is the control group whose quota limits this process."""
    times = psutil.cpu_times()
    # The kernel counts guests' time as user time already.
    guests_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return Counters(
        wall_s=time.perf_counter(),
        own_s=time.process_time(),
        cores_s=sum(times) - guests_s,
        idle_s=times.idle + getattr(times, "iowait", 0.0),
        stolen_s=getattr(times, "steal", None),
        throttled_s=throttled_time(group) if group else None,
    )


def throttled_time(group: Path) -> float | None:
    """Seconds for which a control group of either version had its cores halted, summed over cores."""
    counts = dict(line.split() for line in read_lines(group / "cpu.stat"))
    for name, per_second in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
        if name in counts:
            return int(counts[name]) / per_second
    return None


def stolen_share(before: Counters, now: Counters) -> float | None:
    """The share of all cores' time that other guests took; None where nothing was counted meanwhile.

    The kernel counts in ticks, mostly of 10 ms, so that the share of one round is coarse.
    """
    if before.stolen_s is None or now.stolen_s is None or now.cores_s <= before.cores_s:
        return None
    return (now.stolen_s - before.stolen_s) / (now.cores_s - before.cores_s)


def halted_cores(before: Counters, now: Counters) -> float | None:
    """How many cores the quota kept halted, on average; None where it is not counted."""
    if before.throttled_s is None or now.throttled_s is None:
        return None
    return (now.throttled_s - before.throttled_s) / (now.wall_s - before.wall_s)


def busy_share_of_others(before: Counters, now: Counters) -> float:
    """The share of all cores' time that other processes of this machine used.

    Cores' time is counted in ticks and our own is not, so that a short while can give less than nothing.
    """
    cores_s = now.cores_s - before.cores_s
    unused_s = now.idle_s - before.idle_s + (now.stolen_s or 0.0) - (before.stolen_s or 0.0)
    own_s = now.own_s - before.own_s
    return (cores_s - unused_s - own_s) / cores_s if cores_s > 0 else 0.0


class RoundWatch:
    """Readings of the machine around each round; `UNITS` says in what."""

    def __init__(self, device: str) -> None:
        self._group = limiting_group()
        self._gpu = gpu_handle(device)
        # NVML and the kernel keep what they support, so the keys of one reading are those of all.
        self._before = read_counters(self._group)
        counted = {"steal": self._before.stolen_s, "throttled": self._before.throttled_s}
        first = counted | {"others": 0.0, "load": 0.0} | self._read_gpu()
        self._keys = [name for name in UNITS if first.get(name) is not None]

    def begin(self) -> None:
        """Take note of the counters before a round."""
        self._before = read_counters(self._group)

    def end(self) -> dict[str, float | None]:
        """What the machine did since `begin()`: the same keys every time, None for what could not be read."""
        now = read_counters(self._group)
        readings = {
            "steal": stolen_share(self._before, now),
            "throttled": halted_cores(self._before, now),
            "others": busy_share_of_others(self._before, now),
            "load": load_average(),
            **self._read_gpu(),
        }
        return {name: readings[name] for name in self._keys}

    def _read_gpu(self) -> dict[str, float | None]:
        return gpu_state(self._gpu) if self._gpu else {}


def gpu_handle(device: str) -> Any | None:
    """NVML's handle of the GPU in use; None on a CPU, or where there is no NVML."""
    if device != "cuda":
        return None
    try:
        return visible_device()
    except pynvml.NVMLError:
        return None


def discarded(machine: dict[str, Series]) -> dict[int, str]:
    """The rounds in which the GPU was slowed down, each with the reason."""
    found = {}
    for index, events in enumerate(values(machine, "clock_events")):
        reasons = [name for bit, name in SLOWDOWNS.items() if int(events or 0) & bit]
        if reasons:
            found[index] = reasons[0]
    clocks = values(machine, "sm_clock")
    known = [clock for clock in clocks if clock is not None]
    least = SLOW_CLOCK * statistics.median(known) if known else 0.0
    for index, clock in enumerate(clocks):
        if clock is not None and clock < least and index not in found:
            found[index] = f"SM clock {clock / 1e6:.0f} MHz, under {SLOW_CLOCK:.0%} of the rounds' median"
    return found


def cautions(machine: dict[str, Series], discarded: dict[int, str]) -> list[Caution]:
    """What to say of a scenario's rounds: a GPU that was slowed down too often, or held by its power cap.

    The texts carry no figures, so that those of several scenarios are one.
    """
    found = []
    rounds = max((len(series.values) for series in machine.values()), default=0)
    if len(discarded) > MOST_DISCARDED * rounds:
        found.append(
            Caution(
                code="gpu-throttling",
                text=f"the GPU slowed down in over {MOST_DISCARDED:.0%} of a scenario's rounds, now left out",
                remedy="let it cool, see to its cooling and power, or lock a lower clock by nvidia-smi -lgc",
            )
        )
    capped = pynvml.nvmlClocksEventReasonSwPowerCap
    if any(int(events or 0) & capped for events in values(machine, "clock_events")):
        found.append(
            Caution(
                code="power-cap",
                text="the GPU's power cap held its clock down in some rounds",
                remedy="raise the cap by nvidia-smi -pl, or lock a lower clock by nvidia-smi -lgc",
            )
        )
    return found


def values(machine: dict[str, Series], name: str) -> Iterable[float | None]:
    """A reading's values, none where the machine has no such reading."""
    return machine[name].values if name in machine else []


def start_cautions(environment: Environment, device: str) -> list[Caution]:
    """The machine's settings that are a handicap, and who else is busy. Takes 0.3 s, to see that.

    To be asked before anything of ours works, on the CPU or on the GPU.
    """
    before = read_counters(None)
    time.sleep(LOAD_SAMPLE_S)
    busy = busy_share_of_others(before, read_counters(None))
    return [
        *setting_cautions(environment),
        *load_cautions(busy, BUSY, "at the start"),
        *gpu_cautions(*gpu_use(device)),
    ]


def present_cautions(environment: Environment, device: str) -> list[Caution]:
    """What would make figures of this moment less sure: `start_cautions`, and the time lost meanwhile."""
    watch = RoundWatch(device)
    watch.begin()
    found = start_cautions(environment, device)
    lost = watch.end()
    return [
        *found,
        *steal_cautions(lost.get("steal"), "just now"),
        *throttling_cautions(lost.get("throttled"), environment.cpu_quota, "just now"),
    ]


def round_cautions(machines: Iterable[dict[str, Series]], quota: float | None) -> list[Caution]:
    """What to say of time lost in rounds, whenever they were: from the readings of each scenario.

    `quota` in cores, under which they were timed. The shares are means over all rounds that have the reading;
    that of other processes is the worst scenario's, since company comes and goes.
    """
    rounds, when = list(machines), "while the variants were timed"
    busy = max((mean_reading([machine], "others") or 0.0 for machine in rounds), default=0.0)
    return [
        *load_cautions(busy, BUSY_ROUNDS, "while some variant was timed"),
        *steal_cautions(mean_reading(rounds, "steal"), when),
        *throttling_cautions(mean_reading(rounds, "throttled"), quota, when),
    ]


def mean_reading(machines: Iterable[dict[str, Series]], name: str) -> float | None:
    """A reading's mean over the rounds of all scenarios, None where no round has it."""
    known = [value for machine in machines for value in values(machine, name) if value is not None]
    return statistics.fmean(known) if known else None


def gpu_use(device: str) -> tuple[int | None, float | None]:
    """(other processes on the GPU in use, share of time it is busy); None for what cannot be known."""
    handle = gpu_handle(device)
    return (other_processes(handle), utilisation(handle)) if handle else (None, None)


def load_cautions(busy: float, most: float, when: str) -> list[Caution]:
    """What to say where other processes used the share `busy` of all cores' time, above `most`.

    The load average is recorded, but nothing is decided by it: it remembers our own last run.
    """
    if busy <= most:
        return []
    text = f"other processes used {busy:.0%} of the CPU {when}: {SLOWER}"
    return [Caution(code="load", text=text, remedy="stop them, or measure on a quiet machine")]


def gpu_cautions(processes: int | None, busy: float | None) -> list[Caution]:
    """What to say where so many other processes hold the GPU, or it is busy for a share of the time."""
    remedy = "stop what nvidia-smi lists, or choose another GPU by CUDA_VISIBLE_DEVICES"
    if busy is not None and busy > BUSY_GPU:
        text = f"the GPU was busy for {busy:.0%} of the time before the run used it"
    elif processes:
        text = "other processes hold the GPU"
    else:
        return []
    return [Caution(code="busy-gpu", text=text, remedy=remedy)]


def steal_cautions(share: float | None, when: str) -> list[Caution]:
    """What to say where other guests of the host took this share of the CPU time; `when` is words."""
    if share is None or share < WORTH_SAYING:
        return []
    text = f"{share:.1%} of the CPU time was taken by other guests of this host {when}: {SLOWER}"
    return [Caution(code="steal", text=text, remedy="measure on a quiet or dedicated machine")]


def throttling_cautions(halted: float | None, quota: float | None, when: str) -> list[Caution]:
    """What to say where a quota (in cores) kept so many cores halted on average; `when` is words."""
    if halted is None or quota is None or halted < WORTH_SAYING:
        return []
    text = f"the CPU quota of {quota:g} cores' worth of time kept {halted:.2g} cores halted on average {when}"
    return [Caution(code="throttling", text=text, remedy=quota_remedy(quota))]


def openmp_spin() -> float | None:
    """The share of their waiting that this process's OpenMP threads burn on the CPU; None with one thread.

    Seen after a parallel operation of torch, while nothing is to be done for 50 ms.
    """
    import torch

    waiting = torch.get_num_threads() - 1
    if waiting == 0:
        return None
    torch.ones(2**20).exp()
    burnt_s, started = time.process_time(), time.perf_counter()
    time.sleep(SPIN_SAMPLE_S)
    burnt_s = time.process_time() - burnt_s
    return burnt_s / (waiting * (time.perf_counter() - started))


def spinning_cautions(spin: float | None, shared: bool) -> list[Caution]:
    """What to say of threads that spin for this share of their waiting, where the machine is shared."""
    if spin is None or spin <= SPINS or not shared:
        return []
    text = "OpenMP's threads spin while they wait, which slows a shared or throttled machine down"
    return [Caution(code="spinning", text=text, remedy="set OMP_WAIT_POLICY=PASSIVE")]
