"""What the product itself costs, as ratios of interleaved timings: `make benchmarks`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from bench.folder import RunFolder, read_run
from bench.meters.machine import RoundWatch
from bench.nouns.run import Run
from bench.protocol import PROTOCOLS
from benchmarks.turns import in_turns, timed


def test_help_costs_at_most_twice_what_typer_and_rich_do(benchmark: BenchmarkFixture) -> None:
    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    libraries = "import typer, typer.main, rich.console, rich.table, rich.panel, rich.markdown"
    contenders = {
        "libraries": timed(lambda: run("-c", libraries)),
        "help": timed(lambda: run("-m", "bench", "--help")),
    }
    assert in_turns(benchmark, contenders, rounds=15, warm_up_rounds=2)["help"] < 2


def test_the_harness_itself_takes_little_of_a_run(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The share of the wall time, imports apart, that is neither training, warm-up nor timed work.

    Timed work is whatever a figure of the report is the time or the energy of, idling for it included.
    """

    def demo() -> None:
        command = [sys.executable, "-m", "bench", "run", "--variants", "bmp50+kd,mp", "--out", "run"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    benchmark.pedantic(demo, rounds=1)
    run = read_run(tmp_path / "run")
    assert run.wall_time
    assert run.import_time
    apart = run.wall_time.value - run.import_time.value
    used = sum(sum(result.spent.values()) for result in run.results)
    share = 1 - used / apart
    benchmark.extra_info |= {"seconds": apart, "harness_share": share}
    assert share < 0.10


def test_reading_the_machine_takes_little_of_a_round(benchmark: BenchmarkFixture) -> None:
    """The time to read it before and after, over the least time of a round: two contenders' blocks."""
    round_s, watch = 2 * PROTOCOLS["standard"].block_cpu_s, RoundWatch("cpu")

    def read() -> None:
        watch.begin()
        watch.end()

    contenders = {"round": timed(lambda: time.sleep(round_s)), "readings": timed(read)}
    assert in_turns(benchmark, contenders, rounds=50, warm_up_rounds=2)["readings"] < 0.025


def test_a_document_of_many_variants_is_written_in_proportion(
    benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    """The time to replace `run.json`, as after each variant, with 256 results over that with 16."""
    saved = read_run(next(Path("baselines").glob("*/*-quick.json")))
    row = saved.results[1]

    def of(rows: int) -> Run:
        copies = [row.model_copy(update={"seed": seed}) for seed in range(rows)]
        return saved.model_copy(update={"results": copies})

    few, many, folder = of(16), of(256), RunFolder(tmp_path)
    contenders = {
        "16 results": timed(lambda: folder.write(few)),
        "256 results": timed(lambda: folder.write(many)),
    }
    assert in_turns(benchmark, contenders, rounds=15, warm_up_rounds=2)["256 results"] < 1.5 * 256 / 16
