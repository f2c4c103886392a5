"""The control socket of a suite in a process of its own, with clients that share no code with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.admin.asking import SOCKET, Client, ask, client, faults_of
from tests.running import (
    PATIENCE,
    RunningSuite,
    client_program,
    listens,
    run_suite,
    running,
    wait_until,
)

CONFIG = """
control = "unix:run/control.sock"

[endpoints]
clean = "tcp:0"
udp = "udp:0"

[endpoints.flaky]
listen = "tcp:0"
faults = [{ latency = "1ms" }]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[RunningSuite]:
    with running(tmp_path, CONFIG) as suite:
        yield suite


def netcat(suite: RunningSuite, sent: bytes) -> list[Any]:
    """What ``nc`` gets for *sent*."""
    result = subprocess.run(
        [client_program("nc"), "-U", "-N", SOCKET],
        input=sent,
        cwd=suite.directory,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


# Real clients.


def test_netcat_gets_its_answer_after_a_half_close(suite: RunningSuite) -> None:
    (answer,) = netcat(suite, b'{"do": "list"}\n')
    assert answer["ok"] is True
    assert faults_of(answer) == {"flaky": ["latency=1ms"]}


def test_netcat_may_leave_out_the_last_newline_and_send_several(suite: RunningSuite) -> None:
    answers = netcat(suite, b'{"do": "clear"}\nnonsense\n{"do": "list", "endpoint": "flaky"}')
    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert faults_of(answers[2]) == {"flaky": []}


def test_socat(suite: RunningSuite) -> None:
    request = b'{"do": "add", "endpoint": "clean", "faults": ["refuse"]}\n'
    result = subprocess.run(
        [client_program("socat"), "-", f"UNIX-CONNECT:{SOCKET}"],
        input=request,
        cwd=suite.directory,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert faults_of(json.loads(result.stdout)) == {"clean": ["refuse"]}


# Who may, and where it is.


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_its_file_is_for_its_owner_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    with running(tmp_path, CONFIG):
        assert mode(tmp_path / SOCKET) == 0o600
        assert mode(tmp_path / "run") == 0o755
    assert os.listdir(tmp_path / "run") == []


def test_another_mode_and_no_lock_file(tmp_path: Path) -> None:
    with running(tmp_path, CONFIG.replace("control.sock", "control.sock:mode=660:lockfile=0")):
        assert mode(tmp_path / SOCKET) == 0o660
        assert os.listdir(tmp_path / "run") == ["control.sock"]


def test_without_a_word_there_is_none(tmp_path: Path) -> None:
    with running(tmp_path, '[endpoints]\ntcp = "tcp:0"'):
        assert os.listdir(tmp_path) == ["config.toml"]


def test_what_a_killed_suite_has_left_is_replaced(tmp_path: Path) -> None:
    killed = RunningSuite(tmp_path, CONFIG)
    killed.stop(signal.SIGKILL)
    assert not listens(tmp_path / SOCKET)
    with running(tmp_path, CONFIG) as suite:
        ask(suite, "list")


def test_one_that_another_suite_listens_on_is_an_error(suite: RunningSuite) -> None:
    says = r"control: cannot listen on run/control\.sock: .*\.lock is held by a running server\n"
    assert run_suite(suite.directory, "--config", "config.toml", says=says).returncode == 1
    ask(suite, "list")


@pytest.mark.parametrize(
    ("control", "says"),
    [
        ('"tcp:0"', "control: 'tcp:0' is not a UNIX socket; expected one such as unix:run/control.sock"),
        ('"haproxy:unix:a"', "control: 'haproxy:unix:a' is not a UNIX socket; expected one such as unix:run"),
        ('"nonsense:1"', "control: 'nonsense:1' is not a UNIX socket; expected one such as unix:run/control"),
        (
            '"unix:a:mode=rw"',
            "control: mode 'rw' is not a file mode; expected three octal digits, such as 660",
        ),
        ('"unix:a:mod=600"', "control: 'mod' is not a parameter of unix:; did you mean mode?"),
        ('"unix:"', "control: address is missing; expected unix:ADDRESS…"),
        (
            r'"unix:\u0000a"',
            "control: 'unix:\\x00a' is an abstract socket, open to everybody; expected a path",
        ),
        ('"unix:e.sock"', "control: e.sock is taken by endpoints.e; expected a path of its own"),
        ("7", "control: 7 is an integer; expected a UNIX socket"),
    ],
)
def test_one_that_cannot_be_is_one_line(tmp_path: Path, control: str, says: str) -> None:
    (tmp_path / "config.toml").write_text(f'control = {control}\n[endpoints]\ne = "unix:e.sock"\n')
    for arguments in (["check"], []):
        result = run_suite(tmp_path, *arguments, says=rf"config\.toml: {re.escape(says)}[^\n]*\n")
        assert result.returncode == 2
    assert os.listdir(tmp_path) == ["config.toml"]


def test_if_it_cannot_be_opened_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    (tmp_path / "config.toml").write_text('control = "unix:run/c"\n[endpoints]\ne = "unix:e.sock"\n')
    says = r"control: cannot listen on run/c: run: File exists\n|control: cannot listen on run/c: .*\n"
    assert run_suite(tmp_path, "--config", "config.toml", says=says).returncode == 1
    assert sorted(os.listdir(tmp_path)) == ["config.toml", "run"]


# Reloads.


def reload(suite: RunningSuite, config: str, answer: str = "reloaded: ") -> str:
    """Have *suite* reload *config*; return the line that it logs."""
    (suite.directory / "config.toml").write_text(config)
    before = len([line for line in suite.errors if answer in line])
    suite.process.send_signal(signal.SIGHUP)

    def lines() -> list[str]:
        return [line for line in suite.errors if answer in line][before:]

    wait_until(lambda: bool(lines()), answer)
    return lines()[0]


def test_a_reload_leaves_it_where_it_is_with_its_connections(suite: RunningSuite) -> None:
    inode = (suite.directory / SOCKET).stat().st_ino
    with client(suite) as it:
        assert it.ask(do="list")["ok"] is True
        reload(suite, CONFIG)
        assert it.ask(do="list")["ok"] is True
    assert (suite.directory / SOCKET).stat().st_ino == inode


def test_a_reload_puts_in_force_what_the_file_says_under_new_ids(suite: RunningSuite) -> None:
    added = ask(suite, "add", endpoint="clean", faults=["stall"])["ids"]
    before = ask(suite, "list")["endpoints"]["flaky"]["faults"][0]["id"]
    reload(suite, CONFIG)
    answer = ask(suite, "list")
    assert faults_of(answer) == {"flaky": ["latency=1ms"]}
    assert answer["endpoints"]["flaky"]["faults"][0]["id"] > max(added[0], before)


def test_a_reload_moves_it_takes_it_away_and_brings_it_back(suite: RunningSuite) -> None:
    reload(suite, CONFIG.replace("control.sock", "other.sock:mode=640"))
    assert sorted(os.listdir(suite.directory / "run")) == ["other.sock", "other.sock.lock"]
    assert mode(suite.directory / "run/other.sock") == 0o640
    with client(suite, "run/other.sock") as it:
        assert it.ask(do="list")["ok"] is True
    reload(suite, CONFIG.replace("control", "# control"))
    assert os.listdir(suite.directory / "run") == []
    reload(suite, CONFIG)
    ask(suite, "list")


def test_a_reload_that_cannot_move_it_changes_nothing(suite: RunningSuite) -> None:
    with client(suite) as it:
        ids = it.ask(do="add", endpoint="clean", faults=["stall"])["ids"]
        (suite.directory / "taken").mkdir()
        suite.asked_for.append("not reloaded")
        line = reload(suite, CONFIG.replace("run/control.sock", "taken"), "not reloaded")
        assert "control: cannot listen on taken: it exists and is not a socket" in line
        assert it.ask(do="list")["endpoints"]["clean"]["faults"][0]["id"] == ids[0]
    ask(suite, "list")


def test_one_that_somebody_has_removed_is_there_again(suite: RunningSuite) -> None:
    """And the faults are those of before, since nobody has asked for a reload."""
    suite.asked_for.append("had been removed or replaced")
    ids = ask(suite, "add", endpoint="clean", faults=["stall"])["ids"]
    (suite.directory / SOCKET).unlink()
    wait_until(lambda: listens(suite.directory / SOCKET), "it is there again")
    assert ask(suite, "list")["endpoints"]["clean"]["faults"] == [{"id": ids[0], "fault": "stall"}]


# Clients that do what they should not.


def test_a_flood_of_bad_requests_harms_nobody_else(suite: RunningSuite) -> None:
    bad = b'{"do": "lst"}\n{\n[]\n\x00\xff\n' * 2000
    with ExitStack() as stack:
        clients = [stack.enter_context(client(suite)) for _ in range(4)]
        for it in clients:
            it.sock.setblocking(False)
            it.sock.send(bad)  # as much as fits, and nothing is read
        with suite.connect("clean") as echo:
            echo.sendall(b"hola")
            assert echo.recv(4) == b"hola"
        ask(suite, "list")
        memory = suite.memory()
        for it in clients:
            it.sock.settimeout(PATIENCE)
            it.sock.shutdown(socket.SHUT_WR)
            answers = [json.loads(answer) for answer in it.file]
            assert len(answers) > 1000
            assert not any(answer["ok"] for answer in answers)
        assert suite.memory() < memory + 32 * 2**20
    assert suite.errors == []


def test_one_client_too_many_is_told_and_a_place_is_free_again(suite: RunningSuite) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(client(suite)) for _ in range(16)]
        assert clients[-1].ask(do="list")["ok"] is True
        with client(suite) as late:
            assert late.answer()["kind"] == "busy"
            assert late.answer() is None
        clients[0].sock.shutdown(socket.SHUT_WR)
        assert clients[0].answer() is None
        ask(suite, "list")


def test_a_line_without_an_end_is_told_so(suite: RunningSuite) -> None:
    with client(suite) as it:
        it.send(b"x" * 70_000)
        assert it.answer()["error"].startswith("a line is longer than 65,536 bytes")
        with pytest.raises((ConnectionError, AssertionError)):  # reset, or the end
            assert it.answer() is not None


def test_the_end_of_the_suite_waits_for_no_client(tmp_path: Path) -> None:
    with running(tmp_path, CONFIG) as suite:
        silent, half = Client(tmp_path / SOCKET), Client(tmp_path / SOCKET)
        half.send(b'{"do": ')
        ask(suite, "list")
    assert silent.answer() is None
    silent.close()
    half.close()
