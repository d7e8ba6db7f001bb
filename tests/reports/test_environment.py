"""`bench env`: the fingerprint, whole at 80 columns and taken literally, and warnings with remedies."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench.nouns.environment import Caution, Device, Environment, NoiseFloor
from reports import environment

PLAIN = Environment(
    machine_key="5f1a0c2b9d3e",
    platform="Linux-6.8-x86_64",
    cpu_model="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    cpu_cores=2,
    cpu_features=[],
    cpu_quota=None,
    affinity=[0, 1],
    governor=None,
    load=0.084,
    virtualised=True,
    memory=8_327_000_000,
    devices=[],
    versions={"bench": "0.1.0", "torch": "2.11.0"},
    threads=2,
    variables={},
    fp32_precision="ieee",
    commit=None,
    warnings=[],
)
FULL = PLAIN.model_copy(
    update={
        "cpu_cores": 3,
        "cpu_features": ["avx2", "amx_bf16"],
        "cpu_quota": 2.5,
        "affinity": [0, 1, 2, 3, 8, 10, 11],
        "governor": "power[red]save",
        "virtualised": False,
        "devices": [
            Device(
                name="NVIDIA [bold]H200",
                uuid="GPU-1b2c",
                driver="570.86",
                memory=150_000_000_000,
                power_limit=700.0,
                sm_clock_max=1.98e9,
            ),
            Device(name="slice", mig=True),
        ],
        "variables": {"OMP_WAIT_POLICY": "ACT[/]IVE", "OMP_NUM_THREADS": "3"},
        "openmp_spin": 0.987,
        "noise_floor": NoiseFloor(
            paired=0.021,
            between=0.137,
            trials=60,
            measured_at=datetime(2026, 5, 11, 9, 30, tzinfo=UTC),
            source="A/A trials of the quick budget",
        ),
        "commit": "36c5e4d+dirty",
        "warnings": [
            Caution(
                code="spinning",
                text="threads spin\x1b[31m while they wait",
                remedy="set [b]OMP_WAIT_POLICY=PASSIVE",
            ),
            Caution(code="load", text="other processes used 51% of the CPU", remedy="stop them"),
        ],
    }
)


def printed(shown: Environment, width: int = 80) -> str:
    out = io.StringIO()
    environment.render(shown, Console(file=out, width=width))
    return out.getvalue()


def test_an_ordinary_machine_at_80_columns() -> None:
    assert printed(PLAIN).splitlines() == [
        "Machine",
        "key          5f1a0c2b9d3e",
        "platform     Linux-6.8-x86_64",
        "CPU          Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
        "cores        2 in use, of CPUs 0-1",
        "CPU quota    none",
        "features     none that matter here",
        "governor     not shown by the kernel",
        "virtualised  yes",
        "memory       8.33 GB",
        "",
        "Devices",
        "none",
        "",
        "Software",
        "bench   0.1.0",
        "torch   2.11.0",
        "commit  outside git",
        "",
        "Settings",
        "threads         2",
        "fp32 precision  ieee",
        "",
        "Noise floor",
        "unknown  bench calibrate measures it",
        "",
        "Now",
        "load  0.08 a core, averaged over a minute",
        "",
        "Warnings",
        "none",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "cores        3 in use, of CPUs 0-3, 8, 10-11",
        "CPU quota    2.5 cores' worth of time",
        "features     avx2, amx_bf16",
        "governor     power[red]save",
        "virtualised  no",
        "NVIDIA [bold]H200  150 GB of memory, SM clock up to 1.98 GHz, power limit 700 W,",
        "                   driver 570.86, GPU-1b2c",
        "slice              a MIG slice",
        "commit  36c5e4d+dirty",
        "OMP_WAIT_POLICY  ACT[/]IVE",
        "OpenMP threads   spin for 98.7 % of their waiting",
        "within a run  2.10 % of a paired ratio",
        "between runs  13.7 % of an absolute time",
        "source        60 A/A trials of the quick budget, 2026-05-11",
        "spinning  threads spin\\x1b[31m while they wait; set [b]OMP_WAIT_POLICY=PASSIVE",
        "load      other processes used 51% of the CPU; stop them",
    ],
)
def test_everything_there_is_to_say_of_a_machine(line: str) -> None:
    assert line in printed(FULL).splitlines()


def test_a_starting_value_is_no_trial() -> None:
    floor = NoiseFloor(paired=0.05, between=0.05, source="starting value for a CPU")
    out = printed(PLAIN.model_copy(update={"noise_floor": floor}))
    assert "source        starting value for a CPU\n" in out


def test_it_fits_any_terminal() -> None:
    for width in (40, 60, 100):
        lines = printed(FULL, width).splitlines()
        assert max(map(cell_len, lines)) <= width
        assert not any(line.endswith(" ") for line in lines)
        assert "\x1b" not in "".join(lines)
