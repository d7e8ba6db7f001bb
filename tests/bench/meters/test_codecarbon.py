"""codecarbon's model, the real one, in real processes: none of its traps closes on the meter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCK = ".codecarbon.lock"

METER = """
import json, logging, sys, threading, time
logging.getLogger("codecarbon").disabled = True
from codecarbon.external.hardware import SystemCPULoadMeter
from bench.meters.energy import ModelledEnergy

# Whatever else runs meanwhile would be in the load, and so in the joules.
SystemCPULoadMeter.percent = lambda self, *arguments: 50.0
meter = ModelledEnergy("RAPL: none here")

def work(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))

windows = []
for seconds, spend in ((0.2, time.sleep), (0.2, time.sleep), (0.2, time.sleep), (0.3, work), (0.9, work)):
    if seconds == 0.9:
        seconds = max(seconds, 3 * windows[-1]["took_s"])
    began = time.perf_counter()
    meter.begin()
    spend(seconds)
    used = meter.end()
    windows.append({"asked_s": seconds, "took_s": time.perf_counter() - began, "joules": used.joules})
root = logging.getLogger()
report = {
    "windows": windows,
    "threads": threading.active_count(),
    "root": [root.level, len(root.handlers)],
}
open(sys.argv[1], "w").write(json.dumps(report))
"""
NO_NETWORK = """
import sys
def refuse(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.sendto")):
        open("asked-the-network", "a").write(f"{event} {arguments[1:]}\\n")
        raise OSError("the network is denied")
sys.addaudithook(refuse)
"""
STALLED = """
import logging, time
logging.getLogger("codecarbon").disabled = True
from codecarbon.external.scheduler import PeriodicScheduler
start, run = PeriodicScheduler.start, PeriodicScheduler._run

def start_soon(self, from_run=False):
    self.interval = 0.1
    start(self, from_run)

def run_late(self):
    time.sleep(0.3)
    run(self)
    time.sleep(0.3)

PeriodicScheduler.start, PeriodicScheduler._run = start_soon, run_late
"""
LOCKING = """
import logging
logging.getLogger("codecarbon").disabled = True
from codecarbon import OfflineEmissionsTracker
tracker = OfflineEmissionsTracker(country_iso_code="IND", output_methods=[], allow_multiple_runs=False)
tracker.start()
print("ready", flush=True)
input()
print(tracker.stop())
"""


@dataclass(frozen=True)
class Place:
    """A user's home and current folder, and a folder for temporary files, nothing of which is shared."""

    root: Path

    def start(self, script: str, *arguments: str, path: str = "") -> subprocess.Popen[str]:
        """Run a script here; `path` is searched for programs before the system's."""
        for name in ("home", "tmp", "cwd"):
            (self.root / name).mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root / "cwd",
            env={
                "HOME": str(self.root / "home"),
                "TMPDIR": str(self.root / "tmp"),
                "PATH": os.pathsep.join([path, "/usr/bin", "/bin"]),
                "PYTHONPATH": str(ROOT),
            },
        )

    def meter(self, before: str = "", report: str = "report.json") -> subprocess.Popen[str]:
        """Start metering five windows after the statements of `before`."""
        return self.start(before + METER, str(self.root / report))

    def report(self, process: subprocess.Popen[str], report: str = "report.json") -> dict[str, object]:
        """What the process found; it printed nothing."""
        printed, _ = process.communicate(timeout=120)
        assert (process.returncode, printed) == (0, "")
        found: dict[str, object] = json.loads((self.root / report).read_text())
        return found

    def left(self) -> list[str]:
        """Files in the home and current folder."""
        places = (self.root / "home", self.root / "cwd")
        return sorted(str(file.relative_to(self.root)) for place in places for file in place.rglob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], list[str]]:
    """What a process that meters by itself found, having printed nothing, and the files it left."""
    place = Place(tmp_path_factory.mktemp("alone"))
    return place.report(place.meter()), place.left()


Windows = list[dict[str, float]]


def windows(report: dict[str, object]) -> Windows:
    found = report["windows"]
    assert isinstance(found, list)
    return found


def assert_figures(report: dict[str, object]) -> None:
    """Every window has joules, and a longer one of the same work has more."""
    joules = [window["joules"] for window in windows(report)]
    assert 0 < joules[3] < joules[4] < 1000
    assert min(joules) > 0


def test_windows_have_joules(alone: tuple[dict[str, object], list[str]]) -> None:
    assert_figures(alone[0])


def test_its_start_is_outside_every_window(
    alone: tuple[dict[str, object], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The first window would hold seconds of it, in every process; the best shows what a window costs."""
    found: list[list[float]] = []
    for attempt in range(3):
        another = Place(tmp_path_factory.mktemp("another"))
        report = another.report(another.meter()) if attempt else alone[0]
        times = [window["took_s"] / window["asked_s"] for window in windows(report)[:3]]
        if 1 <= times[0] < 3 and 1 <= min(times) < 1.5:
            return
        found.append(times)
    pytest.fail(f"each time its start is in a window, or a window costs much: {found}")


def test_nothing_of_it_runs_between_windows(alone: tuple[dict[str, object], list[str]]) -> None:
    assert alone[0]["threads"] == 1


def test_nothing_of_it_runs_between_windows_where_its_timer_fires_as_they_end(place: Place) -> None:
    """A stalled machine wakes it when its window is over: it would start its next reading, and so on."""
    assert place.report(place.meter(STALLED))["threads"] == 1


def test_it_leaves_no_file_and_the_root_logger_as_it_was(alone: tuple[dict[str, object], list[str]]) -> None:
    report, left = alone
    assert left == []
    assert report["root"] == [30, 0]


def test_the_lock_of_a_killed_process_does_not_keep_the_meter_from_measuring(place: Place) -> None:
    killed = place.start(LOCKING)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "ready\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (place.root / "tmp" / LOCK).exists()
    kept_out, _ = place.start(LOCKING).communicate("\n", timeout=120)
    assert kept_out.endswith("\nNone\n"), "a lock no longer stops codecarbon: this trap is gone"
    assert_figures(place.report(place.meter()))
    assert (place.root / "tmp" / LOCK).exists(), "another's lock is not ours to remove"


CONFIG = """
[codecarbon]
emissions_endpoint = http://192.0.2.1/emissions
electricitymaps_api_token = token
co2_signal_api_token = token
output_methods = csv,api
api_call_interval = 1
save_to_file = true
allow_multiple_runs = false
log_level = debug
force_cpu_power = 1000000
pue = 1000
"""


def test_two_at_once_one_of_them_without_a_network_and_told_by_a_file_to_use_it(place: Place) -> None:
    (place.root / "home").mkdir()
    (place.root / "home" / ".codecarbon.config").write_text(CONFIG)
    both = [place.meter(NO_NETWORK, "denied.json"), place.meter(report="other.json")]
    for process, report in zip(both, ("denied.json", "other.json"), strict=True):
        assert_figures(place.report(process, report))
    assert place.left() == ["home/.codecarbon.config"]


def test_a_config_file_it_cannot_read_leaves_a_reason(place: Place) -> None:
    (place.root / "home").mkdir()
    (place.root / "home" / ".codecarbon.config").write_text("no section\n")
    script = (
        "from bench.meters.energy import EnergyWindow\nprint(EnergyWindow('cpu').close('compress_energy'))"
    )
    printed, _ = place.start(script).communicate(timeout=120)
    assert "codecarbon (RAPL" in printed
    assert "Traceback" not in printed


def test_it_is_silent_where_the_driver_is_broken(place: Place) -> None:
    programs = place.root / "programs"
    programs.mkdir()
    (programs / "nvidia-smi").write_text("#!/bin/sh\n")
    (programs / "nvidia-smi").chmod(0o755)
    printed, _ = place.start("import codecarbon", path=str(programs)).communicate(timeout=120)
    if "Nvidia GPU detected" not in printed:
        pytest.skip("NVML works here")
    script = "from bench.meters.carbon import carbon_of\ncarbon_of('IND')"
    printed, _ = place.start(script, path=str(programs)).communicate(timeout=120)
    assert printed == ""
