"""A row made on a node of a cluster: what the node is told, what it does, and what it answers."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import Field

from bench.cache import Cache, file_sizes, sources_fingerprint
from bench.calibration import noise_floor
from bench.environment import LIBRARIES, cuda_versions, fingerprint
from bench.errors import BenchError, InputError
from bench.executors.inputs import Inputs, fetch
from bench.folder import RunFolder
from bench.foreign_code import installed_code
from bench.lock import hold, hold_patiently, private_folder
from bench.meters.machine import start_cautions
from bench.nouns.document import Document
from bench.nouns.environment import ABSENT, Caution, Environment
from bench.nouns.run import Config, Result
from bench.plan import Plan
from bench.storage import Storage
from bench.tasks.stored import read_task
from bench.workbench import Workbench
from bench.workers import Workers
from compressors.variant import parse_variant

LOCK = ".lock"
ARTIFACTS = "artifacts"
TELL_EVERY_S = 0.5
Tell = Callable[[str, int, int], object]


class RowRequest(Document):
    """What a node is told of the row that it is to make.

    `storage` is the URL that all nodes share, `place` is where in it the row's files go, `folder` what the
    run folder is called where the run was started. `variables` hold for the workers. `made_on` is the machine
    that the run's models count as made on; None for the first dense, whose machine that is. What has to be
    installed alike is `software`, as it is on the cluster's nodes, see `installed_software`, and
    `techniques`, hashes of those that are not ours. `row_cpus` are the CPUs that each row has of its node.
    """

    variant: str
    seed: int
    config: Config
    inputs: Inputs
    storage: str
    place: str
    folder: str
    variables: dict[str, str]
    software: dict[str, str]
    techniques: dict[str, str]
    anchor: str
    remeasure: bool
    timeout_s: float | None
    made_on: Environment | None
    row_cpus: int


@dataclass(frozen=True)
class Node:
    """The node that a row is made on: its id in the cluster, what it is called for the user, and its CPUs.

    `alive` are the ids of all nodes of the cluster.
    """

    id: str
    label: str
    cpus: int
    alive: Collection[str]

    def shares_cpus(self, request: RowRequest) -> bool:
        """Whether other rows may be made on its CPUs at the same time."""
        return request.config.device == "cpu" and self.cpus >= 2 * request.row_cpus


class RowAnswer(Document):
    """What came of a row: its result, and the id of the step that made its model; or why there is none.

    `exit_code` is that of the error. `import_time_s` is how long the libraries took to import.
    """

    result: Result | None = None
    model: str | None = None
    environment: Environment | None = None
    cautions: list[Caution] = Field(default_factory=list)
    import_time_s: float = 0.0
    error: str = ""
    exit_code: int = 0


class NodeDisplay:
    """Tells which stage a row has come to, no more often than anybody looks."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._stage, self._told = tell, "", 0.0

    def begin(self, row: str, number: int, total: int) -> None:
        """It has begun where it was asked for."""

    def stage(self, row: str, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage or now - self._told >= TELL_EVERY_S:
            self._stage, self._told = stage, now
            self._tell(stage, done, total)

    def end(self, row: str, result: Result) -> None:
        """The answer tells that."""

    def say(self, text: str) -> None:
        """What there is to say stands in the answer."""


def make_row(request: RowRequest, node: Node, tell: Tell) -> RowAnswer:
    """Make and measure a row on this machine, the cluster's `node`.

    Every step goes into the storage as it is done, so that another node can go on from there.
    """
    nodes = private_folder() / "nodes"
    nodes.mkdir(exist_ok=True)
    display = NodeDisplay(tell)
    display.stage(request.variant, "fetching", 0, 1)
    try:
        with hold_patiently(lock_of(nodes / node.id)):
            (nodes / node.id).mkdir(exist_ok=True)
            clear_others(nodes, node.alive)
            refuse_other_software(installed_software(), request.software, "on the cluster's other nodes")
            os.environ.update(request.variables)
            cache = Cache(nodes / node.id / "cache", Storage(request.storage))
            with cache.held(lambda: display.stage(request.variant, "waiting for the cache", 0, 1)):
                return row_of(request, cache, nodes / node.id, display, node.shares_cpus(request))
    except BenchError as error:
        return RowAnswer(error=str(error), exit_code=error.exit_code)


def row_of(
    request: RowRequest, cache: Cache, root: Path, display: NodeDisplay, beside_others: bool
) -> RowAnswer:
    """The row, made with the node's cache; whatever else it needs lies below `root` meanwhile."""
    assert cache.storage is not None
    storage = cache.storage
    plugins = fetch(request.inputs, cache, storage, root)
    refuse_other_techniques(request)
    plan = Plan(
        task=read_task(cache.root / request.inputs.task),
        variants=(parse_variant(request.variant),),
        config=request.config,
        plugins=plugins,
        cache=cache.root,
        checkpoints=dict.fromkeys(request.inputs.checkpoints),
        remeasure=request.remeasure,
        anchor=request.anchor,
        timeout_s=request.timeout_s,
    )
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        folder = RunFolder(Path(scratch))
        try:
            answer = measured(plan, folder, display, storage, request, beside_others)
        except BenchError as error:
            answer = RowAnswer(error=str(error), exit_code=error.exit_code)
        # The model is in the storage already, as the step that made it.
        shutil.rmtree(folder.path / ARTIFACTS, ignore_errors=True)
        storage.keep({path: folder.path / path for path in file_sizes(folder.path)}, request.place)
        # What failed names its log, which will lie where the run was started.
        answer.error = answer.error.replace(scratch, request.folder)
        if answer.result and answer.result.reason:
            answer.result.reason = answer.result.reason.replace(scratch, request.folder)
        return answer


def measured(
    plan: Plan,
    folder: RunFolder,
    display: NodeDisplay,
    storage: Storage,
    request: RowRequest,
    beside_others: bool,
) -> RowAnswer:
    """The plan's one row at the request's seed. Raises `BenchError` where it is dense and cannot be made."""
    device, budget = plan.config.device, plan.config.budget
    environment = fingerprint()
    environment.noise_floor = noise_floor(environment, device, budget)
    at_start = start_cautions(environment, device)
    if beside_others:  # who is busy is the other rows then, which wait while this one is timed
        at_start = [caution for caution in at_start if caution.code != "load"]
    bench = Workbench(plan, folder, Workers(), display, environment, storage, request.made_on, beside_others)
    [variant] = plan.variants
    with bench.workers:
        result = bench.judged(bench.result(variant, request.seed), variant)
    return RowAnswer(
        result=result,
        model=bench.model_of(result).id if result.status == "ok" else None,
        environment=environment,
        cautions=[*at_start, *bench.cautions],
        import_time_s=bench.workers.import_time_s,
    )


def installed_software() -> dict[str, str]:
    """What has to be the same on all nodes that make rows: all that `code_fingerprint` is a hash of.

    A step has the same id on two nodes only then, and what one has made another takes over.
    """
    libraries = {library: version(library) for library in LIBRARIES}
    ours = {"bench": sources_fingerprint()[:12], "python": platform.python_version()}
    return ours | libraries | cuda_versions()


def for_any_device(software: Mapping[str, str]) -> dict[str, str]:
    """The same without what torch is built for, which where the run is started may be another device."""
    kept = ("bench", "python", *LIBRARIES)
    return {name: found.partition("+")[0] for name, found in software.items() if name in kept}


def refuse_other_software(there: Mapping[str, str], wanted: Mapping[str, str], where: str) -> None:
    """Raise `InputError` where other software is installed than is wanted, which is so `where`."""
    for name in {**wanted, **there}:
        found, other = there.get(name, ABSENT), wanted.get(name, ABSENT)
        if found != other:
            raise InputError(f"{name} is {found} there and {other} {where}; install the same")


def refuse_other_techniques(request: RowRequest) -> None:
    """Raise `InputError` where a technique of the variant that is not ours has other code here."""
    for name, found in installed_code([request.variant]).items():
        if found != request.techniques.get(name):
            raise InputError(f"the {name} has other code there than here; install the same")


def lock_of(folder: Path) -> Path:
    """The lock of a node's folder. It lies beside it and stays, so that all who ask hold the same one."""
    return folder.with_name(f"{folder.name}{LOCK}")


def clear_others(nodes: Path, alive: Collection[str]) -> None:
    """Remove the folders below `nodes` of those that are no more, unless one is worked in still.

    It may be another cluster's. Where that cannot be told, nothing is removed.
    """
    for other in nodes.iterdir():
        if other.is_dir() and other.name not in alive:
            with suppress(InputError, OSError), hold(lock_of(other), str(other)) as held:
                if held.doubt is None:
                    shutil.rmtree(other)
