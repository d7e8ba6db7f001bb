"""Workers whose server ends: what they do is not lost with it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from bench.errors import MeasuringError
from bench.workers import call_apart, start_server


def outlive_the_server() -> str:
    """Go on after the process that forked this one was killed, as for want of memory."""
    server = os.getppid()
    os.kill(server, signal.SIGKILL)
    while os.getppid() == server:
        time.sleep(0.01)
    time.sleep(0.5)
    return "done"


def die_after_the_server() -> None:
    outlive_the_server()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_outlives_its_server_is_heard_to_the_end() -> None:
    assert call_apart(start_server(), outlive_the_server) == "done"
    assert call_apart(start_server(), os.getpid) != os.getpid()


def test_one_that_ends_without_a_word_after_its_server_is_noticed() -> None:
    with pytest.raises(MeasuringError):
        call_apart(start_server(), die_after_the_server)
