"""Worker processes: forked from a server that has imported torch once and run nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from bench import worker
from bench.environment import worker_environment
from bench.errors import BenchError, InputError, MeasuringError, Refusal

LOG_LINES = 5

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
Listener = Callable[[str, int, int], None]


class StepFailed(BenchError):
    """A step that ended without findings; `reason` is one line."""


class Workers:
    """Runs steps one at a time, each in a process of its own."""

    import_time_s: float

    def __enter__(self) -> Workers:
        """Start the server; `import_time_s` is how long it took until it could fork."""
        started = time.perf_counter()
        self._context = start_server()
        self.import_time_s = time.perf_counter() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing outlives a step, so there is nothing to stop."""

    def run(self, folder: Path, listen: Listener) -> None:
        """Run the step whose request lies in `folder`, passing its progress to `listen`.

        Raises `InputError` and `Refusal` as the step did, `StepFailed` for whatever else ended it.
        """
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=worker.main, args=(folder, sender), daemon=True)
        process.start()
        sender.close()
        try:
            message = self._last_message(receiver, listen)
            process.join()
        finally:
            if process.is_alive():
                process.kill()
                process.join()
            receiver.close()
        self._conclude(message, process.exitcode, folder)

    def _last_message(self, receiver: Any, listen: Listener) -> dict[str, Any]:
        """Pass on progress until the step ends; the message that ended it, empty where it just died."""
        while True:
            try:
                message: dict[str, Any] = json.loads(receiver.recv_bytes())
            except EOFError:
                return {}
            if "stage" not in message:
                return message
            listen(message["stage"], message["done"], message["total"])

    def _conclude(self, message: dict[str, Any], exit_code: int | None, folder: Path) -> None:
        if "finished" in message:
            return
        if "input_error" in message:
            raise InputError(message["input_error"])
        if "refusal" in message:
            raise Refusal(message["refusal"])
        if "failure" in message:
            raise StepFailed(message["failure"])
        raise StepFailed(f"{died_of(exit_code)}; last log lines: {last_lines(folder / worker.LOG)}")


def start_server() -> ForkServerContext:
    """A server that has imported torch and forks processes with the workers' environment, not ours."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.preload"])
    first = context.Process(target=os.getpid)
    before = dict(os.environ)
    os.environ.update(worker_environment())
    try:
        first.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    first.join()
    return context


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
    process = context.Process(target=answer, args=(sender, function, args, kwargs), daemon=True)
    process.start()
    sender.close()
    try:
        outcome: Answer | BenchError = receiver.recv()
    except EOFError:
        process.join()
        raise MeasuringError(died_of(process.exitcode)) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(outcome, BenchError):
        raise outcome
    return outcome


def answer(
    channel: Connection, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Send what `function` returns, or what kept it from that, through `channel`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        channel.send(function(*args, **kwargs))
    except BenchError as error:
        channel.send(error)


def died_of(exit_code: int | None) -> str:
    """A worker's end in words."""
    if exit_code == -9:
        return "the worker was killed (signal 9), most likely because memory ran out"
    if exit_code is not None and exit_code < 0:
        return f"the worker was killed by signal {-exit_code}"
    return f"the worker ended with exit code {exit_code} and no result"


def last_lines(log: Path) -> str:
    """The end of a worker's log on one line."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return "none"
    return " | ".join(line.strip() for line in lines if line.strip()) or "none"
