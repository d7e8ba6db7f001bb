"""Worker processes: forked from a server that has imported torch once and run nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, ParamSpec, TypeVar

import psutil

from bench import worker
from bench.environment import worker_environment
from bench.errors import BenchError, InputError, MeasuringError, Refusal
from bench.nouns.run import FailureKind

LOG_LINES, LOG_BYTES = 5, 1 << 16
ENDING_S, LONGEST_END_S = 10.0, 60.0
LONGEST_POLL_S, LOOK_EVERY_S = 86_400.0, 1.0
# What Python takes for a worker's exit code where the server does not tell it.
OF_NO_SERVER = 255

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
Listener = Callable[[str, int, int], None]


class StepFailed(BenchError):
    """A `step` that ended without findings, in one line; `kind` says how, `log` are its last lines."""

    def __init__(
        self, reason: str, kind: FailureKind = "error", log: Sequence[str] = (), step: str = ""
    ) -> None:
        super().__init__(reason)
        self.kind, self.log, self.step = kind, log, step


class Workers:
    """Runs steps one at a time, each in a process of its own, of which nothing is left when it ends."""

    import_time_s: float = 0.0

    def __enter__(self) -> Workers:
        """Start the server; `import_time_s` is how long it took until it could fork."""
        started = time.perf_counter()
        self._context = start_server()
        self.import_time_s = time.perf_counter() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing that can be ended outlives a step, so there is nothing to stop."""

    def run(self, folder: Path, listen: Listener, limit_s: float | None = None) -> None:
        """Run the step whose request lies in `folder`, passing its progress to `listen`.

        Raises `InputError` and `Refusal` as the step did, `StepFailed` for whatever else ended it, which may
        be that it took longer than `limit_s`.
        """
        deadline = None if limit_s is None else time.monotonic() + limit_s
        receiver, sender = self._context.Pipe(duplex=False)
        process = start(self._context, worker.main, (folder, sender))
        sender.close()
        try:
            message = last_message(process, receiver, listen, deadline)
            if message.get("kind") != "timeout":
                process.join(ENDING_S)
            if not message:
                message = {"failure": died_of(process.exitcode), "kind": kind_of_death(process.exitcode)}
        finally:
            end(process)
            receiver.close()
        conclude(message, last_lines(folder / worker.LOG))


def last_message(
    process: BaseProcess, receiver: Connection, listen: Listener, deadline: float | None
) -> dict[str, Any]:
    """Pass on progress until the step ends; the message that ended it, empty where it just died."""
    while True:
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            return {"failure": "it was stopped, since the variant's --timeout was used up", "kind": "timeout"}
        try:
            if not has_word(process, receiver, left_s):
                continue
            message: dict[str, Any] = json.loads(receiver.recv_bytes())
        except (EOFError, ConnectionResetError):
            return {}
        if "stage" not in message:
            return message
        listen(message["stage"], message["done"], message["total"])


def has_word(process: BaseProcess, receiver: Connection, limit_s: float | None = None) -> bool:
    """Whether there is something to receive, now or in a while.

    Raises `EOFError` where the worker has ended without a word, though what it started holds its end of the
    pipe. The server that it was forked from tells of that; where that has ended, it is looked for.
    """
    if process.exitcode == OF_NO_SERVER:
        heard = receiver.poll(LOOK_EVERY_S)
    else:
        longest_s = None if limit_s is None else min(limit_s, LONGEST_POLL_S)
        heard = receiver in wait([receiver, process.sentinel], longest_s) or receiver.poll()
    is_over = process.exitcode is not None and (process.exitcode != OF_NO_SERVER or not is_alive(process.pid))
    if is_over and not heard:
        raise EOFError
    return heard


def is_alive(number: int | None) -> bool:
    """Whether there is a process of this number that has not ended."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def conclude(message: dict[str, Any], log: list[str]) -> None:
    """Return where the step's last message is that it has finished; raise what it tells of otherwise."""
    if "finished" in message:
        return
    if "input_error" in message:
        raise InputError(message["input_error"])
    if "refusal" in message:
        raise Refusal(message["refusal"])
    raise StepFailed(message["failure"], message["kind"], log)


def start_server() -> ForkServerContext:
    """A server that has imported torch and forks processes with the workers' environment, not ours."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.preload"])
    start(context, os.getpid, ()).join()
    return context


def start(
    context: ForkServerContext, target: Callable[..., object], args: tuple[Any, ...]
) -> ForkServerProcess:
    """A worker at work. Where the server died meanwhile, the next one has its environment, too.

    Raises `StepFailed` where the server dies of being asked.
    """
    process = context.Process(target=target, args=args, daemon=True)
    try:
        with workers_environment(), main_hidden():
            process.start()
    except (EOFError, ConnectionError) as error:
        reason = "no worker could be started, since the server that forks them ended"
        raise StepFailed(reason, "crashed") from error
    return process


@contextmanager
def workers_environment() -> Iterator[None]:
    """The workers' environment in place of ours, for whatever is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(worker_environment())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keep a worker from running the program again that starts it, of which it needs nothing.

    That may import much: in a node's process it is Ray's own.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def end(process: BaseProcess) -> None:
    """End a worker now with all it has started, which is in its group of processes (`worker.stand_apart`).

    One that hangs in the system, as on a disk that is gone, is left to it.
    """
    assert process.pid is not None
    with suppress(ProcessLookupError, PermissionError):  # as macOS calls a group that has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join(LONGEST_END_S)
    if process.exitcode is None:
        # Else Python would wait for it as it exits, however long.
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]
    else:
        process.close()


def call_apart(
    context: ForkServerContext,
    function: Callable[Arguments, Answer],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Answer:
    """What `function` returns in a process of its own, which ends with it or with an interruption.

    Raises `BenchError` as the function did, `MeasuringError` where its process dies.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = start(context, answer, (sender, function, args, kwargs))
    sender.close()
    try:
        while not has_word(process, receiver):
            pass
        outcome: Answer | BenchError = receiver.recv()
    except EOFError:
        process.join(ENDING_S)
        raise MeasuringError(died_of(process.exitcode)) from None
    finally:
        end(process)
        receiver.close()
    if isinstance(outcome, BenchError):
        raise outcome
    return outcome


def answer(
    channel: Connection, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Send what `function` returns, or what kept it from that, through `channel`."""
    worker.stand_apart()
    try:
        channel.send(function(*args, **kwargs))
    except BenchError as error:
        channel.send(error)


def died_of(exit_code: int | None) -> str:
    """A worker's end in words."""
    if exit_code is None:
        return "the worker went silent without ending"
    if exit_code == -signal.SIGKILL:
        return "the worker was killed (signal 9), most likely because memory ran out"
    if exit_code < 0:
        return f"the worker was ended by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"the worker ended with exit code {exit_code} and no result"


def kind_of_death(exit_code: int | None) -> FailureKind:
    """How a worker ended that told nothing of it."""
    return "killed" if exit_code == -signal.SIGKILL else "crashed"


def last_lines(log: Path) -> list[str]:
    """The end of a worker's log, without empty lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line.rstrip() for line in lines if line.strip()][-LOG_LINES:]
