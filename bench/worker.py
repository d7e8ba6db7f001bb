"""The process a step runs in: it reads a request, reports progress, and leaves its findings in a folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, InputError, Refusal, in_one_line, is_out_of_memory, writable
from bench.meters.findings import Findings
from bench.nouns.run import FailureKind
from bench.steps.request import Request

if TYPE_CHECKING:
    from bench.distributed import ProcessFailed

REQUEST, FINDINGS, LOG = "request.json", "findings.json", "log.txt"
PREDICTIONS, TRACE = "predictions.jsonl", "trace.json.gz"

Message = dict[str, object]


def main(folder: Path, channel: Connection) -> None:
    """Run the step whose request lies in `folder`; every way it can end is told through `channel`."""
    stand_apart()
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    try:
        run(folder, channel)
        message: Message = {"finished": True}
    except BaseException as error:
        message = message_of(error)
    tell(channel, message)


def message_of(error: BaseException) -> Message:
    """What is told of an exception that ended a step; of a failure the log holds more."""
    from bench.distributed import ProcessFailed

    if isinstance(error, InputError):
        traceback.print_exc()  # what is wrong with a file of one variant is that row's failure, with its log
        return {"input_error": writable(str(error))}
    if isinstance(error, Refusal):
        return {"refusal": writable(str(error))}
    if isinstance(error, ProcessFailed):
        return error.message or died_without_words(error)
    traceback.print_exc()
    own, foreign = writable(str(error)), f"{type(error).__name__}: {in_one_line(error)}"
    said = own if isinstance(error, BenchError) else foreign
    return {"failure": said, "kind": kind_of(error)}


def died_without_words(error: ProcessFailed) -> Message:
    """What is told of one of several processes that just ended."""
    from bench.workers import died_of, kind_of_death

    said = f"process {error.number} of {error.count}: {died_of(error.ended_with)}"
    return {"failure": said, "kind": kind_of_death(error.ended_with)}


def stand_apart() -> None:
    """Become the head of a group of processes that ends as a whole, at the latest with who started it.

    Ctrl-C in a terminal reaches who started it alone, and that ends the group.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_starter()


def end_with_starter() -> None:
    """From now on this process and its group end as soon as whoever started it has ended."""
    starter = multiprocessing.parent_process()
    assert starter is not None

    def wait_and_end() -> None:
        wait([starter.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait_and_end, daemon=True).start()


def kind_of(error: BaseException) -> FailureKind:
    """What kind of end an exception is."""
    from bench.training import TrainingFailed

    if isinstance(error, TrainingFailed):
        return "diverged"
    return "out of memory" if is_out_of_memory(error) else "error"


def run(folder: Path, channel: Connection) -> None:
    """Run the step and write its findings, where it trains in as many processes as it asks for.

    What torch compiles is compiled anew and goes with the step: times with a cache would depend on its past.
    """
    from bench.distributed import in_processes
    from bench.environment import gpus
    from bench.steps.common import trains
    from compressors import hub
    from compressors.registry import add_plugins

    compiled, scratch = folder / "compiled", folder / "processes"
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(compiled)
    request = Request.model_validate_json((folder / REQUEST).read_text(encoding="utf-8"))
    hub.take_over(request.snapshots)
    add_plugins(request.plugins)
    count = request.train_processes
    if count > 1 and trains(request):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus()[:count])
        work = partial(one_of_several, request, folder, scratch, channel)
        in_processes(count, request.device, scratch, work, message_of)
        shutil.rmtree(scratch)
    else:
        carry_out(request, folder, channel)
    shutil.rmtree(compiled, ignore_errors=True)


def one_of_several(request: Request, folder: Path, scratch: Path, channel: Connection) -> None:
    """The part of one process of several: all do the same, and the first alone tells and leaves anything."""
    from bench.distributed import rank

    end_with_starter()
    if rank():
        folder = scratch / f"process-{rank()}"
        folder.mkdir()
    carry_out(request, folder, None if rank() else channel)


def carry_out(request: Request, folder: Path, channel: Connection | None) -> None:
    """Do the step's work in this process; its findings are left in `folder`, its progress is told."""
    from bench.steps import compress, dense, footprint, profile, teacher, timing

    steps: dict[str, Callable[..., Findings]] = {
        "dense": dense.make_dense,
        "teacher": teacher.make_teacher,
        "compress": compress.make_variant,
        "timing": timing.measure_timing,
        "footprint": footprint.measure_footprint,
        "profile": profile.measure_profile,
    }

    def progress(stage: str, done: int, total: int) -> None:
        if channel:
            tell(channel, {"stage": stage, "done": done, "total": total})

    found = steps[request.kind](request, folder, progress)
    found.made_on = request.machine
    findings = found.model_dump_json()
    # A plugin can have put anything into its notes: what cannot be read back is this step's failure.
    Findings.model_validate_json(findings)
    (folder / FINDINGS).write_text(findings, encoding="utf-8")


def tell(channel: Connection, message: Message) -> None:
    """Send one message as JSON."""
    channel.send_bytes(json.dumps(message).encode())
