"""The process a step runs in: it reads a request, reports progress, and leaves its findings in a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from bench.errors import InputError, Refusal
from bench.steps.request import Request

REQUEST, FINDINGS, LOG, PREDICTIONS = "request.json", "findings.json", "log.txt", "predictions.jsonl"


def main(folder: Path, channel: Connection) -> None:
    """Run the step whose request lies in `folder`; every way it can end is told through `channel`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    try:
        run(folder, channel)
    except InputError as error:
        tell(channel, {"input_error": str(error)})
    except Refusal as error:
        tell(channel, {"refusal": str(error)})
    except BaseException as error:
        traceback.print_exc()
        tell(channel, {"failure": f"{type(error).__name__}: {error}".strip().splitlines()[0]})


def run(folder: Path, channel: Connection) -> None:
    """Run the step and write its findings.

    What torch compiles is compiled anew and goes with the step: times with a cache would depend on its past.
    """
    from bench.steps import compress, dense, footprint, teacher, timing
    from compressors import hub
    from compressors.registry import add_plugins

    steps: dict[str, Callable[..., object]] = {
        "dense": dense.make_dense,
        "teacher": teacher.make_teacher,
        "compress": compress.make_variant,
        "timing": timing.measure_timing,
        "footprint": footprint.measure_footprint,
    }
    compiled = folder / "compiled"
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(compiled)
    request = Request.model_validate_json((folder / REQUEST).read_text())
    hub.take_over(request.snapshots)
    add_plugins(request.plugins)

    def progress(stage: str, done: int, total: int) -> None:
        tell(channel, {"stage": stage, "done": done, "total": total})

    findings = steps[request.kind](request, folder, progress)
    shutil.rmtree(compiled, ignore_errors=True)
    (folder / FINDINGS).write_text(findings.model_dump_json())  # type: ignore[attr-defined]
    tell(channel, {"finished": True})


def tell(channel: Connection, message: dict[str, object]) -> None:
    """Send one message as JSON."""
    channel.send_bytes(json.dumps(message).encode())
