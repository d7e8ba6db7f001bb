"""Locks that end with their owner, so that nothing has to be cleared away after a crash."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import platform
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.errors import InputError

UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.EISDIR)
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
LONGEST_SIGNATURE = 400
POLL_S, PATIENCE_S = 0.1, 1.0


@dataclass(frozen=True)
class Held:
    """A lock while it is held; `doubt` is a line for the user where the file system knows no locks."""

    descriptor: int
    doubt: str | None

    def is_alone(self) -> bool:
        """Whether nobody else shares the lock; from here on nobody can."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextmanager
def hold(file: Path, in_use: str, shared: bool = False) -> Iterator[Held]:
    """Hold the lock `file` while the block runs, alone or together with others that share it.

    The file is made where there is none, in a folder that is there, and it stays. The kernel takes the lock
    back when its owner ends, by SIGKILL too, and no program that the owner starts holds it. Where the file
    system knows no locks the block runs without.

    Raises `InputError` that begins with `in_use` where another process holds it, or names a file that cannot
    be written; any other `OSError` passes through.
    """
    with opened(file, may_read_only=shared) as descriptor:
        yield Held(descriptor, taken(descriptor, file, in_use, shared))


@contextmanager
def hold_devices(names: Iterable[str], is_alone: bool, listen: Callable[[], None]) -> Iterator[str | None]:
    """Hold devices of this machine while the block runs, alone or together with others that share them.

    They are held against all processes of this user, and waited for where they are not free; `listen` is told
    when that begins. Who waits to be alone comes before those that would share them later. The block is given
    a line for the user where the file system knows no locks, and runs without.
    """
    folder, doubt = private_folder(), None
    with contextlib.ExitStack() as held:
        for name in sorted(names):  # in one order, lest two wait for each other
            place = folder / f"{name}.lock"
            device = held.enter_context(opened(place))
            with opened(folder / f"{name}.turn") as turn:
                wait_for(turn, fcntl.LOCK_EX, listen)
                if not wait_for(device, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH, listen):
                    doubt = no_locks(place)
        yield doubt


@contextmanager
def hold_together(
    file: Path, in_use: str, at_first: Callable[[], None], listen: Callable[[], None]
) -> Iterator[Held]:
    """Share the lock `file` with other processes of this machine and container while the block runs.

    Who comes first does `at_first` before others are let in; these wait, as for one that holds it alone, and
    `listen` is told when that begins. Where the file system knows no locks the block runs without, and nobody
    is the first.

    Raises `InputError` that begins with `in_use` where processes of another machine or container share it, or
    names a file that cannot be written.
    """
    with opened(file) as descriptor:
        held = Held(descriptor, None)
        is_first, patient_until = held.is_alone(), math.inf
        while not is_first and wait_for(descriptor, fcntl.LOCK_SH, listen):
            if signature(descriptor).is_ours:
                break
            # Who signed may be gone: one that was waited for, by several at the same time.
            is_first, patient_until = held.is_alone(), min(patient_until, time.monotonic() + PATIENCE_S)
            if not is_first and time.monotonic() > patient_until:
                raise InputError(
                    f"{in_use}: {owner(descriptor)} is working there, on another machine or in another "
                    "container; name another folder"
                )
            time.sleep(0.0 if is_first else POLL_S)
        if is_first:
            at_first()
            sign(descriptor)
        if not wait_for(descriptor, fcntl.LOCK_SH, listen):
            held = Held(descriptor, no_locks(file))
        yield held


@contextmanager
def hold_patiently(file: Path) -> Iterator[None]:
    """Share the lock `file` while the block runs, which waits where another process holds it alone.

    Where the file system knows no locks the block runs without.
    """
    with opened(file) as descriptor:
        wait_for(descriptor, fcntl.LOCK_SH, lambda: None)
        yield


def wait_for(descriptor: int, operation: int, listen: Callable[[], None]) -> bool:
    """Lock, whenever that can be; False where nothing can be locked.

    Looking again and again leaves a signal its chance.
    """
    told = False
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not told:
                listen()
                told = True
            time.sleep(POLL_S)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False


def private_folder() -> Path:
    """The folder below the system's temporary one that is this user's alone, made where it is not there.

    Raises `InputError` where something of another's is in its place.
    """
    folder = Path(tempfile.gettempdir()) / f"bench-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise InputError(f"{folder}: is not a folder of yours; remove it, or set TMPDIR to another place")
    return folder


@contextmanager
def opened(file: Path, may_read_only: bool = False) -> Iterator[int]:
    """A descriptor of the lock file for the block, closed in whatever the process starts.

    One that may only be read can be shared all the same.
    """
    # A link could name a file that the owner's number must not be written over.
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | flags, 0o666)
        except OSError as error:
            if not may_read_only or error.errno not in UNUSABLE:
                raise
            descriptor = os.open(file, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        raise InputError(f"{file}: cannot be written ({error.strerror}); name another folder") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def taken(descriptor: int, file: Path, in_use: str, shared: bool) -> str | None:
    """Lock without waiting, and leave the owner's number; a line for the user where nothing can be locked."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{in_use}: {owner(descriptor)} is working there; wait until it has ended") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return no_locks(file)
    sign(descriptor)
    return None


@dataclass(frozen=True)
class Signature:
    """Who holds a lock: a process by its number, its machine's name, and where the number means something."""

    number: str
    machine: str
    pid_space: str

    @property
    def is_ours(self) -> bool:
        """Whether its number is one of this machine's and container's, assumed where nothing says."""
        return self.pid_space in ("", pid_space())


def pid_space() -> str:
    """What tells the processes that a number can name from others: the machine since it started, and the
    container. Machines may be called alike, and so may containers and their machine.
    """
    space = []
    with contextlib.suppress(OSError):
        space.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        space.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(space) or platform.node()


def sign(descriptor: int) -> None:
    """Leave this process's signature."""
    text = f"{os.getpid()}\n{platform.node()}\n{pid_space()}\n"
    # The lock holds without it, and a full disk is where the cache is most wanted cleared.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, os.pwrite(descriptor, text.encode(), 0))


def signature(descriptor: int) -> Signature:
    """The signature that the owner left, its parts empty where it could not."""
    lines = os.pread(descriptor, LONGEST_SIGNATURE, 0).decode(errors="replace").split("\n")
    return Signature(*(*lines, "", "", "")[:3])


def no_locks(file: Path) -> str:
    """The line for the user where a file cannot be locked."""
    return f"{file}: this file system knows no locks; start nothing else that works in the same folder"


def owner(descriptor: int) -> str:
    """Who holds the lock: of several that share it the one that signed last, if that one still runs."""
    found = signature(descriptor)
    if not found.is_ours:
        return f"a process on {found.machine or 'another machine'}"
    if re.fullmatch("[0-9]{1,9}", found.number) and psutil.pid_exists(int(found.number)):
        return f"process {int(found.number)}"
    return "another process"
