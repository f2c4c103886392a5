"""The limits of a suite with workers, as peers meet them: they are the suite's, not each worker's."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.running import PATIENCE, RunningSuite, listens, running, wait_until
from tests.server.test_reload import reloaded

if sys.platform != "linux":
    pytest.skip("workers are for Linux", allow_module_level=True)

CONFIG = """
workers = 2
[endpoints.few]
listen = "tcp:0"
limits = { connections = 20, per_peer = 20 }
[endpoints.share]
listen = "tcp:0"
limits = { per_peer = 3 }
[endpoints.proxied]
listen = "haproxy:tcp:0"
limits = { per_peer = 3 }
[endpoints.numbered]
listen = "tcp:0"
[endpoints.once]
listen = "tcp:0"
faults = [{ reset = true, after = "1B", once = true }]
[endpoints.udp]
listen = "udp:0"
limits = { rate = 1, burst = 10, rate_exempt = [] }
[endpoints.udp_lossy]
listen = "udp:0"
faults = [{ loss = 1, every = 3 }]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    directory = tmp_path_factory.mktemp("workers")
    full = ('"reason": "connections"', '"reason": "per-peer"', '"reason": "rate"')
    with running(directory, CONFIG, "--log-level", "debug", asked_for=full) as suite:
        yield suite


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Keeps what a test has connected."""
    with ExitStack() as stack:
        yield stack


def connected(
    suite: RunningSuite, endpoint: str, clients: ExitStack, source: str = "127.0.0.1", first: bytes = b""
) -> bool:
    """Connect from *source*, and send *first*; whether bytes come back."""
    sock = clients.enter_context(socket.socket())
    sock.settimeout(PATIENCE)
    sock.bind((source, 0))
    try:
        sock.connect(suite.addresses[endpoint])
        sock.sendall(first + b"hola")
        return sock.recv(4) == b"hola"
    except ConnectionError:
        return False


def fill(suite: RunningSuite, clients: ExitStack) -> int:
    """Connect 40 times to the endpoint with few places; how many there were."""
    return sum([connected(suite, "few", clients, f"127.0.1.{number}") for number in range(1, 41)])


def test_a_crowd_gets_all_places_and_not_one_more(suite: RunningSuite, clients: ExitStack) -> None:
    admitted: list[bool] = []

    def come(number: int) -> None:
        admitted.extend([connected(suite, "few", clients, f"127.0.2.{number}") for _ in range(5)])

    crowd = [threading.Thread(target=come, args=(number,)) for number in range(1, 13)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join(PATIENCE)
    assert len(admitted) == 60
    # Two that have raced for the last place may both have been refused.
    assert sum(admitted) in (19, 20)
    assert sum(admitted) + fill(suite, clients) == 20


@pytest.mark.parametrize("endpoint", ["share", "proxied"])
def test_a_peer_has_its_share_of_all_workers(suite: RunningSuite, clients: ExitStack, endpoint: str) -> None:
    proxied = endpoint == "proxied"
    for peer in ("127.0.3.1", "127.0.3.2"):
        header = f"PROXY TCP4 {peer} 127.0.0.1 40000 1234\r\n".encode() if proxied else b""
        source = "127.0.0.1" if proxied else peer
        found = [connected(suite, endpoint, clients, source, header) for _ in range(20)]
        assert found == [True] * 3 + [False] * 17


def workers_of(suite: RunningSuite) -> list[int]:
    """The process IDs of the workers."""
    pid = suite.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_connections_are_numbered_together(suite: RunningSuite, clients: ExitStack) -> None:
    for _ in range(40):
        assert connected(suite, "numbered", clients)
    clients.close()

    def closed() -> list[int]:
        lines = [line for line in suite.errors if '"numbered"' in line and '"closed"' in line]
        return sorted(int(found[1]) for line in lines if (found := re.search(r'"connection": (\d+)', line)))

    wait_until(lambda: len(closed()) >= 40, "all connections are logged")
    assert closed() == [*range(1, 41)]


def test_numbers_go_on_where_a_socket_is_made_anew(tmp_path: Path) -> None:
    """Somebody has removed its path: it is brought back, and open connections stay."""
    config = 'workers = 2\n[endpoints]\nunix = "unix:echo.sock:lockfile=0"\n'
    asked_for = ("it is there again",)
    with (
        ExitStack() as stack,
        running(tmp_path, config, "--log-level", "debug", asked_for=asked_for) as suite,
    ):
        for _ in range(3):
            open_one = stack.enter_context(suite.connect("unix"))
            open_one.sendall(b"hola")
            assert open_one.recv(4) == b"hola"
        (tmp_path / "echo.sock").unlink()
        wait_until(lambda: listens(tmp_path / "echo.sock"), "it is there again")
        with suite.connect("unix") as sock:
            sock.sendall(b"hola")
            assert sock.recv(4) == b"hola"

        def ended() -> list[int]:
            # `listens` has connected, too.
            return sorted(event["connection"] for event in suite.events if event["message"] == "closed")

        wait_until(lambda: len(ended()) >= 2, "the last ones have ended")
        assert ended() == [4, 5]


def burst_of(suite: RunningSuite, endpoint: str) -> float:
    """Send 100 datagrams, each from a port of its own; how many are answered, but for those of the rate."""
    began = time.monotonic()
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(100)]
        for sock in sockets:
            sock.setblocking(False)
            sock.sendto(b"hola", suite.addresses[endpoint])
        wait_until(lambda: sum(map(has_answer, sockets)) >= 10, "a burst is answered")
        wait_until(lambda: any('"reason": "rate"' in line for line in suite.errors), "the rest is not")
        wait_until(lambda: not waiting_for(suite.addresses[endpoint][1]), "all are decided about")
        return sum(map(has_answer, sockets)) - math.ceil(time.monotonic() - began)


def waiting_for(port: int) -> int:
    """The number of bytes that wait in the sockets for datagrams on *port*, of all workers."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(f":{port:04X}"))


def has_answer(sock: socket.socket) -> bool:
    try:
        return sock.recv(100, socket.MSG_PEEK) == b"hola"
    except BlockingIOError:
        return False


def test_a_source_has_one_rate_for_all_workers(suite: RunningSuite) -> None:
    """Whichever of its ports it sends from."""
    assert burst_of(suite, "udp") <= 10


def test_a_rate_that_a_reload_has_brought_is_one_for_all_workers(tmp_path: Path) -> None:
    """Before, the datagrams of a source come to all workers."""
    config = """
        workers = 2
        [endpoints.udp]
        listen = "udp:0"
        limits = {{ rate = {}, burst = 10, rate_exempt = [] }}
    """
    with running(tmp_path, config.format('"none"'), asked_for=['"reason": "rate"']) as suite:
        assert "reloaded" in reloaded(suite, config.format(1))
        assert burst_of(suite, "udp") <= 10


def test_a_fault_strikes_once_for_all_workers(suite: RunningSuite, clients: ExitStack) -> None:
    found = [connected(suite, "once", clients) for _ in range(30)]
    assert found == [False] + [True] * 29


def test_datagrams_are_numbered_together(suite: RunningSuite) -> None:
    """Every third of the endpoint is lost, whoever gets it: they come one after the other."""
    with ExitStack() as stack:
        for number in range(1, 31):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.settimeout(PATIENCE)
            sock.sendto(b"hola", suite.addresses["udp_lossy"])
            if number % 3:
                assert sock.recv(100) == b"hola"
            else:
                said = f"datagram {number}: lost"
                wait_until(lambda said=said: any(said in line for line in suite.errors), said)  # type: ignore[misc]


def test_the_places_of_a_worker_that_is_killed_are_free(tmp_path: Path, clients: ExitStack) -> None:
    with running(tmp_path, CONFIG, asked_for=("connections", "worker")) as suite:
        assert fill(suite, clients) == 20
        killed = workers_of(suite)[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in workers_of(suite) and len(workers_of(suite)) == 2, "it is replaced")
        clients.close()
        with ExitStack() as others:
            found: list[int] = []

            def filled() -> bool:
                found.append(fill(suite, others))
                return sum(found) >= 20

            wait_until(filled, "all places are free again")
            assert sum(found) == 20
