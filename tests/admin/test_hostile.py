"""A hostile client on the admin port changes nothing for an echo beside it, nor for whoever watches."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from suite.admin.http import MOST_PER_PEER
from tests.admin.asking_http import ask
from tests.running import PATIENCE, RunningSuite, running, wait_until

CONFIG = """
[endpoints]
tcp = "tcp:0"
[admin]
listen = ["tcp:0", "unix:admin.sock"]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("hostile"), CONFIG) as suite:
        yield suite


class Echoes:
    """A client that has its bytes echoed all the time.

    :ivar count: the echoes that were right.
    :ivar problem: the first that was not.
    """

    def __init__(self, suite: RunningSuite) -> None:
        self.count = 0
        self.problem = ""
        self._suite = suite
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Echoes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        with self._suite.connect("tcp") as sock:
            while not self._ending.is_set():
                data = os.urandom(700)
                sock.sendall(data)
                back = b""
                while len(back) < len(data):
                    more = sock.recv(65536)
                    if not more:
                        self.problem = "it has ended"
                        return
                    back += more
                if back != data:
                    self.problem = "it was wrong"
                    return
                self.count += 1


def descriptors(suite: RunningSuite) -> int:
    return len(os.listdir(f"/proc/{suite.process.pid}/fd"))


def flood(address: Any, data: bytes, count: int, stack: ExitStack) -> None:
    """*count* connections to *address*, each of which sends *data*, and stays."""
    for _ in range(count):
        sock = stack.enter_context(socket.create_connection(address, PATIENCE))
        with suppress(ConnectionError):  # it has had to make room
            sock.sendall(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-%d: x\r\n" * 100,
        b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65536\r\n\r\n" + bytes(60_000),
        os.urandom(50_000),
    ],
    ids=["silent", "slowloris", "pipelined", "headers", "half a body", "noise"],
)
def test_a_flood_is_bounded_and_others_are_served(suite: RunningSuite, data: bytes) -> None:
    address, path = suite.admin
    before = descriptors(suite)
    with Echoes(suite) as echoes, ExitStack() as stack:
        flood(address, data, 300, stack)
        seen = echoes.count
        assert ask(path, "/").status == 200  # another peer
        # Beside the flood's: of the echo, the other peer, and what the engine opens when there is much to do.
        most = before + MOST_PER_PEER + 8
        wait_until(lambda: descriptors(suite) <= most, "the flood has its share")  # those aborted are closed
        while echoes.count < seen + 50 and not echoes.problem:
            pass
    assert not echoes.problem
    wait_until(lambda: descriptors(suite) <= before + 8, "the flood is gone")
    assert ask(address, "/").status == 200


def test_there_is_no_way_out_of_the_table_of_paths(suite: RunningSuite) -> None:
    for path in (
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/static/../../../etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/..%5c..%5cetc",
        "/api/v1/endpoints/%00",
        "/api/v1/endpoints/..%2f..",
        "/%ff",
    ):
        answer = ask(suite.admin[1], path)
        assert answer.status == 404, path
        assert b"root:" not in answer.body
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_page_of_another_site_changes_nothing_and_reads_nothing(suite: RunningSuite) -> None:
    """DNS rebinding: the browser takes the other site's name for ours, and sends it."""
    address, path = suite.admin
    for at in (address, path):
        assert ask(at, "/", headers={"Host": "evil.example:9901"}).status == 421
    answer = ask(address, "/")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert ask(address, "/", "OPTIONS", headers={"Origin": "http://evil.example"}).status == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ],
    ids=["a script", "an image", "a file", "a link", "its own page"],
)
def test_a_page_of_another_site_may_only_have_a_link(
    suite: RunningSuite, headers: dict[str, str], status: int
) -> None:
    """It could take up all streams of events, whether or not it can read them."""
    for path in ("/", "/metrics", "/api/v1/events/recent"):
        assert ask(suite.admin[0], path, headers=headers).status == status
    assert ask(suite.admin[0], "/healthz", headers=headers).status == 200


def test_a_request_may_name_its_host_in_its_target(suite: RunningSuite) -> None:
    """RFC 9112, section 3.2.2: the target's host counts, and not the header's."""
    with socket.create_connection(suite.admin[0], PATIENCE) as sock:
        sock.sendall(b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert sock.makefile("rb").read().startswith(b"HTTP/1.1 421 ")
    with socket.create_connection(suite.admin[0], PATIENCE) as sock:
        sock.sendall(b"GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert sock.makefile("rb").read().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "hosts",
    [b"", b"Host: localhost\r\nHost: localhost\r\n", b"Host: a b\r\n", b"Host: [::1\r\n", b"Host: \xff\r\n"],
)
def test_one_host_is_expected(suite: RunningSuite, hosts: bytes) -> None:
    """RFC 9112, section 3.2."""
    with socket.create_connection(suite.admin[0], PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
        assert sock.makefile("rb").read().startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 421 "))
