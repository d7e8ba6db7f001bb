"""What can go wrong, as the user sees it.

Exception
└── BenchError             one line for the user, no traceback; `exit_code` says how the command ends
    ├── InputError         a value the user gave cannot be used (exit 2)
    ├── Refusal            a variant cannot be made of this model; its row is `skipped`
    ├── MeasuringError     something could not be measured here; its row is `failed` (exit 3 without rows)
    └── ComparisonError    two runs cannot be compared, or one is not there (exit 3)
        └── NoBaselineYet  nothing is kept under the name; that can be allowed

KeyboardInterrupt
└── Terminated             another program asked to end; what there is is kept, as with Ctrl-C

Everything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import enum

# What torch says of the host's memory and of CUDA's own calls, Triton and ONNX Runtime, in exceptions of no
# class.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUDA failure 2: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Failed to allocate memory",
)


class ExitCode(enum.IntEnum):
    """How the `bench` command ends.

    `FAILED` is a regression beyond what was allowed, or a variant that failed; `CANNOT_TELL` is where
    something could not be measured or compared, so that a gate has nothing to judge. The last two are what a
    shell reports of a program that SIGINT or SIGTERM ended.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    CANNOT_TELL = 3
    INTERRUPTED = 130
    TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP as when a terminal is closed."""


class BenchError(Exception):
    """An expected error: its text is one line that names what, which value, and what to do."""

    exit_code = ExitCode.FAILED


class InputError(BenchError):
    """A file, name or number from the user that cannot be used."""

    exit_code = ExitCode.USAGE


class Refusal(BenchError):
    """A combination of technique, model and device that does not exist; the text says why."""


class MeasuringError(BenchError):
    """A quantity that cannot be measured on this machine."""

    exit_code = ExitCode.CANNOT_TELL


class ComparisonError(BenchError):
    """Runs that do not belong together, or one that is not there."""

    exit_code = ExitCode.CANNOT_TELL


class NoBaselineYet(ComparisonError):
    """A baseline's name under which nothing is kept, as before the first time."""


def in_one_line(error: BaseException) -> str:
    """What an exception says, without line breaks and of bearable length, for an error that is one line."""
    return writable(" ".join(str(error).split())[:300] or type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, the host's or a device's."""
    typed = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
    return typed or any(words in str(error) for words in OUT_OF_MEMORY)


def writable(text: str) -> str:
    """`text` with half a surrogate pair, as of a file's name that is not UTF-8, spelled out.

    No document can hold one.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint that ends an error about an unknown `word`: the nearest known one, then all."""
    import difflib

    close = difflib.get_close_matches(word.lower(), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"
