"""Energy: the CPU's counters read from a tree like the kernel's, and codecarbon's real model."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pynvml
import pytest

from bench.meters import energy
from bench.meters.energy import Energy, ModelledEnergy, RaplEnergy, energy_findings, open_energy_meter
from bench.meters.nvml import devices

WRAPS_AT = 262_143_328_850


def zone(root: Path, number: str, name: str, microjoules: int) -> Path:
    """One zone of the kernel's powercap tree."""
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{WRAPS_AT}\n")
    return folder


def spend(folder: Path, microjoules: int) -> None:
    """What the hardware would do to a counter; no reader ever sees it half written."""
    file = folder / "energy_uj"
    (folder / "next").write_text(f"{(int(file.read_text()) + microjoules) % WRAPS_AT}\n")
    (folder / "next").replace(file)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two packages, the second about to wrap, with the zones that a real machine has besides."""
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    zone(tmp_path, "0:0", "core", 5)
    zone(tmp_path, "0:1", "dram", 5)
    zone(tmp_path, "2", "psys", 5)
    (tmp_path / "intel-rapl").mkdir()
    return [zone(tmp_path, "0", "package-0", 1_000), zone(tmp_path, "1", "package-1", WRAPS_AT - 1_000)]


def test_packages_are_added_up_over_a_wrap(packages: list[Path]) -> None:
    meter = open_energy_meter("cpu")
    assert isinstance(meter, RaplEnergy)
    meter.begin()
    spend(packages[0], 3_000_000)
    spend(packages[1], 4_000_000)
    assert meter.end() == Energy(7.0, "RAPL, CPU packages", estimated=False)


def test_windows_count_from_their_own_beginning(packages: list[Path]) -> None:
    meter = open_energy_meter("cpu")
    for joules in (1.0, 2.0):
        spend(packages[0], 50_000_000)
        meter.begin()
        spend(packages[0], int(joules * 1e6))
        assert meter.end().joules == joules


def test_the_platforms_zone_is_not_counted_besides_the_packages_in_it(
    packages: list[Path], tmp_path: Path
) -> None:
    meter = open_energy_meter("cpu")
    meter.begin()
    for name in ("intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:2"):
        spend(tmp_path / name, 10**9)
    assert meter.end().joules == 0


def test_a_counter_that_wraps_twice_in_a_window_loses_nothing(packages: list[Path]) -> None:
    meter = RaplEnergy(packages, poll_s=0.002)
    meter.begin()
    for _ in range(10):
        spend(packages[0], WRAPS_AT // 4)
        time.sleep(0.05)
    assert meter.end().joules == pytest.approx(10 * (WRAPS_AT // 4) / 1e6)


@pytest.mark.parametrize("missing", ["energy_uj", "max_energy_range_uj", "name"])
def test_counters_that_cannot_be_read_leave_the_model(packages: list[Path], missing: str) -> None:
    (packages[1] / missing).unlink()
    (packages[1] / missing).mkdir()  # unreadable for root too
    assert isinstance(open_energy_meter("cpu"), ModelledEnergy)


def test_energy_is_shared_out_over_the_work() -> None:
    found = energy_findings("inference_energy_per_sample", Energy(6.0, "RAPL, CPU packages", False), units=3)
    metric = found.metrics["inference_energy_per_sample"]
    assert (metric.value, metric.unit, metric.estimated) == (2.0, "J", False)
    assert metric.source == "RAPL, CPU packages"


@pytest.mark.parametrize("joules", [0.0, -1.0])
def test_no_energy_is_no_measurement(joules: float) -> None:
    found = energy_findings("compress_energy", Energy(joules, "RAPL, CPU packages", False))
    assert found.metrics == {}
    assert "too short" in found.unavailable["compress_energy"]


WORK = """
import sys, time
from bench.meters.energy import ModelledEnergy

def work(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))

meter = ModelledEnergy("cpu")
for seconds in (0.3, 0.9):
    meter.begin()
    work(seconds)
    used = meter.end()
    assert used.estimated
    assert used.source.startswith("codecarbon ")
    open(sys.argv[1], "a").write(f"{used.joules}\\n")
"""
NO_NETWORK = """
import socket
def refuse(*_):
    raise OSError("the network is denied")
socket.socket.connect = refuse
socket.create_connection = refuse
"""


def test_codecarbon_alone_together_locked_out_and_without_a_network(tmp_path: Path) -> None:
    """One process with the network denied and one without at once, in the presence of another's lock file.

    Both give positive joules that grow with the time, and print nothing.
    """
    (tmp_path / ".codecarbon.lock").write_text("")
    home = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / f"joules-{number}")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**home, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        for number, script in enumerate([NO_NETWORK + WORK, WORK])
    ]
    for number, process in enumerate(processes):
        printed, _ = process.communicate(timeout=120)
        assert (process.returncode, printed) == (0, b"")
        short, long = map(float, (tmp_path / f"joules-{number}").read_text().split())
        assert 0 < short < long
        assert 0.1 < long < 1000
    assert list(tmp_path.rglob("*.csv")) == []
    assert (tmp_path / ".codecarbon.lock").exists()


@pytest.mark.skipif(bool(devices()), reason="an NVIDIA device is here")
def test_without_a_driver_there_is_no_device_and_the_model_stands_in() -> None:
    assert devices() == []
    with pytest.raises(pynvml.NVMLError):
        energy.NvmlEnergy()
    assert isinstance(open_energy_meter("cuda"), ModelledEnergy)


@pytest.mark.parametrize("visible", ["", "-1", " "])
def test_hidden_devices_are_not_there(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices() == []
