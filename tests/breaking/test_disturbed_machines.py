"""A sweep on a machine that fails it: it ends in one line, and goes on once the machine is well again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.folder import RUN, read_run
from tests.breaking.conditions import read_only, small_disk, with_jumping_clock, with_open_files
from tests.commands import bench, command, environment, write_rows

pytestmark = pytest.mark.slow

ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1")
VARIANTS = ["dense", "bmp50", "mp"]
DISK_MB = 400


def started(
    cwd: Path, *arguments: str | Path, before: Sequence[str] = (), variables: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """The sweep at work, under whatever the words before it or the variables bring about."""
    write_rows(cwd / "rows.csv", 200)
    words = command("run", *ASKED, "--variants", ",".join(VARIANTS[1:]), *arguments)
    return subprocess.Popen(
        [*before, *words],
        cwd=cwd,
        env=environment() | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(place: Path) -> None:
    """Until it is there."""
    deadline = time.monotonic() + 240
    while not place.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert place.exists()


def ended(run: subprocess.Popen[str], number: int) -> None:
    """The sweep ended by this error of the machine, in one line with a remedy."""
    _, said = run.communicate(timeout=300)
    last = said.splitlines()[-1]
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert last.startswith("bench: ")
    assert os.strerror(number) in last
    assert "--resume" in last


def goes_on(cwd: Path, out: Path) -> None:
    """The sweep comes to its end, with each variant once."""
    done = bench("run", "--resume", out, cwd=cwd)
    assert done.returncode == 0, done.stderr
    run = read_run(out)
    assert [(row.variant, row.status) for row in run.results] == [(variant, "ok") for variant in VARIANTS]


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", DISK_MB) as disk:
        run = started(tmp_path, "--out", disk / "run", "--cache", disk / "cache")
        wait_for(disk / "run/predictions/dense.jsonl")
        fill(disk / "ballast")
        ended(run, errno.ENOSPC)
        assert json.loads((disk / "run" / RUN).read_text())["results"]
        (disk / "ballast").unlink()
        goes_on(tmp_path, disk / "run")


def fill(ballast: Path) -> None:
    """Write until the disk is full, to the last byte."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    assert shutil.disk_usage(ballast).free == 0


def test_too_small_a_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        run = started(tmp_path, "--out", disk / "run", "--cache", disk / "cache")
        _, said = run.communicate(timeout=300)
        assert run.returncode == 2, said
        assert "MB needed" in said.splitlines()[-1]
        assert not list(disk.iterdir())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", DISK_MB) as disk, read_only(disk):
        for where in (("--out", disk / "run"), ("--out", "run", "--cache", disk / "cache")):
            run = started(tmp_path, *where)
            _, said = run.communicate(timeout=300)
            assert run.returncode == 2, said
            assert "Read-only file system" in said.splitlines()[-1]
            assert not (tmp_path / "run").exists()


def test_too_few_open_files_end_it_in_a_line(tmp_path: Path) -> None:
    run = started(tmp_path, "--out", "run", before=with_open_files(10))
    ended(run, errno.EMFILE)


def test_as_many_open_files_as_macos_allows_are_enough(tmp_path: Path) -> None:
    run = started(tmp_path, "--out", "run", before=with_open_files(256))
    _, said = run.communicate(timeout=600)
    assert run.returncode == 0, said


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    run = started(tmp_path, "--out", "run", variables=with_jumping_clock(tmp_path))
    _, said = run.communicate(timeout=600)
    assert run.returncode == 0, said
    document = read_run(tmp_path / "run")
    assert [row.status for row in document.results] == ["ok"] * len(VARIANTS)
    assert document.wall_time is not None
    assert 0 < document.wall_time.value < 600
    for row in document.results:
        assert all(0 <= seconds < 600 for seconds in row.spent.values())
        times = [found for found in row.metrics.values() if found.unit == "s"]
        assert all(0 < found.value < 600 for found in times)
        assert row.metrics["speedup"].value < 20
