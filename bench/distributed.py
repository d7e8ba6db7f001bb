"""One step's work by several processes of this machine, a GPU each: how they start, agree and end together.

accelerate finds the group of processes that is made here, and has Hugging Face's Trainer share out the
batches and average the gradients (Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel
Training", VLDB 2020). Where there is one process alone, all of this does nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from bench.errors import BenchError
from bench.worker import Message

# How long one waits for another before it gives up; loading a model may take one of them minutes longer.
TIMEOUT = timedelta(minutes=10)
# How long the others have to tell that they failed too, once one has: the earliest is the cause.
LAST_WORDS_S = 2.0
RENDEZVOUS = "rendezvous"
# All of them are on this machine, whatever its name resolves to.
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

Agreed = TypeVar("Agreed")


class ProcessFailed(BenchError):
    """One of several processes failed; `message` is what it told, as a worker tells it, or None.

    It is `number` of `count`, the first being 1, and ended with the exit code `ended_with`.
    """

    def __init__(self, number: int, count: int, ended_with: int, message: Message | None) -> None:
        super().__init__(f"process {number} of {count} failed")
        self.number, self.count, self.ended_with, self.message = number, count, ended_with, message


def rank() -> int:
    """The number of this process among those that work together, 0 where it works alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes work together, this one included."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def as_the_first_says(value: Agreed) -> Agreed:
    """The value that the first process gives; all have to ask."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def of_all(value: Agreed) -> list[Agreed]:
    """What each process gives, in their order; all have to ask."""
    values = [value] * world_size()
    if len(values) > 1:
        distributed.all_gather_object(values, value)
    return values


def average_gradients(parameters: Iterable[torch.Tensor]) -> None:
    """Make each parameter's gradient the mean of all processes' ones, a missing one being zero."""
    if world_size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)
        parameter.grad /= world_size()


def in_processes(
    count: int,
    device: str,
    scratch: Path,
    work: Callable[[], None],
    message_of: Callable[[BaseException], Message],
) -> None:
    """Do `work` in `count` processes at once, process n on GPU n; `message_of` says what an exception tells.

    They are forked, so nothing may have started CUDA before. They are in this process's group, and end with
    this process. Raises `ProcessFailed` with what went wrong first; the others are ended then.
    """
    scratch.mkdir()
    multiprocessing.current_process().daemon = False  # a daemon may have no children
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=take_part, args=(number, count, device, scratch, work, message_of))
        for number in range(count)
    ]
    try:
        for process in processes:
            process.start()
        exit_codes = wait_for(processes)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
    raise_first(exit_codes, scratch)


def wait_for(processes: Sequence[BaseProcess]) -> list[int | None]:
    """The exit codes when all have ended, or soon after one has failed: None of one that goes on."""
    while not any(process.exitcode for process in processes):
        running = [process.sentinel for process in processes if process.is_alive()]
        if not running:
            break
        wait(running)
    deadline = time.monotonic() + LAST_WORDS_S
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    return [process.exitcode for process in processes]


def raise_first(exit_codes: Sequence[int | None], scratch: Path) -> None:
    """Raise `ProcessFailed` where one failed.

    One that told nothing was killed, and made the others fail; else the earliest to tell is the first.
    """
    count = len(exit_codes)
    told = [json.loads(file.read_text()) for file in scratch.glob("*.json")]
    silent = set(range(1, count + 1)) - {words["number"] for words in told}
    for number, code in enumerate(exit_codes, start=1):
        if code and number in silent:
            raise ProcessFailed(number, count, code, None)
    if told:
        first = min(told, key=lambda words: words["at_s"])
        raise ProcessFailed(first["number"], count, 1, first["message"])


def take_part(
    number: int,
    count: int,
    device: str,
    scratch: Path,
    work: Callable[[], None],
    message_of: Callable[[BaseException], Message],
) -> None:
    """Be one of the processes: join the others, work, and leave in `scratch` what went wrong."""
    try:
        join(number, count, device, scratch)
        work()
        distributed.destroy_process_group()
    except BaseException as error:
        words = {"number": number + 1, "at_s": time.monotonic(), "message": message_of(error)}
        fresh = scratch / f"{number}.writing"
        fresh.write_text(json.dumps(words))
        fresh.rename(scratch / f"{number}.json")
        sys.exit(1)


def join(number: int, count: int, device: str, scratch: Path) -> None:
    """Make torch and accelerate know this process and the others; the cores are shared out among them."""
    threads = max(1, torch.get_num_threads() // count)
    torch.set_num_threads(threads)
    os.environ |= {
        "OMP_NUM_THREADS": str(threads),
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GLOO_SOCKET_IFNAME": LOOPBACK,
    }
    gpu = torch.device("cuda", number) if device == "cuda" else None
    if gpu is not None:
        torch.cuda.set_device(gpu)
    # By a store of its own: an address of a file would have to be without spaces.
    store = distributed.FileStore(str(scratch / RENDEZVOUS), count)  # type: ignore[attr-defined]
    store.set_timeout(TIMEOUT)
    distributed.init_process_group(
        "nccl" if gpu else "gloo",
        store=store,
        rank=number,
        world_size=count,
        timeout=TIMEOUT,
        device_id=gpu,
    )
