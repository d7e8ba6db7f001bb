"""The disturbed machines that other tests rest on are disturbed as they say, and no further."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.breaking.conditions import read_only, small_disk, with_jumping_clock, with_open_files

MIB = 1024**2

OPEN_ALL = """
import os
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(error.errno, max(opened))
"""
READ_CLOCKS = """
import time
for _ in range(2000):
    print(time.time(), time.perf_counter(), time.monotonic())
"""


def output(*words: str, **variables: str) -> str:
    """What a command prints, with these variables beside the user's."""
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **variables})
    return done.stdout


def test_a_small_disk_holds_what_it_should_and_no_more(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        assert shutil.disk_usage(disk).total == 2 * MIB
        (disk / "half").write_bytes(bytes(MIB))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (disk / "whole").write_bytes(bytes(2 * MIB))
    assert not list((tmp_path / "disk").iterdir())


def test_a_read_only_disk_can_be_read_and_not_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "file").write_text("kept")
        with read_only(disk):
            assert (disk / "file").read_text() == "kept"
            for refused in (lambda: (disk / "new").touch(), lambda: (disk / "file").write_text("lost")):
                with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
                    refused()
        (disk / "file").write_text("changed")


def test_a_process_with_few_open_files_runs_out_of_them(tmp_path: Path) -> None:
    number, highest = map(int, output(*with_open_files(48), sys.executable, "-c", OPEN_ALL).split())
    assert (number, highest) == (errno.EMFILE, 47)


def test_what_a_process_starts_has_no_more_open_files_either() -> None:
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {OPEN_ALL!r}], check=True)"
    assert output(*with_open_files(48), sys.executable, "-c", starts).split()[1] == "47"


def test_only_the_time_of_day_jumps(tmp_path: Path) -> None:
    printed = output(sys.executable, "-c", READ_CLOCKS, **with_jumping_clock(tmp_path))
    readings = [tuple(map(float, line.split())) for line in printed.splitlines()]
    of_day, *steady = zip(*readings, strict=True)
    steps = [after - before for before, after in pairwise(of_day)]
    assert any(step < -3000 for step in steps)
    assert any(step > 3000 for step in steps)
    assert max(of_day) - min(of_day) < 7200
    for clock in steady:
        assert list(clock) == sorted(clock)


def test_every_way_to_ask_for_the_time_of_day_jumps(tmp_path: Path) -> None:
    variables = with_jumping_clock(tmp_path)
    ask = tmp_path / "ask.c"
    ask.write_text(
        "#include <stdio.h>\n#include <sys/time.h>\n#include <time.h>\n"
        "int main(void) { struct timeval now; for (int i = 0; i < 500; i++) {"
        ' gettimeofday(&now, 0); printf("%ld %ld\\n", (long)now.tv_sec, (long)time(0)); } return 0; }\n'
    )
    output("cc", "-o", str(tmp_path / "ask"), str(ask))
    lines = output(str(tmp_path / "ask"), **variables).splitlines()
    for clock in zip(*(map(int, line.split()) for line in lines), strict=True):
        assert max(clock) - min(clock) >= 3600
