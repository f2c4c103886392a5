"""Health, as Kubernetes, HAProxy and people ask for it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from suite.admin.health import MOST_REASONS, reasons_against
from suite.server.pauses import Turns
from tests.admin.asking_http import ask
from tests.helpers import now
from tests.running import PATIENCE, RunningSuite, optional_program, running, wait_until

CONFIG = """
[endpoints]
tcp = "tcp:0"
missing = { listen = "tcp:0:interface=203.0.113.1", optional = true }
[admin]
listen = ["tcp:0", "unix:admin.sock"]
"""

PATHS = ("/healthz", "/readyz", "/startupz")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("health"), CONFIG, asked_for=["not served"]) as suite:
        yield suite


def raw(address: Any, request: bytes) -> bytes:
    """What comes back for *request*, up to the end."""
    with socket.create_connection(address, PATIENCE) as sock:
        sock.sendall(request)
        return sock.makefile("rb").read()


def test_it_is_well_and_an_optional_endpoint_that_is_missing_is_no_reason(suite: RunningSuite) -> None:
    for address in suite.admin:
        for path in PATHS:
            answer = ask(address, path)
            assert (answer.status, answer.text) == (200, "ok\n")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            head = ask(address, path, "HEAD")
            assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "3")
    assert ask(suite.admin[0], "/healthz", "POST").status == 405


@pytest.mark.parametrize("path", PATHS)
def test_a_probe_with_a_token_that_is_not_ours_is_answered(suite: RunningSuite, path: str) -> None:
    assert ask(suite.admin[0], path, token="the one of before").status == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /readyz HTTP/1.0\r\n\r\n",  # HAProxy: option httpchk GET /readyz
        b"OPTIONS /readyz HTTP/1.0\r\n\r\n",  # HAProxy: option httpchk /readyz
        b"HEAD /readyz HTTP/1.1\r\nHost: www\r\nConnection: close\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:9901\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\n"
        b"Connection: close\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: echo.default.svc.cluster.local\r\nConnection: close\r\n\r\n",
        b"GET /readyz?verbose HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_the_requests_of_probes(suite: RunningSuite, request_: bytes) -> None:
    head, _, body = raw(suite.admin[0], request_).partition(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    assert body == (b"" if request_.startswith(b"HEAD") else b"ok\n")


def test_a_probe_without_a_host_does_not_get_more_than_health(suite: RunningSuite) -> None:
    assert raw(suite.admin[0], b"GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n").split()[1] == b"400"
    assert raw(suite.admin[0], b"GET /api/v1/status HTTP/1.0\r\nHost: www\r\n\r\n").split()[1] == b"421"


def test_what_is_paused_is_a_reason_and_nothing_against_its_life(suite: RunningSuite) -> None:
    address = suite.admin[1]
    ask(address, "/api/v1/endpoints/tcp/pause", "POST")
    ready = ask(address, "/readyz")
    assert (ready.status, ready.text) == (503, "tcp: paused\n")
    assert [ask(address, path).status for path in ("/healthz", "/startupz")] == [200, 200]
    ask(address, "/api/v1/endpoints/tcp/resume", "POST")
    assert ask(address, "/readyz").text == "ok\n"


def test_haproxy_takes_a_paused_endpoint_out_of_service(suite: RunningSuite, tmp_path: Path) -> None:
    program = optional_program("haproxy")
    (_, port), path = suite.admin
    echo = "{}:{}".format(*suite.addresses["tcp"])
    stats = tmp_path / "stats.sock"
    (tmp_path / "haproxy.cfg").write_text(
        f"""
global
    stats socket {stats}
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
backend echo
    option httpchk GET /readyz
    server one {echo} check port {port} inter 100ms fall 1 rise 1
"""
    )
    with subprocess.Popen(
        [program, "-db", "-f", tmp_path / "haproxy.cfg"], stderr=subprocess.PIPE
    ) as process:

        def state() -> str:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(str(stats))
                sock.sendall(b"show stat\n")
                rows = [row.split(",") for row in sock.makefile().read().splitlines()]
            names = rows[0]
            return next(row[names.index("status")] for row in rows if row[:2] == ["echo", "one"])

        try:
            wait_until(lambda: stats.exists() and state() == "UP", "the endpoint is in service")
            ask(path, "/api/v1/endpoints/tcp/pause", "POST")
            wait_until(lambda: state().startswith("DOWN"), "it is out of service")
            ask(path, "/api/v1/endpoints/tcp/resume", "POST")
            wait_until(lambda: state() == "UP", "it is in service again")
        finally:
            process.terminate()
            process.communicate()


def test_curl_fails_where_it_is_not_ready(suite: RunningSuite) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    address = suite.admin[1]
    command = ["curl", "--silent", "--fail", "--unix-socket", address, "http://localhost/readyz"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    ask(address, "/api/v1/endpoints/tcp/pause", "POST")
    assert subprocess.run(command, check=False, capture_output=True).returncode == 22
    ask(address, "/api/v1/endpoints/tcp/resume", "POST")


# In memory.


class Endpoint:
    """An endpoint, as far as health is concerned."""

    def __init__(self, name: str, *, paused: bool = False, listens: bool = True) -> None:
        endpoint = SimpleNamespace(name=name)
        self.description = SimpleNamespace(endpoint=endpoint, address="127.0.0.1:7")
        self.paused = paused
        self.listens = listens


def reasons(*endpoints: Endpoint, draining: bool = False, opened: bool = True) -> list[str]:
    suite: Any = SimpleNamespace(
        draining=draining,
        opened=Deferred(),
        endpoints={each.description.endpoint.name: each for each in endpoints},
    )
    if opened:
        suite.opened.callback(None)
    found: list[str] = now(reasons_against(suite, Turns(Clock())))
    return found


def test_reasons() -> None:
    assert reasons(Endpoint("a")) == []
    assert reasons(Endpoint("a"), draining=True) == ["draining"]
    assert reasons(Endpoint("a"), opened=False) == ["starting"]
    assert reasons(Endpoint("a", paused=True), Endpoint("b", listens=False)) == [
        "a: paused",
        "b: does not listen on 127.0.0.1:7 any more; a reload opens it again",
    ]


def test_there_are_not_too_many_reasons() -> None:
    found = reasons(*(Endpoint(f"e{number}", paused=True) for number in range(10_000)))
    assert len(found) == MOST_REASONS + 1
    assert found[-1] == "and 9,980 more"
