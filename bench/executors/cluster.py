"""The cluster that rows are made on: where it is, what its nodes have, and what they share."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bench.environment import cores, gpus
from bench.errors import InputError, in_one_line
from bench.options import Options
from bench.storage import refuse_secrets
from compressors.variant import PROJECT

EXECUTOR = re.compile(r"ray(?::(?P<address>.+))?")
ANSWER_S = 5.0
LONGEST_ANSWER_S = 60.0
# What travels through Ray is small; models go through the storage.
OBJECT_STORE_BYTES = 100 * 2**20
# Ray reads these as it is imported: it is to report to nobody, to leave the terminal alone, and to give a row
# up whose node has run out of memory again and again.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": "2",
}
# How long the one that asks whether a cluster is there waits, in s, where the user does not say; Ray itself
# would wait for minutes.
ASKING = {"RAY_py_gcs_connect_timeout_s": "5", "RAY_gcs_server_request_timeout_seconds": "5"}
# It listens on this machine alone then, whatever the name says.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass(frozen=True)
class Cluster:
    """Nodes, each as (CPUs, GPUs), which share `storage`. Without an address it is started on this machine.

    `asked_cpus` of a node are for each row, None where the cluster decides.
    """

    address: str | None
    storage: str
    nodes: tuple[tuple[int, int], ...]
    asked_cpus: int | None = None

    @property
    def most_gpus(self) -> int:
        """GPUs of the node that has most."""
        return max(gpus for _, gpus in self.nodes)

    def row_cpus(self, device: str) -> int:
        """CPUs for each row: all of the smallest node that can take one, or a GPU's share of them."""
        if self.asked_cpus is not None:
            return self.asked_cpus
        if device == "cpu":
            return min(cpus for cpus, _ in self.nodes)
        return max(1, min(cpus // gpus for cpus, gpus in self.nodes if gpus))


def find_cluster(options: Options) -> Cluster | None:
    """The cluster that was asked for, connected to where it has an address; None without `--executor`.

    Raises `InputError` for what cannot be used together, and where the cluster cannot be reached.
    """
    if options.executor is None:
        for name, value in (("--storage", options.storage), ("--row-cpus", options.row_cpus)):
            if value is not None:
                raise InputError(f"{name} is for a cluster; add --executor ray[:ADDRESS], or drop it")
        return None
    address = read_executor(options.executor)
    if options.baseline is not None or options.fail_on:
        raise InputError(
            "--executor: a gate measures once more before it fails, and nodes do not; drop --baseline and "
            "--fail-on, and use bench compare afterwards"
        )
    if address is not None and options.storage is None:
        raise InputError("--executor: the nodes share models; add --storage URL, such as s3://… or /mnt/…")
    if options.storage is not None:
        refuse_secrets(options.storage)
    storage = options.storage or str(options.cache.absolute().parent / "storage")
    nodes = ((cores(), len(gpus())),) if address is None else nodes_at(address)
    most = max(cpus for cpus, _ in nodes)
    if options.row_cpus is not None and not 0 < options.row_cpus <= most:
        raise InputError(f"--row-cpus {options.row_cpus}: use 1 to {most}, which the largest node has")
    return Cluster(address, storage, nodes, options.row_cpus)


def read_executor(text: str) -> str | None:
    """The address in `ray:ADDRESS`, None for `ray` alone. Raises `InputError` for anything else."""
    match = EXECUTOR.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--executor {text}: write ray, or ray:HOST:PORT")
    address: str | None = match["address"]
    if address is not None and address != "auto" and not re.fullmatch(r"[^\s/]+:[0-9]{1,5}", address):
        raise InputError(
            f"--executor {text}: write ray:HOST:PORT with the port that ray start --head printed, or "
            "ray:auto; start bench on a machine of the cluster"
        )
    return address


def nodes_at(address: str) -> tuple[tuple[int, int], ...]:
    """The (CPUs, GPUs) of each node that takes work. Raises `InputError` where there is none."""
    ray = connect(address)
    having = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = tuple(
        (int(found["CPU"]), int(found.get("GPU", 0))) for found in having if found.get("CPU", 0) >= 1
    )
    if not nodes:
        raise InputError(f"--executor ray:{address}: no node has a CPU to give; start one with ray start")
    return nodes


def connect(address: str | None) -> Any:
    """The module `ray`, connected to the cluster at the address, or to one started here for this process."""
    ray = import_ray(SETTINGS if address else SETTINGS | LOOPBACK)
    if ray.is_initialized():
        return ray
    started: dict[str, Any] = {"num_cpus": cores(), "num_gpus": len(gpus())}
    started |= {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    if address is not None and address != "auto":
        refuse_silent(address)
        refuse_other_service(address)
    try:
        with own_signals():
            where = {"address": address} if address else started
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        named = "ray" if address is None else f"ray:{address}"
        raise InputError(
            f"--executor {named}: no cluster answers ({in_one_line(error)}); start bench on a machine of the "
            "cluster, with the Python and Ray that it runs"
        ) from None
    return ray


def import_ray(settings: Mapping[str, str]) -> Any:
    """The module `ray` with these settings. Raises `InputError` where it is not installed."""
    if find_spec("ray") is None:
        raise InputError(f"--executor ray: Ray is not installed: pip install '{PROJECT}[ray]'")
    os.environ.update(settings)
    import ray

    # What befalls its nodes it would print to stdout, where a document may be due; no setting prevents that.
    ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
    return ray


def refuse_silent(address: str) -> None:
    """Raise `InputError` where nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--executor ray:{address}: cannot be reached ({in_one_line(error)}); see ray status"
        ) from None


def refuse_other_service(address: str) -> None:
    """Raise `InputError` where what listens is no head of a cluster; a process of its own asks, silently."""
    ask = [sys.executable, "-P", "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    try:
        subprocess.run(
            [*ask, "--address", address],
            env=ASKING | os.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=LONGEST_ANSWER_S,
        )
    except subprocess.SubprocessError:
        raise InputError(
            f"--executor ray:{address}: what listens there is not the head of a Ray cluster; use the port "
            "that ray start --head printed, 6379 by default"
        ) from None


@contextmanager
def own_signals() -> Iterator[None]:
    """Ours stay what ends the command: Ray would put its own in their place."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
