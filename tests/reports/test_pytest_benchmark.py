"""pytest-benchmark's format: its own command reads and compares our files; times are those of the rounds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_benchmark

from bench.baselines import without_samples
from bench.errors import InputError
from bench.nouns.run import Result, Run
from reports.pytest_benchmark import document
from tests.reports.conftest import raw_rounds
from tests.reports.test_markdown import hostile


def compare(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest-benchmark"), "compare", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stderr
    return done.stdout


def benchmarks(run: Run) -> dict[str, dict[str, Any]]:
    found = json.loads(document(run))["benchmarks"]
    by_name = {benchmark["fullname"]: benchmark for benchmark in found}
    assert len(by_name) == len(found)
    return by_name


def of_two(run: Run) -> Run:
    """The run with dense and the recommended variant alone, in a scenario with rounds and one without."""
    results = [
        result.model_copy(
            update={"scenarios": {name: result.scenarios[name] for name in ("batch 32", "tokenising")}}
        )
        for result in run.results
        if result.variant in ("dense", "bmp25+kd+mp")
    ]
    return run.model_copy(update={"results": results})


@pytest.fixture
def saved(run: Run, tmp_path: Path) -> Path:
    """A folder with two runs, all variants of the second half as fast."""
    slower = [
        result.model_copy(
            update={
                "scenarios": {
                    name: scenario.model_copy(update={"raw": raw_rounds(result.variant, 0.0862, {})})
                    for name, scenario in result.scenarios.items()
                }
            }
        )
        for result in of_two(run).results
    ]
    (tmp_path / "before.json").write_text(document(of_two(run)))
    (tmp_path / "after.json").write_text(document(run.model_copy(update={"results": slower})))
    return tmp_path


def test_the_document(run: Run, golden: Callable[[str, str], None]) -> None:
    text = document(of_two(run))
    assert json.loads(text)["version"] == pytest_benchmark.__version__
    golden("pytest-benchmark.json", re.sub(r'"version": "[\d.]+"\n', '"version": "5"\n', text) + "\n")


def test_the_real_command_sets_two_runs_side_by_side(saved: Path) -> None:
    shown = compare(saved, "before.json", "after.json", "--columns=median,rounds,iterations", "--sort=name")
    assert "benchmark 'batch 32': 4 tests" in shown
    rows = re.findall(r"^batch 32\[(.+)-seed1\] \((\w+)\) +([\d.]+) .* (\d+) +(\d+)$", shown, re.MULTILINE)
    medians = {(variant, file): float(median) for variant, file, median, _, _ in rows}
    for variant in ("dense", "bmp25+kd+mp"):
        assert medians[variant, "after"] == pytest.approx(2 * medians[variant, "before"], rel=1e-3)
    assert {row[3:] for row in rows} == {("4", "32")}


def test_the_real_command_groups_by_variant_and_pairs_files(saved: Path) -> None:
    grouped = compare(saved, "before.json", "after.json", "--group-by=param:variant", "--columns=min,ops")
    assert "benchmark 'variant=bmp25+kd+mp'" in grouped
    between = compare(saved, "before.json", "after.json", "--between=median", "-k", "dense")
    assert [line.split()[-1] for line in between.splitlines() if "dense" in line] == ["-50.0%"]


def test_a_time_is_that_of_the_variant_s_own_block_over_its_rows(run: Run) -> None:
    result = run.result("bmp25+kd+mp")
    assert result
    raw = result.scenarios["batch 32"].raw
    assert raw
    raw.rows[:] = [32, 16, 32, 32]
    raw.times["dense"].values[:] = [9.0, 9.0, 9.0, 9.0]
    raw.times["bmp25+kd+mp"].values[:] = [0.64, 0.16, 6.4, 0.96]
    raw.discarded[2] = "hardware slowdown"
    held = benchmarks(run)["ag-news::batch 32[bmp25+kd+mp-seed1]"]
    assert held["stats"]["data"] == pytest.approx([0.02, 0.01, 0.03])
    assert (held["stats"]["min"], held["stats"]["median"]) == pytest.approx((0.01, 0.02))
    assert (held["stats"]["rounds"], held["stats"]["iterations"]) == (3, 32)
    assert held["extra_info"]["unit"] == "seconds per row"


def test_what_has_no_round_that_counts_is_left_out(run: Run, slowed: Run) -> None:
    name = "ag-news::batch 32[mp-seed1]"
    assert name in benchmarks(run)
    assert name not in benchmarks(slowed)


def test_a_baseline_keeps_no_rounds_and_is_refused(run: Run) -> None:
    with pytest.raises(
        InputError, match=rf"run {run.id} has no rounds: it is a baseline; export from the run"
    ):
        document(without_samples(run))


def test_seeds_are_benchmarks_of_their_own(seeded: Run) -> None:
    names = {name for name in benchmarks(seeded) if name.startswith("ag-news::batch 32[bmp25+kd+mp")}
    assert names == {f"ag-news::batch 32[bmp25+kd+mp-seed{seed}]" for seed in (1, 2)}


def test_names_print_on_one_line_and_parameters_are_exact(run: Run) -> None:
    odd = "two\nlines \x1b[31m"
    for held in benchmarks(hostile(run, odd)).values():
        assert not re.search(r"[\x00-\x1f]", held["name"] + held["fullname"] + held["param"])
        assert held["params"]["variant"].endswith(odd)


def test_a_run_without_any_benchmark_is_read_too(run: Run, tmp_path: Path) -> None:
    failed = [Result(variant="dense", seed=1, status="failed", reason="out of memory")]
    (tmp_path / "none.json").write_text(document(run.model_copy(update={"results": failed})))
    assert "dense" not in compare(tmp_path, "none.json")
