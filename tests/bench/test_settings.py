"""The table `[tool.bench]` of a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import InputError
from bench.settings import read_settings

TABLE = """
[tool.bench]
baseline = "main"
fail-on = ["speedup:5%", "accuracy:1pt"]
strict = true
allow-missing-baseline = true
"""


def test_the_nearest_project_above_counts(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(TABLE)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = read_settings(below)
    assert (found.baseline, found.fail_on) == ("main", ["speedup:5%", "accuracy:1pt"])
    assert found.strict
    assert found.allow_missing_baseline
    (below / "pyproject.toml").write_text("[project]\nname = 'inner'\n")
    assert read_settings(below).fail_on == []


def test_baselines_are_those_of_the_project_from_anywhere_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(TABLE)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert read_settings(Path.cwd()).baselines == Path("../baselines")
    monkeypatch.chdir(tmp_path)
    assert read_settings(Path.cwd()).baselines == Path("baselines")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.bench]\nfail_on = []\n", "did you mean 'fail-on'"),
        ("[tool.bench]\nstrikt = true\n", "did you mean 'strict'"),
        ("[tool.bench]\nstrict = 'yes'\n", "strict: Input should be a valid boolean"),
        ("[tool.bench]\nfail-on = 'speedup:5%'\n", "fail-on: Input should be a valid list"),
        ("[tool]\nbench = 3\n", "[tool.bench]"),
        ("[tool.bench\n", "cannot be read"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(InputError) as refused:
        read_settings(tmp_path)
    assert said in str(refused.value)
    assert str(tmp_path / "pyproject.toml") in str(refused.value)
    assert "\n" not in str(refused.value)
