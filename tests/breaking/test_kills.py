"""A sweep killed again and again, at any moment, and gone on with: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.folder import RUN, read_run
from bench.nouns.run import Run
from tests.commands import command, environment, write_rows

pytestmark = pytest.mark.slow

KILLS = 50
LONGEST_S = 30.0
ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "2")
VARIANTS = ["dense", "bmp50", "kd", "mp"]
Key = tuple[str, int]


def start(cwd: Path, out: Path) -> subprocess.Popen[bytes]:
    """The sweep, or the same sweep gone on with; what it says is added to a file."""
    begun = (out / "options.json").exists()
    words = ("--resume", out) if begun else (*ASKED, "--variants", ",".join(VARIANTS[1:]), "--out", out)
    with (cwd / "said.txt").open("ab") as said:
        arguments = command("run", *words, *(() if begun else ("--cache", out.with_suffix(".cache"))))
        return subprocess.Popen(
            arguments, cwd=cwd, env=environment(), stdout=said, stderr=said, start_new_session=True
        )


def results(out: Path) -> dict[Key, dict[str, Any]]:
    """The `ok` rows of the document, none of which may stand twice; none where there is no document yet."""
    if not (out / RUN).exists():
        return {}
    run = read_run(out)
    keys = [(row.variant, row.seed) for row in run.results]
    assert len(keys) == len(set(keys)), "a row stands twice"
    return {(row.variant, row.seed): row.model_dump() for row in run.results if row.status == "ok"}


def steps(out: Path) -> dict[str, int]:
    """The finished steps in the cache, by id, and the file that each was finished with."""
    cache = out.with_suffix(".cache")
    found = {file.parent.name: file for file in cache.glob("*/findings.json")}
    return {name: file.stat().st_ino for name, file in found.items() if "." not in name}


def kept(before: dict[Key, dict[str, Any]], after: dict[Key, dict[str, Any]]) -> bool:
    """Whether every result of before is there with what was measured; what follows from it may be added."""
    return all(
        key in after
        and row["metrics"].items() <= after[key]["metrics"].items()
        and all(after[key][part] == row[part] for part in ("scenarios", "right", "spent", "artifact"))
        for key, row in before.items()
    )


def test_a_sweep_survives_any_number_of_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("BENCH_TEST_SEED", "0"))
    moments, kills, sweep, complete = random.Random(seed), 0, 0, []
    write_rows(tmp_path / "rows.csv", 200)
    while kills < KILLS:
        out = tmp_path / f"sweep{sweep}"
        rows, done = results(out), steps(out)
        process = start(tmp_path, out)
        try:
            process.wait(moments.uniform(0.0, LONGEST_S))
        except subprocess.TimeoutExpired:
            workers = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            _, alive = psutil.wait_procs(workers, timeout=20)
            assert not alive, f"kill {kills}: workers are left"
        assert process.returncode in (0, -signal.SIGKILL), (tmp_path / "said.txt").read_text()[-2000:]
        assert kept(rows, results(out)), f"kill {kills}: a result is lost"
        now = steps(out)
        assert {name: now.get(name) for name in done} == done, f"kill {kills}: a step was done again"
        if process.returncode == 0:
            complete.append(finished(out))
            sweep += 1
    out = tmp_path / f"sweep{sweep}"
    last = start(tmp_path, out)
    assert last.wait(600) == 0, (tmp_path / "said.txt").read_text()[-2000:]
    complete.append(finished(out))
    assert "Traceback" not in (tmp_path / "said.txt").read_text()
    assert len({accuracies(run) for run in complete}) == 1, "the same seed gave other models"


def finished(out: Path) -> Run:
    """The document of a sweep that has come to its end, with every variant once."""
    run = read_run(out)
    assert run.status == "complete"
    assert [(row.variant, row.status) for row in run.results] == [(variant, "ok") for variant in VARIANTS]
    return run


def accuracies(run: Run) -> tuple[str | None, ...]:
    """Which test rows each variant has right."""
    return tuple(row.right for row in run.results)
