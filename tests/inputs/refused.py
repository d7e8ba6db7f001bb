"""What every bad input has in common: one line on stderr, exit 2, and nothing written."""

from __future__ import annotations

import io
import signal
import stat
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from bench.cli import main
from compressors import registry

TIME_LIMIT_S = 120.0
HANDLED = (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
INFORMS = ("running the plugin ",)
# What acts on a terminal: control characters, lone surrogates, separators of lines, and what turns the
# direction of writing (Unicode Standard Annex 9, table 4).
ACTIVE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
ACTIVE_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}

Listing = dict[str, tuple[int, int] | None]


def refused(folder: Path, *arguments: str | Path) -> str:
    """The line with which `bench ARGUMENTS`, given in `folder` and in this process, refuses its input.

    Asserts that the command ends with exit code 2, prints nothing on stdout and one line on stderr that is
    safe to print, besides lines that begin with one of `INFORMS`, and leaves `folder` as it was. Whoever
    asks for a run adds `--dry-run` where the plan refuses: an input that is taken by mistake then ends at
    once, with exit code 0.
    """
    before = listing(folder)
    code, out, err = carried_out(folder, *arguments)
    assert code == 2, f"exit {code}\n{out}\n{err}"
    assert not out
    lines = [line for line in err.removesuffix("\n").split("\n") if not line.startswith(INFORMS)]
    assert len(lines) == 1, err
    (line,) = lines
    assert line.startswith("bench: "), line
    assert not any(map(acts_on_terminal, line)), repr(line)
    assert listing(folder) == before
    return line


def acts_on_terminal(character: str) -> bool:
    """Whether a terminal does anything but show it."""
    return (
        unicodedata.category(character) in ACTIVE_CATEGORIES
        or unicodedata.bidirectional(character) in ACTIVE_DIRECTIONS
    )


def carried_out(folder: Path, *arguments: str | Path) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of `bench ARGUMENTS` in `folder`; an exception of ours passes through.

    Plugins that the command takes up are forgotten again, as another process would not know them.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        within(TIME_LIMIT_S),
        chdir(folder),
        patch.object(sys, "argv", ["bench", *map(str, arguments)]),
        patch.dict(registry._classes),
        patch.object(registry, "_plugins", set()),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return ended.value.code, out.getvalue(), err.getvalue()


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Fail what takes longer, also where it waits for a file; put back the handlers that a command sets."""

    def stop(*_: object) -> None:
        pytest.fail(f"not refused within {limit_s:g} s")

    handlers = {number: signal.getsignal(number) for number in HANDLED}
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def listing(folder: Path) -> Listing:
    """Everything below `folder` by name: size and time of change, None for folders. Follows no links."""
    found: Listing = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
        found[str(path.relative_to(folder))] = None if is_folder else (status.st_size, status.st_mtime_ns)
    return found
