"""What the machine does during a run: read from the real kernel, and decided on by readings alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.environment import CGROUP, fingerprint
from bench.meters import machine
from bench.meters.machine import (
    UNITS,
    Counters,
    RoundWatch,
    busy_share_of_others,
    cautions,
    discarded,
    gpu_cautions,
    halted_cores,
    load_cautions,
    mean_reading,
    present_cautions,
    read_counters,
    round_cautions,
    spinning_cautions,
    start_cautions,
    steal_cautions,
    stolen_share,
    throttled_time,
    throttling_cautions,
)
from bench.nouns.document import Series
from bench.nouns.environment import Caution

BUSY_LOOP = "while True: pass"
PRINT_SPIN = "from bench.meters.machine import openmp_spin; print(openmp_spin())"
# A stall keeps a thread from burning anything, never a thread that waits from waiting.
PRINT_MOST_SPIN = "from bench.meters.machine import openmp_spin; print(max(openmp_spin() for _ in range(8)))"
POWER_CAP = pynvml.nvmlClocksEventReasonSwPowerCap
THERMAL = pynvml.nvmlClocksEventReasonSwThermalSlowdown
HARDWARE = pynvml.nvmlClocksEventReasonHwSlowdown
BRAKE = pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
IDLE = pynvml.nvmlClocksEventReasonGpuIdle


def codes(found: list[Caution]) -> list[str]:
    assert all(caution.text and caution.remedy for caution in found)
    return [caution.code for caution in found]


def counters(
    wall_s: float = 0.0,
    cores_s: float = 0.0,
    idle_s: float = 0.0,
    stolen_s: float | None = 0.0,
    own_s: float = 0.0,
    throttled_s: float | None = None,
) -> Counters:
    return Counters(
        wall_s=wall_s,
        own_s=own_s,
        cores_s=cores_s,
        idle_s=idle_s,
        stolen_s=stolen_s,
        throttled_s=throttled_s,
    )


def rounds(**readings: Sequence[float | None]) -> dict[str, Series]:
    return {name: Series(unit=UNITS[name], values=list(values)) for name, values in readings.items()}


@contextmanager
def busy_processes(count: int) -> Iterator[list[psutil.Process]]:
    """So many processes that do nothing but use the CPU."""
    with ExitStack() as stack:
        hogs = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY_LOOP])) for _ in range(count)
        ]
        try:
            time.sleep(0.3)
            yield [psutil.Process(hog.pid) for hog in hogs]
        finally:
            for hog in hogs:
                hog.kill()


def used_s(processes: Sequence[psutil.Process]) -> float:
    """The CPU time that these have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def test_shares_are_of_the_time_between_two_readings() -> None:
    before = counters(wall_s=100, cores_s=200, idle_s=50, stolen_s=5, own_s=7, throttled_s=1)
    now = counters(wall_s=110, cores_s=220, idle_s=60, stolen_s=6, own_s=11, throttled_s=3)
    assert stolen_share(before, now) == pytest.approx(1 / 20)
    assert halted_cores(before, now) == pytest.approx(2 / 10)
    assert busy_share_of_others(before, now) == pytest.approx((20 - 10 - 1 - 4) / 20)


def test_what_was_not_counted_is_none_and_not_zero() -> None:
    nothing = counters(wall_s=1, stolen_s=None)
    later = counters(wall_s=2, cores_s=2, stolen_s=None)
    assert stolen_share(nothing, later) is None
    assert halted_cores(nothing, later) is None
    assert stolen_share(counters(cores_s=1), counters(cores_s=1)) is None


@given(st.lists(st.floats(0, 1e6), min_size=4, max_size=4))
def test_others_are_busy_for_what_nobody_else_is(parts: list[float]) -> None:
    idle_s, stolen_s, own_s, others_s = parts
    cores_s = idle_s + stolen_s + own_s + others_s
    now = counters(cores_s=cores_s, idle_s=idle_s, stolen_s=stolen_s, own_s=own_s)
    share = others_s / cores_s if cores_s else 0.0
    assert busy_share_of_others(counters(), now) == pytest.approx(share, abs=1e-6)


def test_the_kernels_counters_only_rise_and_hold_our_own_time() -> None:
    before = read_counters(None)
    while time.process_time() < before.own_s + 0.2:
        pass
    now = read_counters(None)
    assert now.wall_s > before.wall_s
    assert now.cores_s - before.cores_s >= 0.1
    assert now.idle_s >= before.idle_s
    assert (now.stolen_s or 0) >= (before.stolen_s or 0)
    assert now.throttled_s is None


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        ("usage_usec 7\nnr_throttled 3\nthrottled_usec 1500000\n", 1.5),
        ("nr_periods 9\nnr_throttled 3\nthrottled_time 2500000000\n", 2.5),
        ("usage_usec 7\n", None),
    ],
)
def test_throttled_time_of_either_version(tmp_path: Path, content: str, seconds: float | None) -> None:
    assert throttled_time(tmp_path) is None
    (tmp_path / "cpu.stat").write_text(content)
    assert throttled_time(tmp_path) == seconds


def test_every_round_on_this_cpu_has_the_same_readings() -> None:
    watch = RoundWatch("cpu")
    found = []
    for _ in range(50):
        watch.begin()
        found.append(watch.end())
    assert all(readings.keys() == found[0].keys() for readings in found)
    assert found[0].keys() <= UNITS.keys()
    assert found[0]["load"] == pytest.approx(os.getloadavg()[0] / (os.cpu_count() or 1), abs=0.5)
    assert "sm_clock" not in found[0]


def test_a_round_reads_what_was_stolen_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Made, begun and ended: between the last two 20 ticks went by, of which one was stolen.
    ticks = iter([(100.0, 10.0), (200.0, 20.0), (200.19, 20.01)])

    class Times(tuple[float, ...]):
        user = property(lambda self: self[0])
        idle = 0.0
        steal = property(lambda self: self[1])

    monkeypatch.setattr(psutil, "cpu_times", lambda: Times(next(ticks)))
    watch = RoundWatch("cpu")
    watch.begin()
    assert watch.end()["steal"] == pytest.approx(0.05)


def test_a_gpus_rounds_hold_what_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([1.7e9, 1.7e9, None])

    def gpu_state(handle: object) -> dict[str, float | None]:
        assert handle == "handle"
        return {"sm_clock": next(states), "temperature": 60.0, "power": None, "clock_events": 0.0}

    monkeypatch.setattr(machine, "gpu_handle", lambda device: "handle" if device == "cuda" else None)
    monkeypatch.setattr(machine, "gpu_state", gpu_state)
    watch = RoundWatch("cuda")
    watch.begin()
    first, second = watch.end(), watch.end()
    assert first["sm_clock"] == 1.7e9
    assert first["temperature"] == 60
    assert "power" not in first
    assert second.keys() == first.keys()
    assert second["sm_clock"] is None
    assert "sm_clock" not in RoundWatch("cpu").end()


def test_without_nvidias_library_a_gpu_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> object:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(machine, "visible_device", absent)
    assert machine.gpu_use("cuda") == (None, None)
    assert "sm_clock" not in RoundWatch("cuda").end()


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (0, None),
        (IDLE, None),
        (POWER_CAP, None),
        (THERMAL, "software thermal slowdown"),
        (HARDWARE, "hardware slowdown"),
        (HARDWARE | BRAKE, "power brake"),
        (HARDWARE | pynvml.nvmlClocksEventReasonHwThermalSlowdown, "hardware thermal slowdown"),
        (POWER_CAP | THERMAL, "software thermal slowdown"),
    ],
)
def test_a_round_is_discarded_for_what_slowed_the_gpu_down(events: int, reason: str | None) -> None:
    found = discarded(rounds(clock_events=[0, float(events), None]))
    assert found == ({} if reason is None else {1: reason})


def test_a_round_is_discarded_for_a_clock_far_below_the_median() -> None:
    found = discarded(rounds(sm_clock=[2e9, 1.51e9, 2e9, 1.49e9, None, 2e9]))
    assert found == {3: "SM clock 1490 MHz, under 75% of the rounds' median"}
    slowed = rounds(sm_clock=[2e9, 2e9, 1e9], clock_events=[0, 0, float(THERMAL)])
    assert discarded(slowed) == {2: "software thermal slowdown"}


@given(st.lists(st.one_of(st.none(), st.floats(1e8, 3e9)), max_size=40))
def test_at_most_half_the_rounds_are_discarded_for_their_clock(clocks: list[float | None]) -> None:
    found = discarded(rounds(sm_clock=clocks))
    assert len(found) <= len(clocks) / 2
    fastest = max((clock for clock in clocks if clock is not None), default=0)
    assert all(clocks[index] != fastest for index in found)


def test_nothing_is_discarded_on_a_cpu() -> None:
    bad = rounds(steal=[0.9, 0.9], throttled=[3.0, None], load=[40.0, 40.0])
    assert discarded(bad) == {}
    assert cautions(bad, {}) == []


@pytest.mark.parametrize(("lost", "said"), [(0, []), (2, []), (3, ["gpu-throttling"])])
def test_over_a_tenth_of_the_rounds_lost_is_said(lost: int, said: list[str]) -> None:
    machine_rounds = rounds(clock_events=[float(THERMAL)] * lost + [0.0] * (20 - lost))
    assert codes(cautions(machine_rounds, discarded(machine_rounds))) == said


def test_a_power_cap_is_said_and_costs_no_round() -> None:
    machine_rounds = rounds(clock_events=[0.0, float(POWER_CAP), None])
    assert discarded(machine_rounds) == {}
    assert codes(cautions(machine_rounds, {})) == ["power-cap"]


@pytest.mark.parametrize(("busy", "said"), [(0.0, []), (0.25, []), (0.26, ["load"]), (1.0, ["load"])])
def test_others_that_are_busy_are_said(busy: float, said: list[str]) -> None:
    assert codes(load_cautions(busy, 0.25, "now")) == said


@pytest.mark.parametrize(
    ("processes", "busy", "said"),
    [
        (None, None, []),
        (0, 0.1, []),
        (0, 0.11, ["busy-gpu"]),
        (1, 0.0, ["busy-gpu"]),
        (2, None, ["busy-gpu"]),
        (2, 0.97, ["busy-gpu"]),
    ],
)
def test_a_gpu_that_others_use_is_said(processes: int | None, busy: float | None, said: list[str]) -> None:
    assert codes(gpu_cautions(processes, busy)) == said


@pytest.mark.parametrize(("share", "said"), [(None, []), (0.0, []), (0.019, []), (0.05, ["steal"])])
def test_time_that_other_guests_took_is_said(share: float | None, said: list[str]) -> None:
    found = steal_cautions(share, "last night")
    assert codes(found) == said
    assert all("5.0%" in caution.text and "last night" in caution.text for caution in found)


@pytest.mark.parametrize(
    ("share", "quota", "said"),
    [
        (None, None, []),
        (None, 2.0, []),
        (0.0, 2.0, []),
        (0.01, 2.0, []),
        (0.4, 2.5, ["throttling"]),
        (1.7, 2.5, ["throttling"]),
        (0.4, 0.5, ["throttling"]),
    ],
)
def test_a_quota_that_was_used_up_is_said(share: float | None, quota: float | None, said: list[str]) -> None:
    found = throttling_cautions(share, quota, "last night")
    assert codes(found) == said
    assert all("last night" in caution.text for caution in found)
    # Half a core's quota feeds not even one thread.
    assert all(("OMP_NUM_THREADS=2" in caution.remedy) == (quota == 2.5) for caution in found)


@pytest.mark.parametrize(
    ("spin", "shared", "said"),
    [
        (None, True, []),
        (0.2, True, []),
        (0.21, True, ["spinning"]),
        (1.0, True, ["spinning"]),
        (1.0, False, []),
    ],
)
def test_threads_that_spin_are_said_where_the_machine_is_shared(
    spin: float | None, shared: bool, said: list[str]
) -> None:
    found = spinning_cautions(spin, shared)
    assert codes(found) == said
    assert all("OMP_WAIT_POLICY=PASSIVE" in caution.remedy for caution in found)


def test_processes_beside_us_are_noticed() -> None:
    here, cores = fingerprint(), os.cpu_count() or 1
    with busy_processes(max(1, cores // 2)) as hogs:
        for _ in range(30):  # until the machine lets them be busy
            before_s, began = used_s(hogs), time.perf_counter()
            found = start_cautions(here, "cpu")
            if used_s(hogs) - before_s > 0.35 * cores * (time.perf_counter() - began):
                break
        assert "load" in codes(found)
        watch = RoundWatch("cpu")
        watch.begin()
        before_s, began = used_s(hogs), time.perf_counter()
        time.sleep(0.5)
        share = (used_s(hogs) - before_s) / (cores * (time.perf_counter() - began))
        assert (watch.end()["others"] or 0) > share - 0.05


def test_company_in_one_scenario_is_said_though_the_others_were_alone() -> None:
    alone = rounds(others=[0.0, -0.02, 0.05])
    beside = rounds(others=[0.1, 0.3, 0.2])
    assert codes(round_cautions([alone, alone, alone], None)) == []
    (caution,) = round_cautions([alone, alone, beside, alone], None)
    assert caution.code == "load"
    assert "20%" in caution.text
    assert "speed-ups" in caution.text


@pytest.fixture
def stolen_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose host takes 5 % of its time from now on, and which is idle otherwise."""

    def read(group: Path | None) -> Counters:
        now_s = time.perf_counter()
        return counters(wall_s=now_s, cores_s=now_s, idle_s=0.95 * now_s, stolen_s=0.05 * now_s)

    monkeypatch.setattr(machine, "read_counters", read)


@pytest.mark.usefixtures("stolen_now")
def test_what_the_host_takes_now_is_said_of_now_alone() -> None:
    here = fingerprint().model_copy(update={"cpu_quota": None, "governor": "powersave"})
    assert codes(start_cautions(here, "cpu")) == ["governor"]
    found = present_cautions(here, "cpu")
    assert codes(found) == ["governor", "steal"]
    assert "5.0%" in found[1].text
    assert "just now" in found[1].text
    assert round_cautions([rounds(steal=[0.0, 0.0])], None) == []


def test_rounds_say_what_was_lost_while_they_were_timed() -> None:
    scenarios = [
        rounds(steal=[0.4, None], throttled=[0.2, 0.0]),
        rounds(steal=[0.1, 0.1], load=[9.0, 9.0]),
        {},
    ]
    steal, throttling = round_cautions((each for each in scenarios), 2.0)
    assert codes([steal, throttling]) == ["steal", "throttling"]
    assert "20.0%" in steal.text
    assert "kept 0.1 cores halted on average" in throttling.text
    assert all("while the variants were timed" in caution.text for caution in (steal, throttling))


@pytest.mark.parametrize("scenarios", [[], [{}], [rounds(steal=[None])], [rounds(steal=[0.03] + [0.0] * 9)]])
def test_rounds_in_which_little_or_nothing_was_lost_say_nothing(scenarios: list[dict[str, Series]]) -> None:
    assert round_cautions(scenarios, 2.0) == []


@given(st.lists(st.lists(st.none() | st.floats(0, 1), max_size=8), max_size=5))
def test_every_round_counts_alike_in_whatever_scenario_it_was(steals: list[list[float | None]]) -> None:
    apart = mean_reading([rounds(steal=steal) for steal in steals], "steal")
    together = mean_reading([rounds(steal=[share for steal in steals for share in steal])], "steal")
    assert apart == together
    assert apart is None or 0 <= apart <= 1


@pytest.mark.parametrize(("policy", "spins"), [("ACTIVE", True), ("PASSIVE", False)])
def test_how_openmps_threads_wait_is_seen_by_what_they_burn(policy: str, spins: bool) -> None:
    variables = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": policy}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_MOST_SPIN], env=variables, capture_output=True, text=True, check=True
    )
    spin = float(done.stdout)
    assert codes(spinning_cautions(spin, shared=True)) == ["spinning"] * spins
    assert 0 <= spin < 1.2


def test_one_thread_waits_for_nobody() -> None:
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_SPIN], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


UNDER_A_QUOTA = """
import json, sys, time
from bench.environment import fingerprint, is_shared
from bench.meters.machine import UNITS, RoundWatch, round_cautions, start_cautions
from bench.nouns.document import Series

environment = fingerprint()
found, watch = start_cautions(environment, "cpu"), RoundWatch("cpu")
watch.begin()
until = time.process_time() + 0.5
while time.process_time() < until:
    pass
readings = watch.end()
machine = {name: Series(unit=UNITS[name], values=[value]) for name, value in readings.items()}
found += round_cautions([machine], environment.cpu_quota)
print(json.dumps([[caution.code for caution in found], readings, environment.cpu_quota, is_shared()]))
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of half a core's quota, for processes of the test's own."""
    version_2 = (CGROUP / "cgroup.controllers").exists()
    folder = (CGROUP if version_2 else CGROUP / "cpu") / f"bench-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        if version_2:
            (folder / "cpu.max").write_text("50000 100000")
        else:
            (folder / "cpu.cfs_period_us").write_text("100000")
            (folder / "cpu.cfs_quota_us").write_text("50000")
        yield folder
    except OSError as error:
        pytest.skip(f"no quota can be set: {error}")
    finally:
        folder.rmdir()


def test_a_real_quota_is_found_and_seen_to_throttle(group: Path) -> None:
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
    done = subprocess.run(
        [sys.executable, "-c", enter + UNDER_A_QUOTA], capture_output=True, text=True, check=True
    )
    found, readings, quota, shared = json.loads(done.stdout)
    assert {"quota", "throttling"} <= set(found)
    assert 0.02 < readings["throttled"] < 1
    assert quota == 0.5
    assert shared
