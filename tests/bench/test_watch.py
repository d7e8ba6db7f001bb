"""Files that change while a run works are seen; those that are only touched are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.watch import Watched


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in made:
        file.write_text(file.name)
    return made


def test_nothing_has_changed(files: list[Path]) -> None:
    assert not Watched(lambda: files).is_changed


def test_what_is_written_is_seen_again_and_again(files: list[Path]) -> None:
    watched = Watched(lambda: files)
    files[1].write_text("something else")
    assert watched.is_changed
    assert watched.is_changed
    files[1].write_text("b.txt")
    assert not watched.is_changed


def test_a_touch_is_no_change(files: list[Path]) -> None:
    watched = Watched(lambda: files)
    os.utime(files[0], (1, 1))
    assert not watched.is_changed


def test_a_file_that_goes_has_changed(files: list[Path]) -> None:
    watched = Watched(lambda: files)
    files[0].unlink()
    assert watched.is_changed


def test_a_file_that_comes_has_changed(files: list[Path], tmp_path: Path) -> None:
    watched = Watched(lambda: tmp_path.iterdir())
    (tmp_path / "c.txt").touch()
    assert watched.is_changed
