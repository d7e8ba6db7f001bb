"""Runs kept under a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import baselines
from bench.errors import ComparisonError, InputError, NoBaselineYet
from bench.folder import read_run
from bench.nouns.run import Run
from tests.bench.meters.documents import run_of
from tests.commands import Finished

HERE, THERE = "0123456789ab", "ffffffffffff"


def of_machine(key: str) -> Run:
    run = run_of()
    run.environment.machine_key = key
    return run


def test_a_baseline_is_the_run_without_its_samples(finished: Finished, tmp_path: Path) -> None:
    run = finished.document
    file = baselines.save(run, "main", tmp_path)
    assert file == tmp_path / run.environment.machine_key / "main.json"
    kept = read_run(file)
    assert file.read_text().endswith("}\n")
    assert file.stat().st_size < (finished.folder / "run.json").stat().st_size
    assert [row.variant for row in kept.results] == [row.variant for row in run.results]
    for before, after in zip(run.results, kept.results, strict=True):
        assert after.right == before.right is not None
        for name, measurement in before.metrics.items():
            assert after.metrics[name] == measurement.model_copy(update={"samples": ()})
        assert after.scenarios.keys() == before.scenarios.keys()
        assert all(scenario.raw is None for scenario in after.scenarios.values())
    assert baselines.save(run, "main", tmp_path).read_text() == file.read_text()


def test_one_is_found_by_name_by_path_and_where_it_is_the_only_one(tmp_path: Path) -> None:
    here, there = (baselines.save(of_machine(key), "main", tmp_path) for key in (HERE, THERE))
    assert baselines.find("main", HERE, tmp_path) == here
    assert baselines.find(None, HERE, tmp_path) == here
    assert baselines.find(str(there), HERE, tmp_path) == there
    assert baselines.find("main", HERE, tmp_path, any_machine=True) == here
    here.unlink()
    assert baselines.find("main", HERE, tmp_path, any_machine=True) == there
    with pytest.raises(ComparisonError, match="there is one of machine ffffffffffff, for --relative"):
        baselines.find("main", HERE, tmp_path)


def test_what_is_not_there_or_not_clear_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="make one with bench baseline save RUN main"):
        baselines.find("main", HERE, tmp_path)
    for name in ("main", "release"):
        baselines.save(of_machine(HERE), name, tmp_path)
    with pytest.raises(ComparisonError, match="did you mean 'main'"):
        baselines.find("mian", HERE, tmp_path)
    with pytest.raises(InputError, match=r"which baseline\?.*main.json.*release.json"):
        baselines.find(None, HERE, tmp_path)
    with pytest.raises(ComparisonError, match="no such run"):
        baselines.find("nowhere/run.json", HERE, tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "main.json", "a b", "x" * 81])
def test_a_name_is_a_plain_file_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a baseline's name"):
        baselines.save(run_of(), name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_broken_off_is_no_baseline(tmp_path: Path) -> None:
    run = run_of()
    run.status = "interrupted"
    with pytest.raises(InputError, match="--resume it first"):
        baselines.save(run, "main", tmp_path)


def test_one_is_removed_by_name_and_machine(tmp_path: Path) -> None:
    here, there = (baselines.save(of_machine(key), "main", tmp_path) for key in (HERE, THERE))
    with pytest.raises(InputError, match="--machine KEY"):
        baselines.remove("main", "eeeeeeeeeeee", None, tmp_path)
    assert baselines.remove("main", HERE, None, tmp_path) == here
    assert not here.exists()
    assert baselines.kept(tmp_path) == [baselines.Kept(THERE, "main", there)]
    with pytest.raises(InputError, match="no such baseline"):
        baselines.remove("release", HERE, None, tmp_path)
    assert baselines.remove("main", HERE, THERE, tmp_path) == there


def test_a_folder_of_the_name_hides_no_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main").mkdir()
    with pytest.raises(NoBaselineYet):
        baselines.find("main", HERE)
    file = baselines.save(of_machine(HERE), "main")
    assert baselines.find("main", HERE) == file


def test_a_document_cannot_choose_a_place_outside(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(of_machine("../../evil").model_dump_json())
    with pytest.raises(InputError, match="machine_key"):
        read_run(file)
