"""A machine's fingerprint and what disturbs it, for `bench env`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, RenderableType

from bench.nouns.environment import Caution, Device, Environment, NoiseFloor
from reports.numbers import BYTES, HERTZ, PERCENT, WATTS, quantity
from reports.terminal import literal, show, two_columns


def render(environment: Environment, console: Console) -> None:
    """Print what the machine is, its software and settings, and every warning with its remedy."""
    parts = [part for title, rows in described(environment).items() for part in _section(title, rows)]
    show(console, parts[:-1])


def described(environment: Environment) -> dict[str, list[tuple[str, str]]]:
    """Everything there is to say of a machine: names and texts, by what they are about."""
    return {
        "Machine": list(_machine(environment)),
        "Devices": [(device.name, _device(device)) for device in environment.devices],
        "Software": [*environment.versions.items(), ("commit", environment.commit or "outside git")],
        "Settings": list(_settings(environment)),
        "Noise floor": list(_noise_floor(environment.noise_floor)),
        "Now": [("load", f"{environment.load:.2f} a core, averaged over a minute")],
        "Warnings": [(caution.code, said(caution)) for caution in environment.warnings],
    }


def said(caution: Caution) -> str:
    """A warning and its remedy in one line."""
    return f"{caution.text}; {caution.remedy}"


def floor_source(floor: NoiseFloor) -> str:
    """`60 A/A trials of the quick budget, 2026-05-11`, or that it is a starting value and why."""
    if floor.measured_at is None:
        return floor.source
    return f"{floor.trials} {floor.source}, {floor.measured_at:%Y-%m-%d}"


def _section(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[RenderableType]:
    lines = [(name, [text]) for name, text in rows]
    yield literal(title, "bold")
    yield two_columns(lines, "bold") if lines else literal("none")
    yield ""


def _machine(environment: Environment) -> Iterator[tuple[str, str]]:
    quota = environment.cpu_quota
    yield "key", environment.machine_key
    yield "platform", environment.platform
    yield "CPU", environment.cpu_model
    yield "cores", f"{environment.cpu_cores} in use, of CPUs {_ranges(environment.affinity)}"
    yield "CPU quota", "none" if quota is None else f"{quota:g} cores' worth of time"
    yield "features", ", ".join(environment.cpu_features) or "none that matter here"
    yield "governor", environment.governor or "not shown by the kernel"
    yield "virtualised", "yes" if environment.virtualised else "no"
    yield "memory", quantity(environment.memory, BYTES)


def _ranges(cpus: list[int]) -> str:
    """`0-3, 8` for the CPUs 0, 1, 2, 3 and 8, in order."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _device(device: Device) -> str:
    known = (
        (device.memory, f"{quantity(device.memory or 0, BYTES)} of memory"),
        (device.mig, "a MIG slice"),
        (device.sm_clock_max, f"SM clock up to {quantity(device.sm_clock_max or 0, HERTZ)}"),
        (device.power_limit, f"power limit {quantity(device.power_limit or 0, WATTS)}"),
        (device.driver, f"driver {device.driver}"),
        (device.uuid, str(device.uuid)),
    )
    return ", ".join(text for value, text in known if value)


def _settings(environment: Environment) -> Iterator[tuple[str, str]]:
    yield "threads", str(environment.threads)
    yield "fp32 precision", environment.fp32_precision
    yield from environment.variables.items()
    if environment.openmp_spin is not None:
        yield "OpenMP threads", f"spin for {quantity(environment.openmp_spin, PERCENT)} of their waiting"


def _noise_floor(floor: NoiseFloor | None) -> Iterator[tuple[str, str]]:
    if floor is None:
        yield "unknown", "bench calibrate measures it"
        return
    yield "within a run", f"{quantity(floor.paired, PERCENT)} of a paired ratio"
    yield "between runs", f"{quantity(floor.between, PERCENT)} of an absolute time"
    yield "source", floor_source(floor)
