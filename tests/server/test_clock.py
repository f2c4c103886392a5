"""Somebody sets the clock, by an hour, back and forth: no timer notices, on any reactor.

The clock is libfaketime's, for the suite's process alone; monotonic time is the system's.
"""

from __future__ import annotations

import glob
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import (
    PATIENCE,
    REACTORS,
    RunningSuite,
    cannot_run,
    listens,
    read_to_end,
    running,
    wait_until,
)

CONFIG = """
[endpoints.short]
listen = "unix:short"
limits = { idle = "1s" }

[endpoints.long]
listen = "unix:long"
limits = { idle = "10m", stall = "10m", half_close = "10m" }

[endpoints.tls]
listen = "ssl:0:interface=127.0.0.1:privateKey=certs/server.key:certKey=certs/server.pem"
limits = { handshake = "1s" }
"""

HOUR = 3600


class Faketime:
    """A clock that can be set, of the processes that run with its `command` before theirs."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "offset"
        self.set(0)
        library = faketime_library()
        self.command = [
            "env",
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]

    def set(self, seconds: int) -> None:
        """Set the clock *seconds* ahead of the system's."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


def faketime_library() -> str:
    """What Debian's ``faketime`` preloads; without it the test is skipped, and in CI it fails.

    The library is found by its path: the command ``faketime`` needs a semaphore named after its process,
    which an earlier process of the same number may have left behind.
    """
    directories = ("/usr/lib/*", "/usr/lib64", "/usr/lib", "/usr/local/lib")
    patterns = [f"{directory}/faketime/libfaketimeMT.so.1" for directory in directories]  # MT: with threads
    found = [path for pattern in patterns for path in glob.glob(pattern)]
    if not found:
        cannot_run("faketime is not installed")
    return found[0]


@pytest.fixture
def clock(tmp_path: Path) -> Faketime:
    return Faketime(tmp_path)


def gone(sock: socket.socket) -> bool:
    """Wait until the suite has ended the connection."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def is_echoed(sock: socket.socket) -> bool:
    sock.sendall(b"hola")
    return sock.recv(4, socket.MSG_WAITALL) == b"hola"


@contextmanager
def suite_on(reactor: str, clock: Faketime, directory: Path) -> Iterator[RunningSuite]:
    command = [*clock.command, sys.executable, "-m", "suite"]
    with running(directory, CONFIG, "--reactor", reactor, command=command, asked_for=["handshake"]) as suite:
        yield suite


@pytest.mark.parametrize("reactor", REACTORS)
@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["back", "forward"])
def test_a_step_of_the_clock_neither_delays_a_limit_nor_brings_it_forward(
    tmp_path: Path, clock: Faketime, reactor: str, step: int
) -> None:
    with (
        suite_on(reactor, clock, tmp_path) as suite,
        suite.connect("long") as healthy,
        suite.connect("short") as idle,
        suite.connect("tls") as silent,
    ):
        assert is_echoed(healthy)
        assert is_echoed(idle)
        clock.set(step)
        assert gone(idle), "within this client's patience, not in an hour"
        assert gone(silent), "so for handshakes"
        assert is_echoed(healthy), "it was not silent for ten minutes"


@pytest.mark.parametrize("reactor", REACTORS)
@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["back", "forward"])
def test_a_step_of_the_clock_while_draining(tmp_path: Path, clock: Faketime, reactor: str, step: int) -> None:
    """Who is silent is done with after a second, not after an hour; who is not stays until it has ended."""
    with (
        suite_on(reactor, clock, tmp_path) as suite,
        suite.connect("long") as silent,
        suite.connect("long") as busy,
    ):
        assert is_echoed(silent)
        assert is_echoed(busy)
        suite.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not os.path.exists(suite.addresses["long"]), "the endpoints are closed")
        clock.set(step)
        silent.settimeout(0.2)

        def silent_is_gone() -> bool:
            assert is_echoed(busy), "it is not silent"
            try:
                return gone(silent)
            except TimeoutError:
                return False

        wait_until(silent_is_gone, "who is silent is disconnected")
        busy.shutdown(socket.SHUT_WR)
        assert read_to_end(busy.recv) == b""
        assert suite.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["back", "forward"])
@pytest.mark.parametrize("reactor", ["echo-engine", "select", "asyncio"])
def test_under_twist_as_well(tmp_path: Path, clock: Faketime, reactor: str, step: int) -> None:
    (tmp_path / "config.toml").write_text(CONFIG.partition("[endpoints.tls]")[0])
    twist = [str(Path(sys.executable).with_name("twist")), "--reactor", reactor, "echo-suite"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen([*clock.command, *twist], cwd=tmp_path, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until(lambda: listens(tmp_path / "long") and listens(tmp_path / "short"), "it serves")
            with socket.socket(socket.AF_UNIX) as healthy, socket.socket(socket.AF_UNIX) as idle:
                for sock, path in ((healthy, "long"), (idle, "short")):
                    sock.settimeout(PATIENCE)
                    sock.connect(str(tmp_path / path))
                    assert is_echoed(sock)
                clock.set(step)
                assert gone(idle)
                assert is_echoed(healthy)
            process.terminate()
            assert process.wait(PATIENCE) == -signal.SIGTERM, "as twist does"
        finally:
            process.kill()
        assert b"Traceback" not in os.pread(log.fileno(), 2**24, 0)
