"""A real HAProxy before the suite: echoes through it, with both versions of its header, and health checks."""

from __future__ import annotations

import csv
import io
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.running import (
    PATIENCE,
    RunningSuite,
    TLSClient,
    client_program,
    echo,
    running,
    wait_until,
)

MIB = 2**20

#: How many checks in a row must go well before a server that was down is up again. They follow each other
#: quickly then; `inter`, what is else between them, is also how long one of them may take to connect.
RISE = 10

SERVED = """
[endpoints]
tcp = "haproxy:tcp:0"
tls = "haproxy:ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "haproxy:unix:echo.sock"
"""

HEADERS = {"v1": "send-proxy", "v2": "send-proxy-v2", "v2-additions": "send-proxy-v2 proxy-v2-options crc32c"}
ENDPOINTS = ("tcp", "tls", "unix")

PROXY = """
global
    stats socket unix@{directory}/admin.sock level admin
    maxconn 1000

defaults
    mode tcp
    timeout connect 30s
    timeout client 60s
    timeout server 60s
    timeout check 30s
    default-server inter 2s fastinter 20ms downinter 20ms rise {rise} fall 1
"""

#: One way through it: what it accepts is passed on as it is, TLS or not.
WAY = """
frontend {name}
    bind fd@{fileno}
    default_backend {name}

backend {name}
    server it {address} {header}
"""

#: Servers that are only checked, on HAProxy's own account, for which it says PROXY UNKNOWN, or LOCAL: whether
#: they can be connected to, over TLS if it is theirs; whether what is sent comes back.
CHECKS = """
backend {name}-connect
    server it {address} {header} check {check}

backend {name}-echo
    option tcp-check
    tcp-check connect default
    tcp-check send hola\\ mundo
    tcp-check expect rstring ^hola\\ mundo$
    server it {address} {header} check {check}
"""


CHECK_TLS = "check-ssl verify required ca-file certs/ca.pem verifyhost localhost check-sni localhost"


class HAProxy:
    """HAProxy in front of a suite, from when it is ready.

    :ivar addresses: where it listens for each way, by the names of the endpoint and of the header.
    """

    def __init__(self, suite: RunningSuite, headers: dict[str, str]) -> None:
        self.directory = suite.directory
        self.addresses: dict[tuple[str, str], tuple[str, int]] = {}
        config = PROXY.format(directory=self.directory, rise=RISE)
        with ExitStack() as listening:
            filenos = []
            for endpoint in ENDPOINTS:
                address = suite.addresses[endpoint]
                for version, header in headers.items():
                    sock = listening.enter_context(socket.create_server(("127.0.0.1", 0)))
                    filenos.append(sock.fileno())
                    self.addresses[endpoint, version] = sock.getsockname()
                    for template in (WAY, CHECKS):
                        config += template.format(
                            name=f"{endpoint}-{version}",
                            fileno=sock.fileno(),
                            address=address if endpoint == "unix" else ":".join(map(str, address)),
                            header=header,
                            check=CHECK_TLS if endpoint == "tls" else "",
                        )
            (self.directory / "haproxy.cfg").write_text(config)
            self._errors = (self.directory / "haproxy.log").open("w+")
            self.process = subprocess.Popen(
                [client_program("haproxy"), "-db", "-f", "haproxy.cfg"],
                cwd=self.directory,
                pass_fds=filenos,
                stdout=self._errors,
                stderr=self._errors,
            )

    def command(self, line: str) -> str:
        """The answer to *line* on its administrator's socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.directory / "admin.sock"))
            sock.sendall(line.encode() + b"\n")
            return sock.makefile(encoding="utf-8").read()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.said()
        try:
            self.command("show info")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def checked(self) -> dict[str, dict[str, str]]:
        """What it knows of the servers that it checks, by the name of their backend."""
        table = csv.DictReader(io.StringIO(self.command("show stat").removeprefix("# ")))
        return {row["pxname"]: row for row in table if row["svname"] == "it" and row["check_status"]}

    def said(self) -> str:
        self._errors.flush()
        self._errors.seek(0)
        return self._errors.read()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self._errors.close()


@contextmanager
def haproxy(suite: RunningSuite, headers: dict[str, str] = HEADERS) -> Iterator[HAProxy]:
    """An `HAProxy`, as long as it is needed."""
    proxy = HAProxy(suite, headers)
    try:
        wait_until(proxy.is_ready, "HAProxy was ready")
        yield proxy
    finally:
        proxy.stop()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    client_program("haproxy")
    with running(tmp_path_factory.mktemp("h"), SERVED) as suite:
        yield suite


@pytest.fixture(scope="module")
def proxy(suite: RunningSuite) -> Iterator[HAProxy]:
    with haproxy(suite) as proxy:
        yield proxy


WAYS = [(endpoint, version) for endpoint in ENDPOINTS for version in HEADERS]


@pytest.mark.parametrize("size", [0, 17, 10 * MIB])
@pytest.mark.parametrize(("endpoint", "version"), WAYS)
def test_every_byte_comes_back_through_it(
    proxy: HAProxy, suite: RunningSuite, endpoint: str, version: str, size: int
) -> None:
    data = os.urandom(size)
    with socket.create_connection(proxy.addresses[endpoint, version], PATIENCE) as sock:
        if endpoint == "tls":
            client = TLSClient(sock, suite.client_context())
            assert echo(client, data, client.close_notify_and_fin) == data  # type: ignore[arg-type]  # alike enough
            assert client.end == "close_notify"
        else:
            assert echo(sock, data, lambda: sock.shutdown(socket.SHUT_WR)) == data


@pytest.mark.parametrize("version", HEADERS)
def test_the_client_is_known_by_its_own_address(proxy: HAProxy, suite: RunningSuite, version: str) -> None:
    """Seen in what is logged about one that ends TLS badly."""
    with socket.create_connection(proxy.addresses["tls", version], PATIENCE, ("127.0.0.2", 0)) as sock:
        port = sock.getsockname()[1]
        client = TLSClient(sock, suite.client_context())
        assert echo(client, b"hola", client.fin) == b"hola"  # type: ignore[arg-type]
    named = f"127.0.0.2:{port}"
    wait_until(lambda: any(event.get("peer") == named for event in suite.events), "the client was named")


def test_its_health_checks_find_the_suite_well_and_are_no_errors(proxy: HAProxy, suite: RunningSuite) -> None:
    before = len(suite.events)
    checked = proxy.checked()
    assert len(checked) == 2 * len(WAYS)
    for name in checked:
        assert proxy.command(f"set server {name}/it health down") == "\n"
    # Each is up again after ten checks in a row that have found it well.
    wait_until(
        lambda: all(server["status"] == "UP" for server in proxy.checked().values()), "all were up again"
    )
    for name, server in proxy.checked().items():
        expected = "L7OK" if name.endswith("-echo") else "L6OK" if name.startswith("tls") else "L4OK"
        assert server["check_status"].removeprefix("* ") == expected
    # It ends a check with a reset, and was once seen to do so with FIN. Neither brings close_notify: of a
    # check over TLS that has sent something, FIN is said to be an end before its time.
    fin = ("tls", "truncated", len("hola mundo"))
    said = [
        (event.get("endpoint"), event.get("reason"), event.get("received")) for event in suite.events[before:]
    ]
    assert [each for each in said if each != fin] == []


def test_the_same_checks_without_a_header_find_that_it_does_not_answer(tmp_path: Path) -> None:
    client_program("haproxy")
    with running(tmp_path, SERVED) as suite, haproxy(suite, {"none": ""}) as proxy:
        wait_until(
            lambda: all(
                it["status"] == "DOWN" for name, it in proxy.checked().items() if name.endswith("-echo")
            ),
            "all were down",
        )
    assert any("refused: no PROXY header" in line for line in suite.errors)
