"""What is asked for of a cluster, and what its nodes give to a row."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cache import Cache
from bench.environment import GPUS, cores
from bench.errors import InputError
from bench.executors.cluster import Cluster, find_cluster, read_executor
from bench.executors.inputs import fetch, send
from bench.executors.node import (
    clear_others,
    for_any_device,
    installed_software,
    lock_of,
    refuse_other_software,
)
from bench.lock import hold, hold_patiently
from bench.options import Options
from bench.plan import make_plan
from bench.storage import Storage
from compressors import hub
from compressors.variant import parse_variant
from tests.commands import bench, write_rows

SIZES = st.lists(st.tuples(st.integers(1, 256), st.integers(0, 16)), min_size=1)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ray", None),
        ("ray:auto", "auto"),
        ("ray:head:6379", "head:6379"),
        ("ray:10.0.0.1:6379", "10.0.0.1:6379"),
        ("ray:[fe80::1]:6379", "[fe80::1]:6379"),
    ],
)
def test_an_executor_is_ray_with_or_without_an_address(text: str, address: str | None) -> None:
    assert read_executor(text) == address


@pytest.mark.parametrize(
    "text", ["", "slurm", "ray:", "ray:head", "ray:ray://head:10001", "raya", "ray:a b:1"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--executor .*: write ray, or ray:HOST:PORT|write ray:HOST:PORT"):
        read_executor(text)


@given(nodes=SIZES)
def test_a_row_fits_on_every_node_that_takes_rows(nodes: list[tuple[int, int]]) -> None:
    cluster = Cluster("head:6379", "/mnt", tuple(nodes))
    assert all(1 <= cluster.row_cpus("cpu") <= cpus for cpus, _ in nodes)
    with_gpus = [(cpus, gpus) for cpus, gpus in nodes if gpus]
    if with_gpus:
        each = cluster.row_cpus("cuda")
        assert each == 1 or all(each * gpus <= cpus for cpus, gpus in with_gpus)


def test_what_is_asked_for_a_row_is_what_it_gets() -> None:
    assert Cluster(None, "s", ((8, 2),), asked_cpus=3).row_cpus("cuda") == 3


def test_without_an_address_the_storage_lies_beside_the_cache(tmp_path: Path) -> None:
    found = find_cluster(Options(executor="ray", cache=tmp_path / "cache"))
    assert found is not None
    assert (found.address, found.storage) == (None, str(tmp_path / "storage"))
    assert find_cluster(Options()) is None


def test_all_gpus_of_this_machine_are_the_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GPUS, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,3")
    found = find_cluster(Options(executor="ray", cache=tmp_path / "cache"))
    assert found is not None
    assert (found.nodes, found.most_gpus) == (((cores(), 3),), 3)


def test_a_secret_in_the_url_ends_the_command_before_anything_is_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 100)
    before = sorted(tmp_path.rglob("*"))
    asked = ("--train", "rows.csv", "--executor", "ray", "--storage", "s3://key:SEC/RET@bucket")
    done = bench("run", *asked, cwd=tmp_path)
    assert done.returncode == 2
    assert "credentials come from the environment" in done.stderr
    assert "RET" not in done.stderr + done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_cluster_is_told_apart_in_one_line(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 100)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        asked = ("--train", "rows.csv", "--executor", f"ray:{address}", "--storage", "s")
        done = bench("run", *asked, cwd=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"ray:{address}: what listens there is not the head of a Ray cluster" in line


def test_planning_imports_no_torch_and_no_ray_where_none_is_asked_for() -> None:
    program = (
        "import sys; from bench.options import Options; from bench.executors.cluster import find_cluster; "
        "find_cluster(Options()); find_cluster(Options(executor='ray')); "
        "assert not {'ray', 'torch', 'fsspec'} & sys.modules.keys(), 'imported'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_node_with_other_software_is_told_apart() -> None:
    here = installed_software()
    refuse_other_software(here, here, "here")
    with pytest.raises(InputError, match=r"torch is .* there and 1\.0 here; install the same"):
        refuse_other_software(here, here | {"torch": "1.0"}, "here")


def test_nodes_share_what_torch_is_built_for_and_who_starts_the_run_need_not() -> None:
    here = installed_software()
    cpu, gpu = here | {"torch": "9.1+cpu"}, here | {"torch": "9.1+cu130", "cuda": "13.0"}
    assert for_any_device(cpu) == for_any_device(gpu)
    with pytest.raises(InputError, match=r"torch is 9.1\+cu130 there and 9.1\+cpu on node a; install"):
        refuse_other_software(gpu, cpu, "on node a")
    with pytest.raises(InputError, match=r"cuda is 13.0 there and absent on node a; install"):
        refuse_other_software(gpu | {"torch": "9.1+cpu"}, cpu, "on node a")


def test_what_dead_nodes_left_is_cleared_and_what_is_worked_in_is_not(tmp_path: Path) -> None:
    for name in ("own", "dead", "other-clusters"):
        (tmp_path / name / "cache").mkdir(parents=True)
    with hold_patiently(lock_of(tmp_path / "own")), hold_patiently(lock_of(tmp_path / "other-clusters")):
        clear_others(tmp_path, {"own"})
        assert {place.name for place in tmp_path.iterdir() if place.is_dir()} == {"own", "other-clusters"}
        with pytest.raises(InputError), hold(lock_of(tmp_path / "other-clusters"), "it"):
            pytest.fail("its lock is another now")
    clear_others(tmp_path, {"own"})
    assert {place.name for place in tmp_path.iterdir() if place.is_dir()} == {"own"}


def test_equal_files_of_other_names_are_found_by_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "_snapshots", {})
    write_rows(Path("rows.csv"), 100)
    storage, cache = Storage(str(tmp_path / "storage")), Cache(tmp_path / "cache")
    (tmp_path / "node").mkdir()
    for names in (("a.txt", "b.txt"), ("c.txt",)):
        for name in names:
            Path(name).write_text("bank match\n")
        variants = ",".join(f"vocab:{name}" for name in names)
        plan = make_plan(Options(train="rows.csv", test_split=0.3, variants=variants, device="cpu"))
        inputs = send(plan, Cache(cache.root, storage), storage)
        for name in names:
            Path(name).unlink()
        fetch(inputs, Cache(tmp_path / "node" / "cache", storage), storage, tmp_path / "node")
        for name in names:
            copy = hub.place_of(Path(name))
            assert (copy.name, copy.read_text()) == (name, "bank match\n")


def test_what_the_user_named_is_found_where_its_copy_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the name has a plus sign, which would begin another part if nothing were called so."""
    monkeypatch.setattr(hub, "_snapshots", {})
    (tmp_path / "copy").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "copy" / name).write_text("{}")
    named = "runs/x/bmp25+kd"
    with pytest.raises(InputError):
        hub.find(named)
    hub.take_over({named: tmp_path / "copy", "a+b.txt": tmp_path / "b.txt"})
    assert hub.find(named) == tmp_path / "copy"
    assert hub.place_of(Path("./a+b.txt")) == tmp_path / "b.txt"
    assert parse_variant(f"load:{named}").checkpoints == (named,)
    assert [part.files for part in parse_variant("vocab:a+b.txt").parts] == [(Path("a+b.txt"),)]
    assert len(parse_variant("bmp25+kd").parts) == 2
