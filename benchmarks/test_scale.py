"""What a sweep of many variants costs the product itself, workers answering at once: `make benchmarks`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console

from bench.display import LineDisplay
from bench.folder import RunFolder, read_run
from bench.meters.carbon import CO2_OF
from bench.meters.findings import Findings
from bench.options import Options
from bench.plan import make_plan
from bench.runner import run_plan
from bench.steps.request import Request
from bench.worker import FINDINGS, PREDICTIONS, REQUEST
from bench.workers import Listener, Workers
from compressors.artifact import ARTIFACT

FEW, MANY = 16, 256
TEST_ROWS = 30


class AtOnce(Workers):
    """Workers that have every step's outcome ready: what a timing step found in a saved run."""

    found = Findings()

    def __enter__(self) -> Workers:
        self.import_time_s = 0.0
        return self

    def run(self, folder: Path, listen: Listener, limit_s: float | None = None) -> None:
        """Leave what the step would have left."""
        request = Request.model_validate_json((folder / REQUEST).read_text())
        is_timing = request.kind == "timing"
        (folder / ARTIFACT).mkdir()
        (folder / ARTIFACT / "config.json").write_text(json.dumps({"variant": request.variant}))
        row = json.dumps({"split": "test", "label": "x", "predicted": "x", "seen": False})
        (folder / PREDICTIONS).write_text(f"{row}\n" * TEST_ROWS)
        unmetered = Findings(
            unavailable=dict.fromkeys(CO2_OF, "no meter") if request.kind == "footprint" else {}
        )
        found = self.found if is_timing else unmetered
        (folder / FINDINGS).write_text(found.model_dump_json())


def test_each_variant_of_a_long_sweep_costs_little_more(
    benchmark: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds a variant with 256 over that with 16; the document grows, and is written after each of them."""
    saved = read_run(next(Path("baselines").glob("*/*-quick.json"))).results[1]
    kept = {
        name: found for name, found in saved.metrics.items() if "co2" not in name and "energy" not in name
    }
    monkeypatch.setattr(AtOnce, "found", Findings(metrics=kept, scenarios=saved.scenarios))
    monkeypatch.setattr("bench.runner.Workers", AtOnce)
    monkeypatch.chdir(tmp_path)

    def seconds_a_variant(variants: int) -> float:
        asked = ",".join(f"fisher:amount={number / 1000:.3f}" for number in range(1, variants))
        options = Options(
            variants=asked, limit=60, limit_test=TEST_ROWS, device="cpu", cache=Path(f"c{variants}")
        )
        plan, folder = make_plan(options), RunFolder.create(Path(f"run-{variants}"), 0)
        started = time.perf_counter()
        run = run_plan(plan, folder, LineDisplay(Console(quiet=True)))
        spent_s = time.perf_counter() - started
        assert [row.status for row in run.results] == ["ok"] * variants, run.results[-1].reason
        return spent_s / variants

    few_s, many_s = seconds_a_variant(FEW), benchmark.pedantic(seconds_a_variant, args=(MANY,), rounds=1)
    benchmark.extra_info |= {"seconds_a_variant": {FEW: few_s, MANY: many_s}}
    print(f"\n{benchmark.name}: {few_s:.3f} s a variant of {FEW}, {many_s:.3f} s of {MANY}")
    assert many_s < 4 * few_s
