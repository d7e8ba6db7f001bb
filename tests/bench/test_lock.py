"""Locks between real processes: who is refused, and what an owner's death leaves."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from bench.errors import InputError
from bench.lock import Held, hold, hold_devices, hold_patiently, hold_together, pid_space, private_folder

HOLDER = """
import sys
from pathlib import Path
from bench.lock import hold

with hold(Path(sys.argv[1]), "held", shared=sys.argv[2] == "shared"):
    print("holding", flush=True)
    sys.stdin.read()
"""
USER = """
import sys
from bench.lock import hold_devices

with hold_devices(sys.argv[2:] or ["cpu"], sys.argv[1] == "alone", lambda: print("waiting", flush=True)):
    print("holding", flush=True)
    sys.stdin.read()
"""
SERVER = """
import multiprocessing, sys, time
from pathlib import Path
from bench.lock import hold

if __name__ == "__main__":
    with hold(Path(sys.argv[1]), "held"):
        worker = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
        worker.start()
        print(worker.pid, flush=True)
        sys.stdin.read()
"""


@contextmanager
def started(program: str, *words: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A Python program that runs until the block ends, and the first line it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def nothing() -> None: ...


def together(
    lock: Path, at_first: Callable[[], None] = nothing, listen: Callable[[], None] = nothing
) -> AbstractContextManager[Held]:
    return hold_together(lock, "--cache x", at_first, listen)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


@pytest.mark.parametrize(
    ("first", "second"), [("alone", "alone"), ("alone", "shared"), ("shared", "alone")], ids="-".join
)
def test_a_second_holder_is_refused_and_told_of_the_first(lock: Path, first: str, second: str) -> None:
    with started(HOLDER, lock, first) as (process, line):
        assert line == "holding"
        message = rf"^--out run: process {process.pid} is working there; wait until it has ended$"
        with (
            pytest.raises(InputError, match=message),
            hold(lock, "--out run", shared=second == "shared"),
        ):
            pytest.fail("both hold it")


def test_many_share_a_lock(lock: Path) -> None:
    with started(HOLDER, lock, "shared") as (_, line), hold(lock, "here", shared=True) as held:
        assert (line, held.doubt) == ("holding", None)
        assert not held.is_alone()
    with hold(lock, "here", shared=True) as held:
        assert held.is_alone()
        with pytest.raises(InputError), hold(lock, "another", shared=True):
            pytest.fail("it is shared still")


def test_who_comes_first_does_something_and_is_joined_by_others(lock: Path) -> None:
    done: list[str] = []

    def at_first() -> None:
        with pytest.raises(InputError), hold(lock, "another", shared=True):
            pytest.fail("others are let in already")
        done.append("first")

    with together(lock, at_first) as first, together(lock, lambda: done.append("second")) as second:
        assert (done, first.doubt, second.doubt) == (["first"], None, None)
        assert not first.is_alone()
    with together(lock, lambda: done.append("again")) as held:
        assert held.is_alone()
    assert done == ["first", "again"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, this process is of another container of a machine that is called the same."""
    return lambda: monkeypatch.setattr("bench.lock.pid_space", lambda: "another container")


def test_another_container_is_refused_as_long_as_one_works(lock: Path, elsewhere: Callable[[], None]) -> None:
    done: list[str] = []
    with together(lock):
        elsewhere()
        said = rf"^--cache x: a process on {re.escape(platform.node())} is working there, on another machine "
        with pytest.raises(InputError, match=said), together(lock, lambda: done.append("too early")):
            pytest.fail("two machines work there")
        with pytest.raises(InputError, match=r"^clear: a process on "), hold(lock, "clear"):
            pytest.fail("it is held")
    with together(lock, lambda: done.append("later")):
        assert lock.read_text() == f"{os.getpid()}\n{platform.node()}\nanother container\n"
    assert done == ["later"]


def test_who_was_waited_for_is_no_reason_to_be_refused(lock: Path, elsewhere: Callable[[], None]) -> None:
    """That one is gone when its signature is read, and nobody works there."""
    done: list[str] = []
    with contextlib.ExitStack() as waited_for:
        waited_for.enter_context(hold(lock, "here"))
        elsewhere()

        def listen() -> None:
            done.append("waits")
            waited_for.close()

        with together(lock, lambda: done.append("first"), listen):
            assert done == ["waits", "first"]


def test_a_lock_can_be_held_again_once_it_is_given_back(lock: Path) -> None:
    for _ in range(2):
        with hold(lock, "here") as held:
            assert held.doubt is None
    with pytest.raises(RuntimeError, match="inside"), hold(lock, "here"):
        raise RuntimeError("inside")
    with hold(lock, "here"):
        assert lock.read_text() == f"{os.getpid()}\n{platform.node()}\n{pid_space()}\n"


def test_a_killed_owner_holds_nothing(lock: Path) -> None:
    with started(HOLDER, lock, "alone") as (process, _):
        process.kill()
        process.wait()
        with hold(lock, "here"):
            assert lock.read_text() == f"{os.getpid()}\n{platform.node()}\n{pid_space()}\n"


def test_a_worker_that_outlives_the_owner_does_not_hold_its_lock(lock: Path) -> None:
    with started(SERVER, lock) as (process, line):
        worker = psutil.Process(int(line))
        server = psutil.Process(worker.ppid())
        try:
            assert server.pid != process.pid
            process.kill()
            process.wait()
            assert worker.is_running()
            with hold(lock, "here"):
                pass
        finally:
            server.kill()
            worker.kill()


def test_a_number_that_is_nobody_s_is_not_named(lock: Path) -> None:
    with started(HOLDER, lock, "alone"):
        for left in ("", "0\n", "999999999999999999999\n", "-1\n", "\0\0", "seven\n"):
            lock.write_text(left)
            with (
                pytest.raises(InputError, match=r"^here: another process is working there"),
                hold(lock, "here"),
            ):
                pytest.fail("both hold it")


def test_a_link_is_not_written_through(lock: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    lock.symlink_to(precious)
    with pytest.raises(InputError, match=r"\.lock: cannot be written"), hold(lock, "here"):
        pytest.fail("it is held")
    assert precious.read_text() == "mine"


def test_a_lock_that_may_only_be_read_can_be_shared_and_not_held_alone(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a colleague's folder; permissions are no matter to root, so the system call says no."""
    lock.write_text("1\n")
    really_open = os.open

    def refuse(file: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", file)
        return really_open(file, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    with hold(lock, "here", shared=True) as held:
        assert held.doubt is None
    assert lock.read_text() == "1\n"
    with pytest.raises(InputError, match="cannot be written"), hold(lock, "here"):
        pytest.fail("it is held")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "closed" / ".lock"
    lock.mkdir(parents=True)  # where a file should be: root, too, cannot open it for writing
    with (
        pytest.raises(InputError, match=rf"^{lock}: cannot be written .*; name another folder$"),
        hold(lock, "x"),
    ):
        pytest.fail("it is held")


def test_no_folder_and_no_file_handles_are_the_caller_s(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), hold(tmp_path / "absent" / ".lock", "here"):
        pytest.fail("it is held")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_the_work_goes_on_and_the_user_is_told(
    lock: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    for holder in (
        hold(lock, "here"),
        together(lock, lambda: pytest.fail("others may work there")),
    ):
        with holder as held:
            assert held.doubt is not None
            assert held.doubt.startswith(f"{lock}: this file system knows no locks")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_nobody_waits_for_a_device(
    lock: Path, number: int, monkeypatch: pytest.MonkeyPatch, apart: Path
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with hold_devices(["cpu"], True, lambda: pytest.fail("it waits")) as doubt, hold_patiently(lock):
        assert doubt is not None
        assert "cpu.lock: this file system knows no locks" in doubt


def test_a_lock_that_fails_otherwise_is_no_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output"), hold_patiently(lock):
        pytest.fail("it is held")


def test_no_descriptor_is_left_open(lock: Path) -> None:
    for _ in range(5):
        with hold(lock, "here"), pytest.raises(InputError), hold(lock, "again"):
            pytest.fail("both hold it")
    assert str(lock) not in [file.path for file in psutil.Process().open_files()]


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own: the devices of a real run beside it are not its."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_a_device_is_measured_by_one_at_a_time_and_the_next_is_told_that_it_waits(apart: Path) -> None:
    with started(USER, "alone") as (first, said):
        assert said == "holding"
        with started(USER, "alone") as (second, waits):
            assert waits == "waiting"
            first.kill()
            assert second.stdout
            assert second.stdout.readline().strip() == "holding"


def test_a_device_is_shared_by_those_that_do_not_measure(apart: Path) -> None:
    with started(USER, "shared") as (_, one), started(USER, "shared") as (_, other):
        assert (one, other) == ("holding", "holding")
    with started(USER, "alone") as (_, alone):
        assert alone == "holding", "those that have ended hold nothing"


def test_who_comes_later_does_not_go_before_who_waits_to_measure(apart: Path) -> None:
    with started(USER, "shared") as (first, _), started(USER, "alone") as (second, waits):
        assert waits == "waiting"
        with started(USER, "shared") as (_, later):
            assert later == "waiting"
            first.kill()
            assert second.stdout
            assert second.stdout.readline().strip() == "holding"


def test_devices_do_not_wait_for_each_other(apart: Path) -> None:
    with started(USER, "alone"), hold_devices(["GPU-1"], True, lambda: pytest.fail("it waits")):
        pass


def test_who_uses_several_devices_holds_them_all(apart: Path) -> None:
    """Named in any order: two that took them in different ones would wait for each other."""
    with started(USER, "shared", "GPU-2", "GPU-1") as (_, said):
        assert said == "holding"
        with started(USER, "alone", "GPU-2") as (_, waits), started(USER, "alone", "GPU-1") as (_, too):
            assert (waits, too) == ("waiting", "waiting")
    with (
        started(USER, "alone", "GPU-1", "GPU-2") as (first, _),
        started(USER, "alone", "GPU-2", "GPU-1") as (second, waits),
    ):
        assert waits == "waiting"
        first.kill()
        assert second.stdout
        assert second.stdout.readline().strip() == "holding"


def test_a_folder_of_anothers_is_refused(apart: Path) -> None:
    place = private_folder()
    assert place.stat().st_mode & 0o077 == 0
    place.rmdir()
    place.symlink_to(apart)
    with pytest.raises(InputError, match="not a folder of yours"):
        private_folder()
