"""Faults changed while the suite runs, as clients of its endpoints see it."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.admin.asking import SOCKET, Client, ask, client, faults_of
from tests.commands.test_doors import TWIST, TWISTD
from tests.running import (
    PATIENCE,
    REACTORS,
    RunningSuite,
    cannot_run,
    listens,
    read_to_end,
    running,
    running_on,
    wait_until,
)

CONFIG = """
control = "unix:run/control.sock"

[endpoints]
tcp = "tcp:0"
udp = "udp:0"
unix = "unix:echo.sock"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
"""

LIVE_TABLE = "[faults]\nlive = true\n"
LIVE = CONFIG + LIVE_TABLE


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[RunningSuite]:
    with running(tmp_path, CONFIG) as suite:
        yield suite


def says(suite: RunningSuite, endpoint: str = "tcp", data: bytes = b"hola") -> bytes:
    """What a new connection gets for *data*, up to its end."""
    with suite.connect(endpoint) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_to_end(sock.recv)


@pytest.mark.parametrize("reactor", REACTORS)
def test_a_change_holds_from_the_next_connection_on(tmp_path: Path, reactor: str) -> None:
    with running_on(reactor, tmp_path, CONFIG) as suite:
        for endpoint in ("tcp", "unix"):
            assert says(suite, endpoint) == b"hola"
            (number,) = ask(suite, "add", endpoint=endpoint, faults=[{"limit": "2B"}])["ids"]
            assert says(suite, endpoint) == b"ho"
            ask(suite, "remove", endpoint=endpoint, ids=[number])
            assert says(suite, endpoint) == b"hola"
            ask(suite, "add", endpoint=endpoint, faults=["limit=3B"])
            assert says(suite, endpoint) == b"hol"
            ask(suite, "clear")
            assert says(suite, endpoint) == b"hola"


def test_refused_until_it_is_cleared(suite: RunningSuite) -> None:
    ask(suite, "add", endpoint="tcp", faults=["refuse"])
    with pytest.raises(ConnectionError):
        says(suite)
    ask(suite, "clear", endpoint="tcp")
    assert says(suite) == b"hola"


@pytest.mark.parametrize("reactor", REACTORS)
def test_datagrams_change_with_their_endpoint(tmp_path: Path, reactor: str) -> None:
    with running_on(reactor, tmp_path, CONFIG + LIVE_TABLE) as suite, suite.connect("udp") as sock:

        def answer() -> bytes:
            sock.send(b"hola")
            return sock.recv(100)

        assert answer() == b"hola"
        ids = ask(suite, "add", endpoint="udp", faults=["truncate=2B", {"corrupt": 1}])["ids"]
        assert len(answer()) == 2
        assert not answer().startswith(b"h")
        ask(suite, "remove", endpoint="udp", ids=ids[1:])
        assert answer() == b"ho"
        ask(suite, "clear", endpoint="udp")
        assert answer() == b"hola"


def test_a_handshake_goes_wrong_at_an_endpoint_that_was_clean(suite: RunningSuite) -> None:
    context = suite.client_context()

    def shake_hands() -> None:
        with (
            suite.connect("tls") as raw,
            context.wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"hola")
            assert sock.recv(4) == b"hola"

    shake_hands()
    ask(suite, "add", endpoint="tls", faults=["handshake=reset"])
    with pytest.raises(ConnectionResetError):
        shake_hands()
    ask(suite, "clear")
    shake_hands()


def test_no_connection_gets_half_of_a_change_or_slips_through(suite: RunningSuite) -> None:
    """Every connection of a stream of them gets both faults or none; none after "ok" gets none."""
    lock = threading.Lock()
    got: list[tuple[bool, bytes]] = []
    in_force = 0  # the number of the change that is in force for certain
    ended = threading.Event()

    def connect() -> None:
        while not ended.is_set():
            before = in_force
            found = says(suite)
            with lock:
                # Unless they have been taken away meanwhile, be it that others came after them.
                got.append((before == in_force > 0, found))

    threads = [threading.Thread(target=connect) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 16):
            ids = ask(suite, "add", endpoint="tcp", faults=["limit=3B", {"corrupt": 1}])["ids"]
            in_force = number
            seen = len(got)
            wait_until(lambda seen=seen: len(got) >= seen + 4, "connections have come")  # type: ignore[misc]
            in_force = 0
            ask(suite, "remove", endpoint="tcp", ids=ids)
    finally:
        ended.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert sum(certain for certain, _ in got) > 10
    for certain, found in got:
        clean = found == b"hola"
        both = len(found) == 3 and all(one != other for one, other in zip(found, b"hola", strict=False))
        assert both or (clean and not certain), (certain, found)
    assert any(found == b"hola" for _, found in got)


# Open connections.


def test_open_connections_keep_what_they_have(suite: RunningSuite) -> None:
    with suite.connect("tcp") as before:
        before.sendall(b"hola")
        assert before.recv(4) == b"hola"
        ask(suite, "add", endpoint="tcp", faults=["limit=2B"])
        before.sendall(b"hola")
        before.shutdown(socket.SHUT_WR)
        assert read_to_end(before.recv) == b"hola"
    with suite.connect("tcp") as under:
        under.sendall(b"h")
        assert under.recv(1) == b"h"
        ask(suite, "clear")
        under.sendall(b"ola")
        assert read_to_end(under.recv) == b"o"


def test_open_connections_change_with_their_endpoint_if_they_are_to(tmp_path: Path) -> None:
    with running(tmp_path, LIVE) as suite, suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        (number,) = ask(suite, "add", endpoint="tcp", faults=["latency=250ms"])["ids"]
        began = time.monotonic()
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        assert time.monotonic() - began >= 0.25
        ask(suite, "add", endpoint="tcp", faults=["limit=10B"])
        ask(suite, "remove", endpoint="tcp", ids=[number])
        sock.sendall(b"hola")
        assert read_to_end(sock.recv) == b"ho"


def test_a_stalled_connection_goes_on_once_its_fault_is_cleared(tmp_path: Path) -> None:
    with running(tmp_path, LIVE) as suite, suite.connect("tcp") as sock:
        ask(suite, "add", endpoint="tcp", faults=["stall after=2B"])
        sock.sendall(b"hola")
        assert sock.recv(2) == b"ho"
        ask(suite, "clear")
        assert sock.recv(2) == b"la"


def test_changes_under_load_neither_hang_nor_harm_a_byte(tmp_path: Path) -> None:
    """Harmless faults come and go while bytes pass, and others while clients vanish; each is answered."""
    harmless = (
        "latency=5ms jitter=4ms",
        "slice=700B",
        "bandwidth=8MiB",
        "latency=3ms direction=both",
        "slice=1000B gap=1ms direction=up",
        "stall after=64KiB for=20ms",
        "accept_delay=5ms",
    )
    data = random.Random(7).randbytes(400_000)  # the same in each run
    wrong: list[int] = []
    ended, exchanged = threading.Event(), threading.Semaphore(0)

    with running(tmp_path, LIVE) as suite:

        def exchange() -> None:
            while not ended.is_set():
                with suite.connect("tcp") as sock:
                    sender = threading.Thread(
                        target=lambda sock=sock: (sock.sendall(data), sock.shutdown(socket.SHUT_WR))
                    )
                    sender.start()
                    got = read_to_end(sock.recv)
                    sender.join(PATIENCE)
                if got != data:
                    wrong.append(len(got))
                exchanged.release()

        def vanish() -> None:
            for _ in range(20):
                with suite.connect("unix") as sock, suppress(OSError):
                    sock.settimeout(0.01)
                    sock.sendall(data)  # and it never reads

        threads = [threading.Thread(target=exchange) for _ in range(3)]
        threads += [threading.Thread(target=vanish) for _ in range(2)]
        for thread in threads:
            thread.start()
        with client(suite) as it:
            for turn in range(60):
                fault = harmless[turn % len(harmless)]
                ids = it.ask(do="add", endpoint="tcp", faults=[fault], seed=turn)["ids"]
                other = it.ask(do="add", endpoint="unix", faults=["stall", "blackhole", fault])
                assert other["ok"], other
                if turn % 3:
                    assert it.ask(do="remove", endpoint="tcp", ids=ids)["ok"]
                    assert it.ask(do="clear", endpoint="unix")["ok"]
            assert it.ask(do="clear")["ok"]
        ended.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert says(suite, "unix") == b"hola"
    assert exchanged.acquire(blocking=False)
    assert not wrong, f"of {len(data)} bytes"


def test_what_is_for_clients_of_a_name_stays_with_them(tmp_path: Path) -> None:
    config = LIVE.replace(
        'tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"',
        'tls = { listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem",'
        ' faults = [{ limit = "6B", only = ["slow.localhost"] }] }',
    )
    with running(tmp_path, config) as suite:
        context = suite.client_context()
        context.check_hostname = False
        with (
            suite.connect("tls") as raw,
            context.wrap_socket(raw, server_hostname="slow.localhost") as sock,
        ):
            sock.sendall(b"hola")
            assert sock.recv(4) == b"hola"
            ask(suite, "add", endpoint="tls", faults=["latency=1ms"])
            sock.sendall(b"hola")
            assert read_to_end(sock.recv) == b"ho"


def test_a_reload_changes_them_too_if_they_are_to(tmp_path: Path) -> None:
    with running(tmp_path, LIVE) as suite, suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        faulty = LIVE.replace('tcp = "tcp:0"', 'tcp = { listen = "tcp:0", faults = [{ limit = "6B" }] }')
        (tmp_path / "config.toml").write_text(faulty)
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any("reloaded: " in line for line in suite.errors), "it has reloaded")
        sock.sendall(b"hola")
        assert read_to_end(sock.recv) == b"ho"


# Other doors, and another user.


@pytest.mark.parametrize("command", [TWIST, TWISTD], ids=["twist", "twistd"])
def test_under_twisted_there_is_a_control_socket_as_well(tmp_path: Path, command: tuple[str, ...]) -> None:
    suite = RunningSuite(tmp_path, CONFIG, command=command)
    try:
        ask(suite, "add", endpoint="tcp", faults=["limit=2B"])
        assert says(suite) == b"ho"
    finally:
        suite.stop(signal.SIGTERM)
    assert os.listdir(tmp_path / "run") == []


def test_it_is_opened_with_the_privileges_of_the_start(entered_by_all: Path) -> None:
    if os.geteuid() != 0:
        cannot_run("becoming another user needs root")
    config = 'user = "nobody"\ncontrol = "unix:run/control.sock"\n[endpoints]\ntcp = "tcp:0"\n'
    with running(entered_by_all, config, command=[sys.executable, "-m", "suite"]) as suite:
        assert (entered_by_all / SOCKET).stat().st_uid == 0
        assert faults_of(ask(suite, "add", endpoint="tcp", faults=["limit=2B"])) == {"tcp": ["limit=2B"]}
        assert says(suite) == b"ho"


def test_a_client_that_came_first_waits_until_the_endpoints_are_open(tmp_path: Path) -> None:
    """Its socket is there as soon as those of the endpoints, and answers when they do."""
    many = "".join(f'e{number} = "tcp:0"\n' for number in range(300))
    path = tmp_path / SOCKET
    answers = []

    def connect() -> None:
        wait_until(lambda: listens(path), "the socket is there")
        early = Client(path)
        answers.append(early.ask(do="list", endpoint="e299"))
        early.close()

    thread = threading.Thread(target=connect)
    thread.start()
    with running(tmp_path, f'control = "unix:{SOCKET}"\n[endpoints]\n{many}') as suite:
        thread.join(PATIENCE)
        assert [answer["ok"] for answer in answers] == [True]
        with client(suite) as it:
            assert it.ask(do="list")["ok"] is True
