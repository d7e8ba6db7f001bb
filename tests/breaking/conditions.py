"""A disturbed machine: a disk that is small or read-only, few open files, a clock that jumps.

Nothing of the product is replaced: it is the kernel that refuses, and the time of day that is wrong. Where
one of these cannot be had, the test that asks for it is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Deadlines that are waited for are the kernel's, whose clock stays right.
CLOCK_SOURCE = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static unsigned state;
static int behind;

static void jump_now_and_then(void) {
    if (!state) state = (unsigned)getpid();
    state = state * 1664525u + 1013904223u;
    if (state >> 28 == 0) behind = !behind;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    jump_now_and_then();
    if (behind) now->tv_sec -= 3600;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
"""


@contextmanager
def small_disk(place: Path, size_mb: int) -> Iterator[Path]:
    """The folder `place`, made if need be, as a disk of so many MiB; its content goes with it."""
    place.mkdir(parents=True, exist_ok=True)
    _run_or_skip("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place))
    try:
        yield place
    finally:
        # A process that is being killed may still have its folder there.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """A `small_disk` that nobody can write to, root included; no file on it may be open for writing."""
    _run_or_skip("mount", "-o", "remount,ro", str(disk))
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def with_open_files(most: int) -> list[str]:
    """The words before a command that let it, and each process it starts, have at most so many open files."""
    _need("prlimit", "to limit open files")
    return ["prlimit", f"--nofile={most}:{most}", "--"]


def with_jumping_clock(folder: Path) -> dict[str, str]:
    """The variables of a process, and of what it starts, whose time of day is now right, now an hour behind.

    It changes once in 16 readings, at random; the monotonic clocks, and the times of files, stay right. The
    library that does it is compiled into `folder`.
    """
    compiler = _need("cc", "to compile a clock")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK_SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library)}


def _run_or_skip(*words: str) -> None:
    """Run a command that only root, or the owner of a namespace, may run."""
    _need(words[0], "to mount a disk")
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        pytest.skip(f"{' '.join(words)}: {done.stderr.strip()}")


def _need(program: str, why: str) -> str:
    """The path of a program."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} here {why}")
    return found
