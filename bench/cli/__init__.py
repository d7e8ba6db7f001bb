"""The command line: the one place where harness, compressors and reports meet. A module holds commands."""

from __future__ import annotations

import errno
import io
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import typer

from bench.cli import cache, catalogue, compare, machine, merge, profile, report, run
from bench.cli.shared import say
from bench.errors import BenchError, ExitCode, Terminated

app = typer.Typer(
    name="bench",
    help="Find what compression makes a text classifier fastest here without losing accuracy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "profile": profile.profile,
    "merge": merge.merge,
    "compare": compare.compare,
    "gate": compare.gate,
    "report": report.report,
    "study": report.study,
    "export": report.export,
    "list": catalogue.list_,
    "env": machine.env,
    "calibrate": machine.calibrate,
    "new-compressor": catalogue.new_compressor,
}
for name, command in COMMANDS.items():
    app.command(name=name)(command)
app.add_typer(compare.baseline, name="baseline")
app.add_typer(cache.app, name="cache")


ENDING = (signal.SIGTERM, signal.SIGHUP)
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "name a folder elsewhere",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.ESTALE: "look at the disk",
    errno.EIO: "look at the disk",
    errno.EMFILE: "allow more open files: ulimit -n",
    errno.ENFILE: "close what holds many files open",
    errno.ENOMEM: "free some memory",
    errno.EAGAIN: "allow more processes: ulimit -u",
}


class Ending:
    """What becomes of SIGTERM and SIGHUP: the first ends as Ctrl-C does, any that follow change nothing."""

    has_come = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        self.has_come = True
        raise Terminated


def main() -> None:
    """The entry point: an expected error is one line on stderr and its exit code, without a traceback."""
    # A terminal's encoding may lack what tables are made of, and a name in the data any of it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    ending = Ending()
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, ending)
    try:
        app()
    except BenchError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        where = f" ({error.filename})" if error.filename else ""
        remedy = f"{REMEDIES[error.errno]}, and a run goes on with --resume"
        fail(f"{error.strerror}{where}; {remedy}", ExitCode.FAILED)
    except SystemExit:
        # Typer makes one exit code of Ctrl-C and of what we raise for a signal.
        if ending.has_come:
            sys.exit(ExitCode.TERMINATED)
        raise


def fail(text: str, code: ExitCode) -> NoReturn:
    """One line for the user, whatever a name or file in it holds, and the exit code."""
    say(f"bench: {text}")
    sys.exit(code)
