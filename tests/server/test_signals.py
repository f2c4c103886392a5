"""What signals do to a suite that serves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred

from suite.server import process
from suite.server.service import EchoSuite
from suite.signals import Action
from suite.system import Notifier
from tests.commands.test_doors import TWIST, TWISTD
from tests.helpers import write_config
from tests.running import PATIENCE, RunningSuite, read_to_end, running, stuck, wait_until

UNIX = '[endpoints]\nunix = "unix:echo.sock"\ntcp = "tcp:0"\nudp = "udp:0"\n'

#: The suite, started by somebody who has blocked every signal.
BLOCKED = (
    sys.executable,
    "-c",
    "import os, signal, sys\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'suite', *sys.argv[1:]])",
)

STOPPING = [signal.SIGQUIT, signal.SIGALRM, signal.SIGPROF, signal.SIGIO, signal.SIGXCPU, signal.SIGRTMIN]


def test_a_status_is_told_once_everything_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal may come while thousands of endpoints are being opened, which takes some turns."""
    told: list[EchoSuite] = []

    async def tell(suite: EchoSuite) -> None:
        told.append(suite)

    monkeypatch.setattr(process, "log_status", tell)
    suite: Any = SimpleNamespace(opened=Deferred(), reactor=None, stamps=dict)
    reactor: Any = SimpleNamespace(callFromThread=lambda call, number: call(number))
    controls = process.Controls(reactor, suite, Notifier(), lambda _: None)
    connected: list[Callable[[int], None]] = []
    controls.connect(cast(Any, SimpleNamespace(action=lambda _: Action.STATUS, connect=connected.append)))
    connected[0](signal.SIGUSR2)
    assert told == []
    suite.opened.callback(None)
    assert told == [suite]
    connected[0](signal.SIGUSR2)
    assert told == [suite, suite]


def echoes(suite: RunningSuite, endpoint: str = "tcp") -> bool:
    with suite.connect(endpoint) as sock:
        sock.sendall(b"hola")
        sock.shutdown(socket.SHUT_WR)
        return read_to_end(sock.recv) == b"hola"


def has_stopped_listening(suite: RunningSuite) -> bool:
    try:
        suite.connect("tcp").close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # just now
        return False
    return False


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: signal.Signals(number).name)
def test_no_signal_leaves_a_socket_behind(tmp_path: Path, number: int) -> None:
    with running(tmp_path, UNIX) as suite:
        assert (tmp_path / "echo.sock").is_socket()
        assert suite.stop(number) == 0
        assert not (tmp_path / "echo.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGPIPE])
def test_signals_that_do_not_stop_it_stop_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, UNIX) as suite:
        for _ in range(20):
            suite.process.send_signal(number)
            assert echoes(suite)
    assert not (tmp_path / "echo.sock").exists()


def test_a_mask_of_the_parent_makes_nobody_deaf(tmp_path: Path) -> None:
    with running(tmp_path, UNIX, command=BLOCKED) as suite:
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any("reloaded" in line for line in suite.errors), "it has reloaded")
        assert suite.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("before", [(), (signal.SIGTERM,)], ids=["alone", "after SIGTERM"])
def test_sigquit_does_not_wait_for_a_drain(tmp_path: Path, before: tuple[signal.Signals, ...]) -> None:
    with ExitStack() as stack:
        suite = stack.enter_context(running(tmp_path, 'drain = "1h"\n' + UNIX))
        stuck(suite, stack)
        for number in before:
            suite.process.send_signal(number)
            wait_until(lambda: has_stopped_listening(suite), "it has stopped listening")
        assert suite.stop(signal.SIGQUIT) == 0


# The log file.


def test_a_log_file_is_opened_again_at_sigusr1(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log, old = tmp_path / "logs/log", tmp_path / "logs/log.1"
    with running(tmp_path, UNIX, "--log-file", "logs/log") as suite:
        suite.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: "status" in log.read_text(), "the log has the status")
        log.rename(old)
        before = old.stat().st_size
        suite.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists, "there is a new file")
        suite.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: "status" in log.read_text(), "the new file has the status")
        assert old.stat().st_size == before
        assert all(json.loads(line)["level"] == "info" for line in log.read_text().splitlines())
        assert suite.errors == []


def test_a_log_file_that_cannot_be_opened_again_stays_in_use(tmp_path: Path) -> None:
    log, old = tmp_path / "log", tmp_path / "log.1"
    with running(tmp_path, UNIX, "--log-file", "log", "--log", "text") as suite:
        log.rename(old)
        log.mkdir()
        suite.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "log file not opened again: log: Is a directory" in old.read_text(), "it says so")
        log.rmdir()
        suite.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists, "there is a new file")
        assert echoes(suite)


# The status.


def test_the_status_has_each_endpoint_and_what_it_has_done(tmp_path: Path) -> None:
    config = UNIX + '[endpoints.one]\nlisten = "tcp:0"\nlimits = { connections = 1 }\n'
    with running(tmp_path, config, asked_for=["refused"]) as suite, suite.connect("one") as first:
        first.sendall(b"hola")
        assert first.recv(4) == b"hola"
        with suite.connect("one") as second:
            assert second.recv(1) == b""
        assert echoes(suite)
        suite.process.send_signal(signal.SIGUSR2)

        def found() -> dict[str, dict[str, object]]:
            return {str(event.get("endpoint")): event for event in suite.events if "accepted" in event}

        wait_until(lambda: len(found()) == 5, "it says how each endpoint is")
        total, one = found()["None"], found()["one"]
        assert total["message"] == (
            "status: 4 endpoints, 0 leaving; 1 open, 2 accepted, 8 bytes, 1 refused (connections 1)"
        )
        assert one["message"] == "status: 1 open, 1 accepted, 4 bytes, 1 refused (connections 1)"
        assert {key: one[key] for key in ("open", "accepted", "received", "refused")} == {
            "open": 1, "accepted": 1, "received": 4, "refused": 1,
        }  # fmt: skip
        assert found()["tcp"]["message"] == "status: 0 open, 1 accepted, 4 bytes, 0 refused"


def test_the_status_is_shown_at_any_level_and_of_many_endpoints_the_busiest(tmp_path: Path) -> None:
    many = "".join(f'e{number} = "unix:{number}.sock"\n' for number in range(120))
    with running(tmp_path, UNIX + many, "--log", "text", "--log-level", "error") as suite:
        assert echoes(suite)
        suite.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: any("23 more endpoints" in line for line in suite.errors), "it has ended")
        assert len(suite.errors) == 102
        assert "info tcp status: 0 open, 1 accepted, 4 bytes, 0 refused" in suite.errors[1]


# Under Twisted's runners.


@pytest.mark.parametrize("command", [TWIST, TWISTD], ids=["twist", "twistd"])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_under_twisted_a_second_signal_does_not_wait(
    tmp_path: Path, command: tuple[str, ...], second: signal.Signals
) -> None:
    with ExitStack() as stack:
        suite = RunningSuite(tmp_path, 'drain = "1h"\n' + UNIX, command=command)
        stuck(suite, stack)
        suite.process.send_signal(signal.SIGTERM)
        wait_until(lambda: has_stopped_listening(suite), "it has stopped listening")
        assert suite.process.poll() is None
        # As ever under these runners, the process ends by the signal that has stopped the reactor.
        assert suite.stop(second) == -signal.SIGTERM
        assert not (tmp_path / "echo.sock").exists()


@pytest.mark.parametrize("command", [TWIST, TWISTD], ids=["twist", "twistd"])
def test_under_twisted_signals_do_the_same(tmp_path: Path, command: tuple[str, ...]) -> None:
    suite = RunningSuite(tmp_path, UNIX, command=command)
    suite.process.send_signal(signal.SIGUSR1)
    suite.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: any("status: 3 endpoints" in line for line in suite.lines), "it says how it is")
    assert echoes(suite)
    suite.process.send_signal(signal.SIGQUIT)
    assert suite.process.wait(PATIENCE) == 0
    suite.stop()
    assert not os.path.exists(tmp_path / "echo.sock")


def test_twistd_rotates_its_own_log_file(tmp_path: Path) -> None:
    log, old = tmp_path / "log", tmp_path / "log.1"
    write_config(tmp_path, UNIX)
    command = [*TWISTD[:1], "-n", "--pidfile=", "--logfile=log", *TWISTD[-1:]]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        try:
            wait_until(lambda: log.exists() and "ready" in log.read_text(), "it serves")
            process.send_signal(signal.SIGUSR1)
            wait_until(lambda: old.exists() and log.exists(), "there is a new file")
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM
    assert not (tmp_path / "echo.sock").exists()
