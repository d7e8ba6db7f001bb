"""What the product itself costs, as ratios of interleaved timings: `make benchmarks`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.folder import read_run
from compressors.bmp import BlockMovementPruning
from tests.compressors.tiny import context_of, padded_batch, tiny, toy_tokenizer

ROUNDS = 15


def interleaved(
    benchmark: BenchmarkFixture, base: Callable[[], object], other: Callable[[], object]
) -> float:
    """Median over rounds of the time of `other` over that of `base`, timed in turns."""
    ratios = []

    def round_() -> None:
        times_s = []
        for work in (base, other):
            started = time.perf_counter()
            work()
            times_s.append(time.perf_counter() - started)
        ratios.append(times_s[1] / times_s[0])

    benchmark.pedantic(round_, rounds=ROUNDS, warmup_rounds=2)
    benchmark.extra_info["median_ratio"] = statistics.median(ratios)
    return statistics.median(ratios)


def test_help_costs_at_most_twice_what_typer_and_rich_do(benchmark: BenchmarkFixture) -> None:
    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    ratio = interleaved(
        benchmark,
        lambda: run("-c", "import typer, typer.main, rich.console, rich.table, rich.panel, rich.markdown"),
        lambda: run("-m", "bench", "--help"),
    )
    assert ratio < 2


def test_a_pruning_step_costs_at_most_a_quarter_more(benchmark: BenchmarkFixture) -> None:
    def step_of(pruned: bool) -> Callable[[], None]:
        model = tiny(layers=4, hidden_size=256, num_attention_heads=8, intermediate_size=1024).train()
        part = BlockMovementPruning(amount=0.5)
        context = context_of(model, toy_tokenizer(["a b"]), removed_share=0.5, total_steps=10_000)
        if pruned:
            part.prepare(model, context)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        batch = padded_batch(rows=32, longest=32)
        labels = torch.zeros(32, dtype=torch.long)

        def step() -> None:
            if pruned:
                part.on_step(3_000, context)
            outputs = model(**batch)
            loss = torch.nn.functional.cross_entropy(outputs.logits, labels)
            term = part.loss(model, batch, outputs, context) if pruned else None
            (loss if term is None else loss + term).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    assert interleaved(benchmark, step_of(False), step_of(True)) < 1.25


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
