"""A sweep on a cluster of Ray's: two nodes besides the head, real processes all of them, on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.cache import files_fingerprint
from bench.executors.cluster import ASKING, SETTINGS
from bench.executors.on_ray import unanswered
from bench.folder import read_run
from tests.commands import bench, command, environment, write_rows

ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1", "--epochs", "1")
PATIENCE_S = 240.0
PLUGIN = """
import os
import time
from dataclasses import dataclass
from pathlib import Path

import beside
from compressors import Compressor, Phase


@dataclass
class Waits(Compressor):
    \"\"\"Waits, as long as a file named `hold` is there.\"\"\"

    name = "waits"
    phase = Phase.PRECISION
    summary = beside.SUMMARY
    argument = "folder"
    trains = False

    folder: str = ""
    turn: int = 0

    def finish(self, model, context):
        folder = Path(self.folder)
        (folder / "began").write_text(f"{os.environ['RAY_RAYLET_PID']} {os.getpid()}")
        with (folder / "servers").open("a") as servers:
            servers.write(f"{os.environ['RAY_RAYLET_PID']} {os.getppid()}\\n")
        while (folder / "hold").exists():
            time.sleep(0.1)
        return model


@dataclass
class Fails(Compressor):
    \"\"\"Ends its training, and leaves a line each time.\"\"\"

    name = "fails"
    phase = Phase.ARCHITECTURE
    summary = "fails"
    argument = "folder"
    trains = True

    folder: str = ""

    def prepare(self, model, context):
        with (Path(self.folder) / "failures").open("a") as failures:
            failures.write("failed\\n")
        raise RuntimeError("failed on purpose")
"""


@dataclass
class Nodes:
    """A cluster that is up, its nodes by the process that stands for each, and a place that they share."""

    cluster: Any
    cwd: Path
    asked: tuple[str, ...]

    def add(self) -> None:
        self.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """The head, which takes no rows, and two nodes with a CPU each."""
    cwd = tmp_path_factory.mktemp("cluster")
    write_rows(cwd / "rows.csv", 300)
    (cwd / "beside.py").write_text('SUMMARY = "waits"\n')
    (cwd / "waits.py").write_text(PLUGIN)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        for name in ASKING:
            patch.setenv(name, "50")  # three nodes that start beside it keep a small machine busy
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        made = Nodes(cluster, cwd, ())
        try:
            cluster.add_node(num_cpus=0, include_dashboard=False, object_store_memory=80 * 2**20)
            made.asked = (*ASKED, "--executor", f"ray:{cluster.address}", "--storage", str(cwd / "storage"))
            made.add()
            made.add()
            yield made
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def first(nodes: Nodes) -> Path:
    """The folder of a sweep over both nodes."""
    done = bench("run", *nodes.asked, "--variants", "bmp50,mp", "--out", "first", cwd=nodes.cwd)
    assert done.returncode == 0, done.stderr
    return nodes.cwd / "first"


def files(folder: Path) -> set[str]:
    """The files below a folder, by their paths in it."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def eventually(seen: Callable[[], bool], what: str) -> None:
    """Wait until something is seen."""
    deadline = time.monotonic() + PATIENCE_S
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def with_plugins(nodes: Nodes) -> dict[str, str]:
    """An environment in which a plugin finds what lies beside it."""
    return environment() | {"PYTHONPATH": f"{nodes.cwd}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def started(nodes: Nodes, turn: int, out: str, *more: str) -> tuple[subprocess.Popen[str], int, int]:
    """A sweep that has come to where its variant waits; the processes of that node, and of the step."""
    (nodes.cwd / "began").unlink(missing_ok=True)
    (nodes.cwd / "hold").touch()
    asked = (*nodes.asked, "--plugin", "waits.py", "--out", out, *more)
    variants = f"mp,waits:folder={nodes.cwd},turn={turn}"
    run = subprocess.Popen(
        command("run", *asked, "--variants", variants),
        cwd=nodes.cwd,
        env=with_plugins(nodes),
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    eventually(lambda: (nodes.cwd / "began").exists() or run.poll() is not None, "the row never began")
    assert run.poll() is None, run.communicate()[1]
    eventually(lambda: (nodes.cwd / "began").read_text().count(" ") == 1, "nothing was written")
    raylet, step = map(int, (nodes.cwd / "began").read_text().split())
    return run, raylet, step


def test_it_is_the_run_that_this_machine_alone_would_make(nodes: Nodes, first: Path) -> None:
    done = subprocess.run(
        command("run", *ASKED, "--variants", "bmp50", "--out", "alone"),
        cwd=nodes.cwd,
        env=environment() | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0
    alone, run = read_run(nodes.cwd / "alone"), read_run(first)
    assert run.status == "complete"
    assert [(row.variant, row.status) for row in run.results] == [
        (variant, "ok") for variant in ("dense", "bmp50", "mp")
    ]
    assert run.fingerprints.keys() == alone.fingerprints.keys()
    for here in alone.results:
        there = run.result(here.variant)
        assert there is not None
        assert (there.right, there.metrics["accuracy"].value) == (here.right, here.metrics["accuracy"].value)
        assert there.accuracy_kept.keys() == here.accuracy_kept.keys()
        artifacts = [folder / "artifacts" / here.variant for folder in (nodes.cwd / "alone", first)]
        assert files_fingerprint(artifacts[0]) == files_fingerprint(artifacts[1])
        assert (
            there.metrics.keys() | there.unavailable.keys() == here.metrics.keys() | here.unavailable.keys()
        )
    assert files(nodes.cwd / "alone") <= files(first)
    assert not list((nodes.cwd / "storage" / "runs").iterdir()), "what the run alone needed is taken away"


def test_a_row_whose_node_is_killed_is_made_on_another(nodes: Nodes, first: Path) -> None:
    run, raylet, step = started(nodes, 1, "killed")
    os.kill(raylet, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(step), "the step outlived its node")
    (nodes.cwd / "hold").unlink()
    said = run.communicate(timeout=PATIENCE_S)[1]
    nodes.add()
    assert run.returncode == 0, said
    assert "begun again on node" in said
    assert "raylet" not in said.lower(), "what Ray says is not ours"
    found = read_run(nodes.cwd / "killed")
    assert found.status == "complete"
    assert [row.parts for row in found.results] == [[], ["mp"], [f"waits:{nodes.cwd},turn=1"]]
    assert {row.status for row in found.results} == {"ok"}
    assert found.results[0].cached == ["dense", "timing", "footprint"], "what the storage has is taken over"
    assert found.results[0].right == read_run(first).results[0].right


@pytest.mark.slow
def test_an_interrupted_sweep_leaves_nothing_running_and_goes_on(nodes: Nodes, first: Path) -> None:
    run, _, step = started(nodes, 2, "interrupted")
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=PATIENCE_S)[1]
    assert run.returncode == 130, said
    eventually(lambda: not psutil.pid_exists(step), "the step outlived the run")
    broken_off = read_run(nodes.cwd / "interrupted")
    assert broken_off.status == "interrupted"
    assert "dense" in [row.variant for row in broken_off.results]
    (nodes.cwd / "hold").unlink()
    resumed = bench("run", "--resume", "interrupted", cwd=nodes.cwd)
    assert resumed.returncode == 0, resumed.stderr
    found = read_run(nodes.cwd / "interrupted")
    assert found.status == "complete"
    assert [row.status for row in found.results] == ["ok"] * 3


@pytest.mark.slow
def test_each_row_has_its_own_environment_and_a_training_fails_once(nodes: Nodes, first: Path) -> None:
    """What one row's process has set holds for all that it starts: no other row may come from it."""
    here = nodes.cwd
    waits = [f"waits:folder={here},turn={turn}" for turn in (3, 4, 5)]
    fails = [f"fails:folder={here}", f"fails:folder={here}+int8"]
    (here / "servers").unlink(missing_ok=True)
    asked = ("--plugin", "waits.py", "--variants", ",".join(waits + fails), "--out", "several")
    done = subprocess.run(
        command("run", *nodes.asked, *asked),
        cwd=here,
        env=with_plugins(nodes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    rows = read_run(here / "several").results
    assert [row.status for row in rows] == ["ok"] * 4 + ["failed"] * 2
    servers = (here / "servers").read_text().splitlines()
    assert len({line.split()[0] for line in servers}) < len(servers), "two followed each other on a node"
    assert len(set(servers)) == len(waits)
    assert (here / "failures").read_text().splitlines() == ["failed"]
    assert rows[4].variant != rows[5].variant
    assert "failed on purpose" in (rows[5].reason or "")
    assert (rows[4].reason, rows[4].failure) == (rows[5].reason, rows[5].failure)


@pytest.mark.slow
def test_a_storage_that_is_lost_is_what_its_rows_failed_for(nodes: Nodes) -> None:
    storage = nodes.cwd / "lost"
    run, _, _ = started(nodes, 6, "unstored", "--storage", str(storage))
    shutil.rmtree(storage)
    storage.write_text("")
    (nodes.cwd / "hold").unlink()
    said = run.communicate(timeout=PATIENCE_S)[1]
    assert run.returncode == 1, said
    assert "Traceback" not in said
    found = read_run(nodes.cwd / "unstored")
    assert found.status == "complete"
    assert found.results[0].status == "ok"
    assert found.results[-1].status == "failed"
    assert f"--storage {storage}: cannot be" in (found.results[-1].reason or "")


def test_what_ended_a_row_without_an_answer_is_told_apart() -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        for name in ASKING:
            patch.setenv(name, "50")  # three nodes that start beside it keep a small machine busy
        from ray import exceptions
    raised = exceptions.RayTaskError("make", "in make\nOSError: full", OSError("full"), "p", 1, "10.0.0.1")
    told = {
        ("error", "could not be made on its node (OSError: full)"): raised,
        ("out of memory", "ran out of memory"): exceptions.OutOfMemoryError("95 % used"),
        ("crashed", "lost with its node"): exceptions.NodeDiedError("gone"),
        ("crashed", "lost with its process there"): exceptions.WorkerCrashedError(),
    }
    for (kind, said), error in told.items():
        failed = unanswered(error)
        assert failed.kind == kind
        assert said in str(failed)


@pytest.mark.slow
def test_what_a_row_reads_travels(nodes: Nodes, first: Path) -> None:
    """A checkpoint and a file, by paths that mean something where the run is started alone."""
    shutil.copytree(first / "artifacts" / "bmp50", nodes.cwd / "models" / "bmp50+x")
    (nodes.cwd / "words.txt").write_text("bank match\n")
    asked = ("--variants", "load:models/bmp50+x,vocab:words.txt", "--out", "travelled")
    run = bench("run", *nodes.asked, *asked, cwd=nodes.cwd)
    assert run.returncode == 0, run.stderr
    for kind in ("checkpoint", "file"):
        assert list((nodes.cwd / "storage").glob(f"{kind}-*/files.json"))
    found = read_run(nodes.cwd / "travelled")
    loaded, same = found.result("load:models/bmp50+x"), read_run(first).result("bmp50")
    assert loaded is not None
    assert same is not None
    assert loaded.right == same.right


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--executor", "ray:127.0.0.1:1", "--storage", "s"), "cannot be reached"),
        (("--executor", "ray:127.0.0.1:1"), "add --storage URL"),
        (("--executor", "slurm"), "write ray, or ray:HOST:PORT"),
        (("--executor", "ray", "--storage", "nowhere://x"), "--storage nowhere://x: cannot be opened"),
        (("--executor", "ray", "--storage", "rows.csv/x"), "cannot be written"),
        (("--executor", "ray", "--row-cpus", "1000"), "the largest node has"),
        (("--executor", "ray", "--baseline", "main"), "bench compare afterwards"),
        (("--storage", "s"), "add --executor"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(
    tmp_path: Path, asked: tuple[str, ...], said: str
) -> None:
    write_rows(tmp_path / "rows.csv", 100)
    done = bench("run", *ASKED, "--variants", "mp", *asked, "--out", "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert said in line
    assert not (tmp_path / "out").exists()


def test_without_a_gpu_in_the_cluster_there_is_no_cuda(nodes: Nodes) -> None:
    done = bench("run", *nodes.asked, "--device", "cuda", "--out", "out", cwd=nodes.cwd)
    assert done.returncode == 2
    assert "no node of the cluster has a GPU" in done.stderr
