"""A sweep of 200 variants: neither memory nor open files grow beyond what its results take."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from bench.folder import RUN, read_run
from tests.commands import command, environment, write_rows

pytestmark = pytest.mark.slow

VARIANTS = 200
# The samples of a row as Python keeps them, which is about four times what they take in the document.
GROWTH_BYTES = 1 << 19
PLUGIN = '''
"""Measuring for as short as can be: what a long sweep gathers is looked at, and no figure of it."""

from dataclasses import dataclass, replace

from bench import protocol
from compressors import Compressor, Phase

protocol.PROTOCOLS["quick"] = replace(
    protocol.PROTOCOLS["quick"],
    min_time_s=0.0,
    max_time_s=0.1,
    warm_up_calls=1,
    warm_up_min_s=0.0,
    warm_up_cap_s=0.01,
    requests=11,
    loads=1,
    energy_window_s=0.01,
    idle_window_s=0.01,
)


@dataclass
class Trivial(Compressor):
    """Leaves the model as it is."""

    name = "trivial"
    phase = Phase.PRECISION
    summary = "does nothing"
    argument = "turn"
    trains = False

    turn: int = 0
'''


def test_two_hundred_variants_leave_nothing_behind_but_their_results(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 60)
    (tmp_path / "trivial.py").write_text(PLUGIN)
    specs = ",".join(f"trivial:{turn}" for turn in range(1, VARIANTS))
    asked = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1")
    more = ("--plugin", "trivial.py", "--variants", specs, "--keep", "none", "--out", "long")
    with (tmp_path / "said.txt").open("w") as said:
        run = subprocess.Popen(
            command("run", *asked, *more), cwd=tmp_path, env=environment(), stdout=said, stderr=said
        )
    sizes, files = watched(run, tmp_path / "long" / RUN)
    assert run.returncode == 0, (tmp_path / "said.txt").read_text()[-2000:]
    document = read_run(tmp_path / "long")
    assert len(document.results) == VARIANTS
    assert {row.status for row in document.results} == {"ok"}
    early, late = VARIANTS // 4, VARIANTS - 10
    assert sizes[late] - sizes[early] < (late - early) * GROWTH_BYTES
    assert files[late] <= files[early]


def watched(run: subprocess.Popen[bytes], document: Path) -> tuple[dict[int, int], dict[int, int]]:
    """The memory and the open files of the run's own process while it had so many results.

    Both are the least that were seen, since they rise while a worker is at work or the document is written.
    """
    process = psutil.Process(run.pid)
    sizes: dict[int, int] = {}
    files: dict[int, int] = {}
    while run.poll() is None:
        time.sleep(0.5)
        if not document.exists():
            continue
        try:
            size, opened = process.memory_info().rss, process.num_fds()
        except psutil.NoSuchProcess:
            break
        number = document.read_bytes().count(b'"variant": ')
        sizes[number] = min(size, sizes.get(number, size))
        files[number] = min(opened, files.get(number, opened))
    run.wait()
    return filled(sizes), filled(files)


def filled(seen: dict[int, int]) -> dict[int, int]:
    """What was seen with a number of results, or with the last number before it that was seen."""
    found: dict[int, int] = {}
    for number in range(min(seen), max(max(seen), VARIANTS) + 1):
        found[number] = seen.get(number, found.get(number - 1, 0))
    return found
