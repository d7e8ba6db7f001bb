"""Files that change while a run works are seen; those that are only touched are not."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from bench.options import Options
from bench.plan import make_plan
from bench.steps.request import Request
from bench.watch import Watch, Watched
from compressors import registry


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


PLUGIN = """
from compressors import Compressor, Phase

class Late(Compressor):
    name, phase, summary, trains = "late", Phase.PRECISION, "imports late", False
"""


def test_what_a_plugin_imports_later_is_no_change_and_what_is_written_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_classes", dict(registry.compressor_classes()))
    monkeypatch.setattr(registry, "_plugins", set())
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "imported_later.py").touch()
    plan = make_plan(
        Options(variants="late", plugins=(tmp_path / "plugin.py",), limit=60, limit_test=30, device="cpu")
    )
    asked = Request(
        task=tmp_path,
        kind="timing",
        variant="late",
        device="cpu",
        seed=0,
        epochs=1.0,
        learning_rate=1e-3,
        batch_size=8,
        max_length=32,
        budget="quick",
        plugins=list(plan.plugins),
    )
    watch = Watch(plan)
    importlib.import_module("imported_later")
    try:
        assert watch.changed(asked) is None
        (tmp_path / "plugin.py").write_text(PLUGIN + "# more")
        assert watch.changed(asked) == str(tmp_path / "plugin.py")
    finally:
        del sys.modules["imported_later"]
