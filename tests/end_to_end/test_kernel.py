"""What the kernel holds: it is owed to the peer, it is bounded, and nothing in it is out of order."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from suite import certs
from tests.running import (
    ON_RING,
    PATIENCE,
    REACTORS,
    RunningSuite,
    TLSClient,
    client_program,
    running,
    running_on,
    wait_until,
)

CONFIG = """
[limits]
stall = "1s"
half_close = "1s"

[endpoints]
tcp = "tcp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:echo.sock"
"""

ENDPOINTS = ("tcp", "tls", "unix")

#: More than the suite, and the kernel for it, hold for one connection.
MUCH = 6 * 2**20


@pytest.fixture(scope="module", params=["echo-engine", "select", ON_RING])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    directory = tmp_path_factory.mktemp("kernel")
    certs.mint(directory / "certs")
    with running_on(request.param, directory, CONFIG) as suite:
        suite.asked_for.append('"stall"')
        yield suite


def connect(
    suite: RunningSuite, endpoint: str, stack: ExitStack
) -> tuple[socket.socket, TLSClient | socket.socket]:
    """A socket with a small receive buffer, so that the peer's progress shows; and what speaks over it."""
    sock = stack.enter_context(suite.connect(endpoint))
    if endpoint != "unix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    return sock, TLSClient(sock, suite.client_context()) if endpoint == "tls" else sock


def ends(suite: RunningSuite) -> list[str]:
    """Why connections have ended, in order."""
    return [event["reason"] for event in suite.events if event["message"].startswith("closed")]


class Interrupted(Exception):  # noqa: N818  # nothing is wrong
    """This process got no processor for so long that it has not read steadily."""


def read_steadily(sock: socket.socket, stream: TLSClient | socket.socket, pace: int) -> Iterator[bytes]:
    """What comes in two seconds at *pace* bytes a second, and then the rest of `MUCH`, at once.

    :raises Interrupted: the connection has ended, after a pause that was not meant.
    """
    longest = 0.0
    began = since = time.monotonic()
    got = 0
    try:
        for number in range(1, 21):  # two seconds, of the second that one may read nothing
            # This client's pace: what it was late for, it reads at once.
            time.sleep(max(0.0, began + 0.1 * number - time.monotonic()))
            left = pace // 10
            while left:
                longest = max(longest, time.monotonic() - since)
                data = stream.recv(left)
                since = time.monotonic()
                left -= len(data)
                got += len(data)
                yield data
    except OSError:
        if longest > 0.5:
            raise Interrupted from None
        raise
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)  # enough of that
    while got < MUCH:
        data = stream.recv(2**20)
        got += len(data)
        yield data


def echoed_steadily(suite: RunningSuite, endpoint: str, data: bytes, pace: int) -> bytes:
    """What comes back of *data* to a client that reads steadily.

    :raises Interrupted: as `read_steadily`.
    """

    def send() -> None:
        with suppress(OSError):  # what is wrong, reading tells
            stream.sendall(data)

    with ExitStack() as stack:
        sock, stream = connect(suite, endpoint, stack)
        writer = threading.Thread(target=send)
        stack.callback(writer.join, PATIENCE)
        writer.start()
        stack.callback(sock.close)  # which ends the writer
        return b"".join(read_steadily(sock, stream, pace))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_who_reads_steadily_stays(suite: RunningSuite, endpoint: str) -> None:
    """100,000 bytes in a second in which one may not read nothing: 1,700 a second at the default `stall`."""
    data = os.urandom(MUCH)
    for _ in range(5):
        with suppress(Interrupted):  # try again: other processes have held this one up
            assert echoed_steadily(suite, endpoint, data, 100_000) == data
            return
    pytest.fail("no processor")


@pytest.mark.parametrize("size", [MUCH, 100_000], ids=["more than fits", "all of it in the kernel"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_who_reads_nothing_is_disconnected(suite: RunningSuite, endpoint: str, size: int) -> None:
    before = len(ends(suite))
    with ExitStack() as stack:
        sock, stream = connect(suite, endpoint, stack)
        sock.settimeout(0.5)
        try:
            stream.sendall(bytes(size))
        except TimeoutError:
            assert size == MUCH
        wait_until(lambda: len(ends(suite)) > before, "it is disconnected")
    assert ends(suite)[before:] == ["stall"], "not idle: it is owed something"


@pytest.mark.parametrize("reactor", [*REACTORS, ON_RING])
@pytest.mark.parametrize("endpoint", ["tcp", "unix"])
def test_urgent_data_comes_back_in_order(tmp_path: Path, reactor: str, endpoint: str) -> None:
    with (
        running_on(reactor, tmp_path, '[endpoints]\ntcp = "tcp:0"\nunix = "unix:s"') as suite,
        suite.connect(endpoint) as sock,
    ):
        for _ in range(3):
            sock.sendall(b"before")
            sock.send(b"!", socket.MSG_OOB)
            sock.sendall(b"after")
            received = b""
            while len(received) < len(b"before!after") and (data := sock.recv(100)):
                received += data
            assert received == b"before!after"


def held_for(port: int) -> list[tuple[int, int]]:
    """Bytes that the kernel holds for each connection of the server at *port*: received, and to be sent.

    That is what a cgroup is charged for as ``sock``: the memory of the packets, not only their contents.
    """
    done = subprocess.run(
        [client_program("ss"), "-tmnH", f"sport = :{port}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    fields = [
        dict(re.findall(r"([a-z]+)(\d+)", memory)) for memory in re.findall(r"skmem:\((.*?)\)", done.stdout)
    ]
    return [(int(field["r"]), int(field["w"]) + int(field["f"])) for field in fields]


def flood(sock: socket.socket, most: int) -> None:
    """Send until nothing more is taken; read *most* bytes meanwhile, and then no more."""
    sock.setblocking(False)
    chunk = bytes(2**18)
    received, last = 0, time.monotonic()
    while time.monotonic() - last < 0.5:
        with suppress(BlockingIOError):
            sock.send(chunk)
            last = time.monotonic()
        if received < most:
            with suppress(BlockingIOError):
                received += len(sock.recv(2**20))


@pytest.mark.parametrize("most", [0, 16 * 2**20], ids=["never", "no longer"])
def test_what_the_kernel_holds_for_who_does_not_read_is_bounded(tmp_path: Path, most: int) -> None:
    """What is received, by net.ipv4.tcp_rmem, and what is to be sent, by us."""
    with running(tmp_path, '[endpoints]\ntcp = "tcp:0"') as suite, ExitStack() as stack:
        for _ in range(3):
            flood(stack.enter_context(suite.connect("tcp")), most)
        held = held_for(suite.addresses["tcp"][1])
        assert len(held) == 3
        largest = int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()[-1])
        assert max(received for received, _ in held) <= largest
        # 128 KiB and what is on its way; Linux alone holds 4 MiB, by net.ipv4.tcp_wmem.
        assert max(to_send for _, to_send in held) < 2**20
