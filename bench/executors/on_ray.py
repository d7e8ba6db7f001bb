"""Rows made on the nodes of a Ray cluster, one task each."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.cache import Cache, Step, copy_files, remove
from bench.display import Display
from bench.environment import VARIABLES, thread_count
from bench.errors import BenchError, ExitCode, InputError, MeasuringError, in_one_line
from bench.executors import Row
from bench.executors.cluster import Cluster, connect
from bench.executors.inputs import send
from bench.executors.node import (
    Node,
    RowAnswer,
    RowRequest,
    for_any_device,
    installed_software,
    make_row,
    refuse_other_software,
)
from bench.folder import RunFolder, file_name, row_name
from bench.foreign_code import installed_code
from bench.nouns.environment import Caution, Environment
from bench.nouns.run import DENSE, Result, Run
from bench.plan import Plan
from bench.storage import Storage
from bench.workbench import without_figures
from bench.workers import LOG_LINES, StepFailed
from compressors.artifact import ARTIFACT
from compressors.variant import Variant

POLL_S = 0.5
ENDING_S = 10.0
RETRIES = 3
SESSION_BYTES = 8
BROUGHT = ("predictions", "traces", "logs")
ERRORS: dict[int, type[BenchError]] = {ExitCode.USAGE: InputError, ExitCode.CANNOT_TELL: MeasuringError}
# Of the node itself: the devices are those it gives to a row, no worker asks a hub for anything, and what the
# user preloads lies on his machine.
NODES_OWN = ("CUDA_", "HF_", "LD_PRELOAD")


class Board:
    """An actor that the nodes tell how far their rows have come."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, str, int, int]] = {}

    def tell(self, row: str, node: str, stage: str, done: int, total: int) -> None:
        """Note it, in place of what the row was at before."""
        self._told[row] = node, stage, done, total

    def read(self) -> dict[str, tuple[str, str, int, int]]:
        """What was told since this was last asked, by row."""
        told, self._told = self._told, {}
        return told


def make_on_node(row: str, request: str, board: Any) -> str:
    """The task: the answer to a request, both as JSON, on the node that Ray has chosen."""
    end_with_node()
    node = this_node()
    tell = board.tell.remote
    answer = make_row(
        RowRequest.model_validate_json(request),
        node,
        lambda stage, done, total: tell(row, node.label, stage, done, total),
    )
    if answer.error:
        answer.error = f"node {node.label}: {answer.error}"
    return answer.model_dump_json()


@cache
def end_with_node() -> None:
    """See to it that this process ends with the node that has started it.

    Where a node's daemon is killed Ray has the row made elsewhere, and lets the process that makes it live.
    """
    node = os.getppid()

    def watch() -> None:
        while os.getppid() == node:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def look_at_node() -> str:
    """The task that tells what is installed on a node, as JSON."""
    return json.dumps(installed_software())


def this_node() -> Node:
    """The node that this runs on."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    return Node(own, label_of(alive[own]), int(alive[own]["Resources"].get("CPU", 0)), set(alive))


def label_of(node: dict[str, Any]) -> str:
    """What a node, as Ray describes it, is called for the user."""
    return f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"


class OnRay:
    """The executor of a cluster.

    Dense of the first seed comes before all else: its machine is the run's. Then come dense of the other
    seeds, and with each of them what is measured against it; of rows that share a training one comes first.
    """

    def __init__(
        self,
        plan: Plan,
        cluster: Cluster,
        folder: RunFolder,
        display: Display,
        run: Run,
        earlier: Run | None,
    ) -> None:
        self.plan, self.cluster, self.folder, self.display = plan, cluster, folder, display
        self.storage = Storage(cluster.storage)
        self.cache = Cache(plan.cache, self.storage)
        self.cautions: list[Caution] = []
        self.import_time_s = 0.0
        done = [row for row in earlier.results if row.status == "ok"] if earlier else []
        self._here, self._first = run.environment, earlier.environment if earlier and done else None
        self._dense = {row.seed for row in done if row.variant == DENSE}
        self._trained: set[tuple[str, int]] = set()
        self._not_trained: dict[tuple[str, int], Result] = {}
        self._session = f"runs/{secrets.token_hex(SESSION_BYTES)}"
        self._running: dict[Any, Row] = {}
        self._begun: set[str] = set()
        self._nodes: dict[str, str] = {}
        self._is_stuck = False
        self._models: dict[str, Step] = {}

    @property
    def environment(self) -> Environment:
        """That of the node which measured dense first; of this machine until then."""
        return self._first or self._here

    def __enter__(self) -> OnRay:
        """Raises `InputError` where the storage, the cluster or a node of it is no use."""
        self._refuse_other_threads()
        self.storage.check()
        self._ray = connect(self.cluster.address)
        self._software = self._check_nodes()
        # A process that made another row has that row's environment, and so have all that it starts.
        self._make = self._ray.remote(max_calls=1)(make_on_node)
        self._inputs = send(self.plan, self.cache, self.storage)
        here = self._on(self._ray.get_runtime_context().get_node_id())
        self._board = self._ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs, with all it has started, and leave the cluster."""
        tasks = list(self._running)
        with suppress(*self._lost()):  # what ended the run is what is told
            for task in tasks:
                self._ray.cancel(task, force=True)
            if tasks:
                self._ray.wait(tasks, num_returns=len(tasks), timeout=ENDING_S)
            self._ray.shutdown()
        try:
            self.storage.remove(self._session)
        except InputError as refused:
            self.display.say(f"{self._session} stays in the storage: {refused}")

    def rows(self, todo: Sequence[Row], total: int) -> Iterator[tuple[Row, Result]]:
        """Raises `MeasuringError` where the cluster itself is lost, too."""
        try:
            yield from self._rows(todo, total)
        except self._lost() as error:
            raise MeasuringError(
                f"the cluster was lost ({last_line(error)}); go on with --resume {self.folder.path.name}"
            ) from error

    def _rows(self, todo: Sequence[Row], total: int) -> Iterator[tuple[Row, Result]]:
        waiting = list(todo)
        while waiting or self._running:
            for row in [*waiting]:
                if failed := self._not_trained.get(training(row)):
                    waiting.remove(row)
                    self._begin(row, total)
                    yield row, failed.model_copy(update={"variant": row.variant.name}, deep=True)
                elif self._is_ready(row):
                    waiting.remove(row)
                    self._running[self._submit(row)] = row
            if not self._running:
                assert not waiting, waiting
                return
            done, _ = self._ray.wait(list(self._running), timeout=POLL_S)
            self._show(total)
            for task in done:
                row = self._running[task]
                result = self._result(row, task)
                del self._running[task]
                self._begin(row, total)
                yield row, result

    def _lost(self) -> tuple[type[Exception], ...]:
        """What Ray raises where it cannot be asked any more."""
        return self._ray.exceptions.RayError, ConnectionError

    def judged(self, result: Result, variant: Variant) -> Result:
        """As it was judged on its node."""
        return result

    def measure_again(
        self, doubtful: Sequence[tuple[Result, Sequence[str]]], write: Callable[[], None]
    ) -> None:
        """Gates are refused with a cluster."""
        assert not doubtful

    def drop_models(self, kept: Sequence[Result]) -> None:
        """Of those that were brought here; what lies in the storage is for other runs too."""
        needed = {
            self._models[self._name(result)].folder for result in kept if self._name(result) in self._models
        }
        for step in self._models.values():
            if step.folder not in needed:
                remove(step.folder)

    def _refuse_other_threads(self) -> None:
        """Raise `InputError` where rows would be made with other threads than those there are."""
        asked = os.environ.get("OMP_NUM_THREADS")
        threads = thread_count(asked) if asked else self.cluster.row_cpus(self.plan.config.device)
        before = self._first and self._first.threads
        if before and threads != before:
            raise InputError(
                f"--resume: the rows that are there were made with {before} threads, and others would have "
                f"{threads} here; set OMP_NUM_THREADS={before}"
            )

    def _check_nodes(self) -> dict[str, str]:
        """What is installed on each node that can take rows.

        Raises `InputError` where one has other software than this machine, another build than the first, or
        none of ours.
        """
        nodes = self._takers()
        look = self._ray.remote(look_at_node)
        tasks = [
            look.options(num_cpus=0, scheduling_strategy=self._on(node["NodeID"])).remote() for node in nodes
        ]
        here, installed = for_any_device(installed_software()), dict[str, dict[str, str]]()
        for label, task in zip(map(label_of, nodes), tasks, strict=True):
            try:
                found = json.loads(self._ray.get(task))
                refuse_other_software(for_any_device(found), here, "here")
                for first, other in installed.items():
                    refuse_other_software(found, other, f"on node {first}")
            except self._ray.exceptions.RayError as error:
                why = f"bench cannot be run there ({last_line(error)}); install it there"
                raise InputError(f"--executor: node {label}: {why}") from None
            except InputError as error:
                raise InputError(f"--executor: node {label}: {error}") from None
            installed = installed or {label: found}
        if not installed:
            raise InputError(f"--executor: no node has {self._taken()}, which a row takes; see --row-cpus")
        return next(iter(installed.values()))

    def _on(self, node: str) -> Any:
        """That a task or an actor is to be on this node."""
        return self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)

    def _is_ready(self, row: Row) -> bool:
        """Whether what the row goes on from is there, and nobody else is just making it."""
        is_dense = row.variant.name == DENSE
        if self._first is None:
            return is_dense and not self._running
        if is_dense or not row.variant.trains:
            return is_dense or row.seed in self._dense
        others = {training(other) for other in self._running.values()}
        return row.seed in self._dense and (training(row) in self._trained or training(row) not in others)

    def _submit(self, row: Row) -> Any:
        """The task that makes the row, on whichever node has room; again on another if that is lost."""
        config = self.plan.config
        cpus = self.cluster.row_cpus(config.device)
        variables = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
        request = RowRequest(
            variant=row.variant.name,
            seed=row.seed,
            config=config,
            inputs=self._inputs,
            storage=self.storage.url,
            place=self._place(row),
            folder=str(self.folder.path),
            variables={"OMP_NUM_THREADS": str(cpus)}
            | {name: value for name, value in variables.items() if not name.startswith(NODES_OWN)},
            software=self._software,
            techniques=installed_code([row.variant.name]),
            anchor=self.plan.anchor,
            remeasure=self.plan.remeasure,
            timeout_s=self.plan.timeout_s,
            made_on=self._first,
            row_cpus=cpus,
        )
        task = self._make.options(
            name=row.name,
            num_cpus=cpus,
            num_gpus=self._row_gpus,
            max_retries=RETRIES,
            retry_exceptions=False,
        )
        return task.remote(row.name, request.model_dump_json(), self._board)

    def _show(self, total: int) -> None:
        """Tell the display how far the rows have come, and where one is begun again."""
        rows = {row.name: row for row in self._running.values()}
        for name, (node, stage, done, of) in self._ray.get(self._board.read.remote()).items():
            if name not in rows:
                continue
            self._begin(rows[name], total)
            before = self._nodes.setdefault(name, node)
            if before != node:
                is_gone = before not in map(label_of, self._alive())
                why = f", since {before} was lost" if is_gone else ""
                self.display.say(f"{name}: begun again on node {node}{why}")
                self._nodes[name] = node
            self.display.stage(name, stage, done, of)
        is_stuck = not self._takers()
        if is_stuck and not self._is_stuck:
            self.display.say(f"no node has {self._taken()}, which a row takes; waiting for one")
        self._is_stuck = is_stuck

    def _begin(self, row: Row, total: int) -> None:
        """Let the display show the row, where it does not yet."""
        if row.name not in self._begun:
            self._begun.add(row.name)
            self.display.begin(row.name, row.number, total)

    def _result(self, row: Row, task: Any) -> Result:
        """The row's result, its files in the run folder. Raises `BenchError` where dense has none."""
        try:
            answer = RowAnswer.model_validate_json(self._ray.get(task))
            self._bring(row, answer)
            return self._taken_in(row, answer)
        except self._ray.exceptions.RayError as error:
            failed: BenchError = unanswered(error)
        except BenchError as error:
            failed = error
        if row.variant.name == DENSE:
            raise failed
        return without_figures(row.variant.name, row.seed, failed)

    def _taken_in(self, row: Row, answer: RowAnswer) -> Result:
        """A node's result, as one of this run. Raises `BenchError` where the node tells of that instead."""
        if answer.error:
            raise ERRORS.get(answer.exit_code, BenchError)(answer.error)
        assert answer.result is not None
        assert answer.environment is not None
        result, environment = answer.result, answer.environment
        environment.commit = self._here.commit
        if self._first is None:
            self._first = environment
        elif environment.machine_key != self._first.machine_key:
            result.machine = environment.machine_key
        spins = [each for each in (environment.openmp_spin, self._first.openmp_spin) if each is not None]
        self._first.openmp_spin = max(spins, default=None)
        self.cautions += answer.cautions
        self.import_time_s = max(self.import_time_s, answer.import_time_s)
        if result.status == "ok":
            self._trained.add(training(row))
            if row.variant.name == DENSE:
                self._dense.add(row.seed)
        elif is_failed_training(row, result):
            self._not_trained[training(row)] = result
        return result

    def _bring(self, row: Row, answer: RowAnswer) -> None:
        """Put what a node has made into the run folder and the cache. Raises `InputError` for what is lost.

        Of a row that has failed that is its log, and not reason enough to tell of another failure.
        """
        if answer.result and answer.result.status == "ok":
            if not self._bring_files(row):
                raise InputError(f"--storage {self.storage}: the row's files are not there any more")
            self._bring_model(row, answer)
            return
        try:
            self._bring_files(row)
        except InputError as error:
            self.display.say(f"{row.name}: its log could not be brought: {error}")

    def _bring_files(self, row: Row) -> bool:
        """Put a row's predictions, trace and logs into the run folder; False where the storage has none."""
        with tempfile.TemporaryDirectory(dir=self.cache.root) as scratch:
            if not self.storage.fetch(self._place(row), Path(scratch)):
                return False
            for name in BROUGHT:
                if (Path(scratch) / name).is_dir():
                    self.folder.make_room_for(self.folder.path / name)
                    copy_files(Path(scratch) / name, self.folder.path / name)
        return True

    def _bring_model(self, row: Row, answer: RowAnswer) -> None:
        """Put a row's model into the cache, and its artifact into the run folder."""
        assert answer.model is not None
        step = self.cache.find("dense" if row.variant.name == DENSE else "compress", answer.model)
        if step is None:
            raise InputError(f"--storage {self.storage}: {answer.model} is not there any more")
        self._models[row.name] = step
        self.folder.add_artifact(row.name, step.folder / ARTIFACT)

    def _place(self, row: Row) -> str:
        """Where in the storage a row's files go."""
        return f"{self._session}/{file_name(row.name)}"

    def _name(self, result: Result) -> str:
        return row_name(result.variant, result.seed, self.plan.config.seeds)

    @property
    def _row_gpus(self) -> int:
        """GPUs for each row."""
        return 0 if self.plan.config.device == "cpu" else self.plan.config.train_processes

    def _taken(self) -> str:
        """What a row takes, in words."""
        return f"{self.cluster.row_cpus(self.plan.config.device)} CPUs and {self._row_gpus} GPUs"

    def _alive(self) -> list[dict[str, Any]]:
        """The nodes that are up, as Ray describes them."""
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _takers(self) -> list[dict[str, Any]]:
        """Those of them that have what a row takes."""
        wanted = {"CPU": self.cluster.row_cpus(self.plan.config.device), "GPU": self._row_gpus}
        return [
            node
            for node in self._alive()
            if all(node["Resources"].get(name, 0) >= count for name, count in wanted.items())
        ]


def training(row: Row) -> tuple[str, int]:
    """What the row's training is known by, which others may share."""
    return row.variant.trained.name, row.seed


def is_failed_training(row: Row, result: Result) -> bool:
    """Whether what failed is the training that others share, and not for want of the row's own time."""
    failure = result.failure
    if failure is None or failure.step != "compress" or not row.variant.trains:
        return False
    # Of what a longer row does, only a training diverges.
    is_training = row.variant.trained.name == row.variant.name or failure.kind == "diverged"
    return is_training and failure.kind != "timeout"


def unanswered(error: Exception) -> StepFailed:
    """What is told of a row whose task ended by this error of Ray's, without an answer."""
    from ray import exceptions

    log = str(error).splitlines()[-LOG_LINES:]
    if isinstance(error, exceptions.OutOfMemoryError):
        return StepFailed(f"its node ran out of memory ({last_line(error)})", "out of memory", log)
    if isinstance(error, exceptions.RayTaskError):
        return StepFailed(f"it could not be made on its node ({last_line(error)})", "error", log)
    where = "node" if isinstance(error, exceptions.NodeDiedError) else "process there"
    return StepFailed(f"lost with its {where} ({last_line(error)})", "crashed", log)


def last_line(error: Exception) -> str:
    """The end of what Ray says, which for what a task raised is the exception."""
    return in_one_line(ValueError(str(error).strip().rpartition("\n")[2]))
