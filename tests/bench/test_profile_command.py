"""`bench profile` and `--profile` as a user meets them: a variant of a run, its profile, its trace."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.folder import read_run
from tests.bench.conftest import ASKED
from tests.bench.test_cli import LIGHT
from tests.commands import Finished, bench, write_rows

CACHE = Path(".bench/cache")


@pytest.fixture(scope="module")
def profiled(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A variant of the finished run, profiled with the run's options and cache."""
    cwd = tmp_path_factory.mktemp("profiled")
    shutil.copytree(finished.cwd / CACHE, cwd / CACHE)
    shutil.copyfile(finished.cwd / "rows.csv", cwd / "rows.csv")
    process = bench("profile", "bmp50+kd", *ASKED, "--out", "profile", cwd=cwd)
    assert process.returncode == 0, process.stderr
    return Finished(cwd, cwd / "profile", process)


def test_what_the_run_made_is_not_made_again(profiled: Finished) -> None:
    results = profiled.document.results
    assert [result.variant for result in results] == ["dense", "bmp50+kd"]
    for result in results:
        assert {"timing", "footprint"} <= set(result.cached)
        assert "profile" not in result.cached


def test_its_time_lies_in_every_kind_of_module(profiled: Finished) -> None:
    for result in profiled.document.results:
        assert result.profile
        names = {portion.name for portion in result.profile.modules if portion.time > 0}
        assert {"embeddings", "attention", "feed-forward", "norms", "head"} <= names
        assert (result.profile.bound or 0) > 0
        assert result.profile.ceilings.matmul["float32"] > 0


def test_half_the_layers_and_half_of_each_predict_a_speed_up(profiled: Finished) -> None:
    result = profiled.document.result("bmp50+kd")
    assert result
    assert result.metrics["predicted_speedup"].estimated
    assert result.metrics["predicted_speedup"].value > 1.5


def test_the_trace_is_one_that_chrome_and_perfetto_read(profiled: Finished) -> None:
    for result in profiled.document.results:
        assert result.profile
        assert result.profile.trace
        with gzip.open(profiled.folder / result.profile.trace, "rt") as file:
            text = file.read()
        events = json.loads(text)["traceEvents"]
        assert any(event.get("name") == "aten::addmm" for event in events)
        assert str(profiled.cwd) not in text


def test_the_page_has_both_side_by_side(profiled: Finished) -> None:
    page = (profiled.folder / "report.html").read_text()
    assert "Profile" in page
    assert "traces/bmp50%2Bkd.json.gz" in page


def test_it_prints_operators_rather_than_the_run(profiled: Finished) -> None:
    assert "addmm" in profiled.process.stdout
    assert "feed-forward" in profiled.process.stdout


def test_a_run_without_it_says_how_to_have_it(finished: Finished) -> None:
    for result in finished.document.results:
        assert result.profile is None
        assert "--profile" in result.unavailable["predicted_speedup"]


def test_a_run_with_it_profiles_every_row(profiled: Finished) -> None:
    done = bench("run", *ASKED, "--variants", "bmp50+kd", "--profile", "--out", "whole", cwd=profiled.cwd)
    assert done.returncode == 0, done.stderr
    run = read_run(profiled.cwd / "whole")
    assert all("profile" in result.cached for result in run.results), "bench profile had made them"
    assert "Where a batch's time goes" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bmp*"], "names 12 variants"),
        (["bpm50"], "did you mean 'bmp'"),
        (["mp", "--train", "absent.csv", "--test-split", "0.2"], "absent.csv"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 60)
    before = sorted(tmp_path.iterdir())
    done = bench("profile", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_help_is_light_and_names_the_runs_options(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT + "\nprint(result.output)", "profile", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--label-column" in done.stdout
    assert "--variants" not in done.stdout
    assert "--fail-on" not in done.stdout
