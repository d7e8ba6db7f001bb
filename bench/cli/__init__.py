"""The command line: the one place where harness, compressors and reports meet. A module holds commands."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import typer

from bench.cli import catalogue, compare, machine, report, run
from bench.cli.shared import terminal
from bench.errors import BenchError, ExitCode

app = typer.Typer(
    name="bench",
    help="Find what compression makes a text classifier fastest here without losing accuracy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
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


def main() -> None:
    """The entry point: an expected error is one line on stderr and its exit code, without a traceback."""
    try:
        app()
    except BenchError as error:
        terminal(stderr=True).print(f"bench: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        terminal(stderr=True).print(f"bench: the disk is full ({error.filename}); free some, then --resume")
        sys.exit(ExitCode.FAILED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
