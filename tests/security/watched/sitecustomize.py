"""Imported by every Python that has this folder on its path: denies it the network, notes what it writes.

`BENCH_TEST_WATCH` is the folder of the notes: each attempt at the network with its stack in `attempts`, each
path opened for writing in `written`. Binding a socket is let pass: it sends nothing, and urllib3 does it to
see whether there is IPv6.
"""

import os
import socket
import sys
import traceback
from typing import Any

ASKS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
SENDS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND


def note(name: str) -> int:
    """Where notes of this name go; opened here, since the hook below may open nothing."""
    path = os.path.join(os.environ["BENCH_TEST_WATCH"], name)  # noqa: PTH118  (imported by every process)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook, of PEP 578."""
    if event == "open":
        path, _, flags = arguments
        if flags & WRITES and not isinstance(path, int):
            os.write(written, os.fsencode(os.path.abspath(path)) + b"\n")  # noqa: PTH100
    elif event in ASKS or (event in SENDS and arguments[0].family != socket.AF_UNIX):
        stack = "".join(traceback.format_stack())
        os.write(attempts, f"{event} {arguments}\n{stack}\n".encode())
        raise PermissionError(f"{event}: the network is denied")


attempts, written = note("attempts"), note("written")
sys.addaudithook(watch)
