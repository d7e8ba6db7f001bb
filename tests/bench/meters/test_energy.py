"""Energy: the CPU's counters from a tree like the kernel's, a GPU's from NVML as it answers elsewhere.

codecarbon's model is in `test_codecarbon.py`.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import MeasuringError
from bench.meters import energy
from bench.meters.energy import (
    Energy,
    EnergyWindow,
    ModelledEnergy,
    NvmlCounter,
    NvmlPower,
    RaplEnergy,
    integral,
    open_energy_meter,
)
from bench.nouns.measurement import Measurement
from tests.bench.meters.clockwork import Clockwork, Tape
from tests.bench.meters.fake_nvml import FakeGpu, field_value, install

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
    time.sleep(0.05)
    used = meter.end()
    assert used.joules == 7.0
    assert 0.05 <= used.seconds < 5
    assert (meter.source, meter.estimated) == ("RAPL, CPU packages", False)


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
    class Counting(RaplEnergy):
        reads = 0

        def _read(self) -> None:
            super()._read()
            self.reads += 1

    meter = Counting(packages, poll_s=0.002)
    meter.begin()
    for _ in range(10):
        spend(packages[0], WRAPS_AT // 4)
        # The second from now on began after the counter had moved.
        enough, deadline = meter.reads + 2, time.monotonic() + 60
        while meter.reads < enough:
            assert time.monotonic() < deadline, "nobody polls the counter"
            time.sleep(0.002)
    assert meter.end().joules == pytest.approx(10 * (WRAPS_AT // 4) / 1e6)


@pytest.mark.parametrize("missing", ["energy_uj", "max_energy_range_uj", "name"])
def test_counters_that_cannot_be_read_leave_the_model_which_says_why(
    packages: list[Path], missing: str
) -> None:
    (packages[1] / missing).unlink()
    (packages[1] / missing).mkdir()  # unreadable for root too
    meter = open_energy_meter("cpu")
    assert isinstance(meter, ModelledEnergy)
    assert meter.source.endswith("modelled (RAPL: Is a directory)")


def test_a_machine_without_counters_is_modelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "RAPL", tmp_path / "powercap")
    assert open_energy_meter("cpu").source.endswith("modelled (RAPL: none here)")


def test_a_counter_lost_while_it_is_polled_ends_the_window_with_the_reason(packages: list[Path]) -> None:
    meter = RaplEnergy(packages, poll_s=0.01)
    meter.begin()
    counter = packages[0] / "energy_uj"
    counter.rename(packages[0] / "elsewhere")
    meter._poll._thread.join(60)
    (packages[0] / "elsewhere").rename(counter)  # back in time for the last reading
    with pytest.raises(FileNotFoundError):
        meter.end()


TRACE = [(10.0, 70.0), (10.1, 70.0), (10.2, 250.0), (10.35, 350.0), (10.4, 350.0), (11.0, 110.0)]


def test_a_recorded_trace_is_integrated_exactly() -> None:
    joules = 0.1 * 70 + 0.1 * 160 + 0.15 * 300 + 0.05 * 350 + 0.6 * 230
    assert integral(TRACE).joules == pytest.approx(joules, rel=1e-12)
    assert integral(TRACE).seconds == pytest.approx(1.0)


readings = st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 1000)), min_size=2, max_size=30).map(
    lambda steps: list(zip(itertools.accumulate(gap for gap, _ in steps), (p for _, p in steps), strict=True))
)


@given(readings, st.data())
def test_an_integral_is_the_sum_of_its_parts_and_within_its_bounds(
    trace: list[tuple[float, float]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(trace) - 1))
    whole = integral(trace)
    parts = [integral(trace[: cut + 1]), integral(trace[cut:])]
    assert whole.joules == pytest.approx(sum(part.joules for part in parts), rel=1e-9, abs=1e-9)
    powers = [power for _, power in trace]
    assert min(powers) - 1e-6 <= whole.power <= max(powers) + 1e-6


class Machine:
    """A GPU that draws 50 W, and 200 W while somebody works on it; it answers as NVML does."""

    def __init__(self) -> None:
        self.began, self.worked_s = time.perf_counter(), 0.0
        self.busy = False
        self.synchronised: list[str] = []

    def millijoules(self) -> int:
        return round(1000 * (50 * (time.perf_counter() - self.began) + 150 * self.worked_s))

    def milliwatts(self) -> int:
        return 200_000 if self.busy else 50_000

    def work(self, seconds: float) -> None:
        """Draw the energy of so many seconds of work, in that time."""
        started, self.busy = time.perf_counter(), True
        time.sleep(seconds)
        self.busy = False
        self.worked_s += time.perf_counter() - started

    def install(self, monkeypatch: pytest.MonkeyPatch, *queries: str) -> None:
        """Have NVML answer these queries of the device that CUDA sees, at once."""
        answers = {
            "nvmlDeviceGetTotalEnergyConsumption": self.millijoules,
            "nvmlDeviceGetPowerUsage": self.milliwatts,
            "nvmlDeviceGetFieldValues": lambda fields: field_value(self.milliwatts())(fields),
        }
        install(monkeypatch, FakeGpu("GPU-aa11", {query: answers[query] for query in queries}))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(energy, "synchronise", self.synchronised.append)
        monkeypatch.setattr(NvmlCounter, "shortest_window_s", 0.2)
        monkeypatch.setattr(NvmlPower, "shortest_window_s", 0.2)


COUNTER, AVERAGE, INSTANT = (
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetFieldValues",
)


@pytest.mark.parametrize(
    ("queries", "source"),
    [
        ([COUNTER, AVERAGE, INSTANT], "NVML energy counter, GPU only"),
        (
            [AVERAGE, INSTANT],
            "NVML power every 0.1 s, instantaneous, GPU only (energy counter: Not Supported)",
        ),
        (
            [AVERAGE],
            "NVML power every 0.1 s, averaged by the driver, GPU only (energy counter: Not Supported)",
        ),
    ],
)
def test_a_gpus_best_source_is_taken_and_says_why_nothing_better(
    monkeypatch: pytest.MonkeyPatch, queries: list[str], source: str
) -> None:
    Machine().install(monkeypatch, *queries)
    meter = open_energy_meter("cuda")
    assert (meter.source, meter.estimated) == (source, False)


def test_nvml_windows_last_ten_seconds() -> None:
    assert NvmlCounter.shortest_window_s == NvmlPower.shortest_window_s == 10.0


@pytest.mark.usefixtures("asleep")
@pytest.mark.parametrize("queries", [[COUNTER], [AVERAGE], [INSTANT]])
def test_energy_is_given_net_of_idle_and_gross(monkeypatch: pytest.MonkeyPatch, queries: list[str]) -> None:
    machine = Machine()
    machine.install(monkeypatch, *queries)
    monkeypatch.setattr(energy, "NVML_POLL_S", 0.001)
    window = EnergyWindow("cuda", idle_s=0.2)
    for _ in range(window.sections - 1):
        machine.work(0.12)
        window.lap(1)
    machine.work(0.12)
    found = window.close("inference_energy_per_sample", units=1).add(window.idle_power())
    net, gross = (found.metrics[f"inference_energy_per_sample{kind}"] for kind in ("", "_gross"))
    assert net.value == pytest.approx(150 * 0.12, rel=0.03)
    assert gross.value == pytest.approx(200 * 0.12, rel=0.03)
    assert len(net.samples) == len(gross.samples) == 5
    assert found.metrics["idle_power"].value == pytest.approx(50, rel=1e-3)
    assert found.metrics["idle_power"].unit == "W"
    assert net.source == f"{gross.source}, less idle"
    assert machine.synchronised == ["cuda"] * 20, "at both ends of five sections of idling and of work"
    assert found.unavailable == {}


def test_work_that_draws_no_more_than_idling_has_a_gross_figure_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clockwork(lambda window: [60, 40][window])
    monkeypatch.setattr(energy, "open_energy_meter", lambda device: clock)
    found = EnergyWindow("cpu", idle_s=0.05).close("compress_energy")
    assert found.metrics["compress_energy_gross"].value > 0
    assert found.metrics.keys() == {"compress_energy_gross"}
    assert "not above what the machine draws when idle, 60 W" in found.unavailable["compress_energy"]


@pytest.mark.parametrize(
    ("powers", "idle_power_known"), [([50.0, None], True), ([None, 200.0], False), ([None, None], False)]
)
def test_a_source_that_breaks_leaves_a_reason(
    monkeypatch: pytest.MonkeyPatch, powers: list[float | None], idle_power_known: bool
) -> None:
    clock = Clockwork(lambda window: powers[window])
    monkeypatch.setattr(energy, "open_energy_meter", lambda device: clock)
    window = EnergyWindow("cpu", idle_s=0.02)
    found = window.close("compress_energy").add(window.idle_power())
    assert found.metrics.keys() == ({"idle_power"} if idle_power_known else set())
    names = {"compress_energy", "compress_energy_gross"}
    assert found.unavailable.keys() == names if idle_power_known else names | {"idle_power"}
    assert set(found.unavailable.values()) == {"a clockwork: [Errno 19] No such device"}


def test_modelled_energy_is_marked_net_gross_and_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        energy, "open_energy_meter", lambda device: Clockwork(lambda window: 10 + 90 * window)
    )
    window = EnergyWindow("cpu", idle_s=0.02)
    assert window.sections == 1
    time.sleep(0.02)
    found = window.close("compress_energy").add(window.idle_power())
    assert found.metrics.keys() == {"compress_energy", "compress_energy_gross", "idle_power"}
    assert all(metric.estimated for metric in found.metrics.values())
    assert all(metric.ci_low is metric.ci_high is None for metric in found.metrics.values())


def taped(
    monkeypatch: pytest.MonkeyPatch, idle: list[Energy], work: list[Energy], rows: list[int]
) -> dict[str, Measurement]:
    """What a window that reads this while idle and at work gives for so many rows a section."""
    monkeypatch.setattr(energy, "open_energy_meter", lambda device: Tape([*idle, *work]))
    window = EnergyWindow("cpu", idle_s=0.0)
    for done in rows[:-1]:
        window.lap(done)
    return window.close(PER_ROW, units=rows[-1]).add(window.idle_power()).metrics


PER_ROW = "inference_energy_per_sample"
STEADY = [Energy(10.0, 2.0)] * 5
# Student's t of 4 degrees of freedom at 97.5 %, times the standard error of 10, 12, 11, 9 and 13.
REACH = 2.776445 * 0.5**0.5


def test_the_sections_of_work_give_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    work = [Energy(joules, 1.0) for joules in (10.0, 12.0, 11.0, 9.0, 13.0)]
    found = taped(monkeypatch, STEADY, work, [1] * 5)
    net, gross, idle = found[PER_ROW], found[f"{PER_ROW}_gross"], found["idle_power"]
    assert gross.samples == (10.0, 12.0, 11.0, 9.0, 13.0)
    assert (gross.ci_low, gross.value, gross.ci_high) == pytest.approx((11 - REACH, 11, 11 + REACH))
    assert net.samples == (5.0, 7.0, 6.0, 4.0, 8.0)
    assert (net.ci_low, net.value, net.ci_high) == pytest.approx((6 - REACH, 6, 6 + REACH))
    assert (idle.ci_low, idle.value, idle.ci_high) == pytest.approx((5, 5, 5))
    assert not net.estimated


def test_the_idle_powers_error_is_in_the_net_interval_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = [Energy(watts, 1.0) for watts in (10.0, 12.0, 11.0, 9.0, 13.0)]
    steady = taped(monkeypatch, idle, [Energy(200.0, 6.0)] * 5, [3] * 5)
    assert (steady[PER_ROW].value, steady["idle_power"].value) == pytest.approx(((200 - 66) / 3, 11))
    assert steady[PER_ROW].ci_high == pytest.approx((200 - 66) / 3 + 2 * REACH), "2 s of idling in each row"
    assert steady[f"{PER_ROW}_gross"].ci_high == pytest.approx(200 / 3)
    work = [Energy(50 + joules, 2.0) for joules in (10.0, 12.0, 11.0, 9.0, 13.0)]
    both = taped(monkeypatch, idle, work, [1] * 5)
    assert both[PER_ROW].ci_high == pytest.approx(39 + REACH * 5**0.5), "of 1 at work and 2 while idle"


sections = st.lists(
    st.tuples(st.floats(60, 300), st.floats(1, 3), st.integers(1, 50)), min_size=5, max_size=5
)


@given(sections, st.lists(st.floats(5, 50), min_size=5, max_size=5))
def test_energy_of_a_row_is_all_energy_over_all_rows_within_its_interval(
    work: list[tuple[float, float, int]], idle: list[float]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = taped(
            monkeypatch,
            [Energy(watts, 1.0) for watts in idle],
            [Energy(watts * seconds, seconds) for watts, seconds, _ in work],
            [rows for *_, rows in work],
        )
    rows = sum(rows for *_, rows in work)
    spent_j, worked_s = sum(watts * s for watts, s, _ in work), sum(s for _, s, _ in work)
    net, gross = found[PER_ROW], found[f"{PER_ROW}_gross"]
    assert gross.value == pytest.approx(spent_j / rows)
    assert net.value == pytest.approx((spent_j - sum(idle) / 5 * worked_s) / rows)
    for metric in found.values():
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        assert metric.ci_low <= metric.value <= metric.ci_high


def test_work_without_laps_is_one_reading_without_an_interval(packages: list[Path]) -> None:
    window = EnergyWindow("cpu", idle_s=0.05)
    spend(packages[0], 5_000_000)
    found = window.close("compress_energy").add(window.idle_power())
    for name in ("compress_energy", "compress_energy_gross"):
        assert found.metrics[name].value == 5.0
        assert (found.metrics[name].ci_low, found.metrics[name].samples) == (None, ())
    assert found.metrics["idle_power"].samples == (0.0,) * 5


def test_counters_are_read_at_every_lap(packages: list[Path]) -> None:
    window = EnergyWindow("cpu", idle_s=0.05)
    for joules in (1, 2, 3, 4):
        spend(packages[1], joules * 1_000_000)
        window.lap(2)
    spend(packages[0], 5_000_000)
    found = window.close(PER_ROW, units=2).metrics[PER_ROW]
    assert found.samples == (0.5, 1.0, 1.5, 2.0, 2.5)
    assert found.value == 1.5


def test_a_source_that_breaks_between_laps_leaves_the_reason(packages: list[Path]) -> None:
    window = EnergyWindow("cpu", idle_s=0.05)
    spend(packages[0], 1_000_000)
    (packages[0] / "energy_uj").unlink()
    window.lap(1)
    window.lap(1)
    found = window.close(PER_ROW).add(window.idle_power())
    assert found.metrics.keys() == {"idle_power"}
    assert "No such file or directory" in found.unavailable[PER_ROW]


@pytest.mark.usefixtures("asleep")
def test_the_idle_window_lasts_as_long_as_the_source_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    machine.install(monkeypatch, COUNTER)
    for idle_s, least_s in ((0.0, 0.2), (0.5, 0.5)):
        started = time.perf_counter()
        window = EnergyWindow("cuda", idle_s)
        assert time.perf_counter() - started == pytest.approx(least_s)
        assert window.shortest_s == 0.2


@pytest.mark.usefixtures("asleep")
def test_work_shorter_than_the_source_can_tell_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    machine.install(monkeypatch, COUNTER)
    window = EnergyWindow("cuda", idle_s=0.0)
    found = window.close("compress_energy")
    assert found.metrics == {}
    assert found.unavailable.keys() == {"compress_energy", "compress_energy_gross"}
    assert "the work took 0.0 s, NVML energy counter, GPU only needs 0.2 s" in found.unavailable.values()
    assert window.idle_power().metrics["idle_power"].value == pytest.approx(50, rel=1e-3)


@pytest.mark.parametrize(("queries", "lost"), [([COUNTER], COUNTER), ([AVERAGE], AVERAGE)])
def test_a_gpu_that_is_lost_at_work_leaves_a_reason(
    monkeypatch: pytest.MonkeyPatch, queries: list[str], lost: str
) -> None:
    machine = Machine()
    machine.install(monkeypatch, *queries)
    window = EnergyWindow("cuda", idle_s=0.2)

    def refuse(gpu: FakeGpu) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, lost, refuse)
    time.sleep(0.25)
    found = window.close("compress_energy")
    assert found.metrics == {}
    assert found.unavailable["compress_energy"].endswith(": GPU is lost")


def slice_of_a_gpu() -> FakeGpu:
    """A divided GPU that would tell its own energy, and one slice."""
    mode = [pynvml.NVML_DEVICE_MIG_ENABLE] * 2
    whole = FakeGpu("GPU-dd44", {COUNTER: 10**9, AVERAGE: 300_000, "nvmlDeviceGetMigMode": mode})
    whole.slices = [FakeGpu("MIG-ee55", {COUNTER: 10**9, AVERAGE: 300_000}, parent=whole)]
    return whole


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        ([slice_of_a_gpu()], "NVML tells the energy of a whole GPU, and this is a MIG slice"),
        (
            [FakeGpu("GPU-aa11")],
            "NVML: energy counter: Not Supported, power: Not Supported",
        ),
        (
            [FakeGpu("GPU-aa11", dict.fromkeys((COUNTER, AVERAGE, INSTANT), pynvml.NVMLError(4)))],
            "NVML: energy counter: Insufficient Permissions, power: Insufficient Permissions",
        ),
        ([], "NVML: Invalid Argument"),
    ],
)
def test_a_gpu_whose_energy_is_not_told_is_never_modelled(
    monkeypatch: pytest.MonkeyPatch, gpus: list[FakeGpu], reason: str
) -> None:
    install(monkeypatch, *gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(MeasuringError, match=f"^{reason}$"):
        open_energy_meter("cuda")
    window = EnergyWindow("cuda", idle_s=60.0)
    found = window.close("inference_energy_per_sample").add(window.idle_power())
    assert found.metrics == {}
    assert set(found.unavailable.values()) == {reason}
