"""A running suite owns its connections from accept: before their header, in their handshake, and dead."""

from __future__ import annotations

import signal
import socket
import ssl
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trustme

from tests.namespaces import command, lossy_cable
from tests.running import ON_RING, RunningSuite, TLSClient, read_to_end, running, running_on, wait_until

TLS = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"

PROXY_LINE = b"PROXY TCP4 198.51.100.1 192.0.2.2 40000 443\r\n"

MIB = 2**20

#: One endpoint of each kind behind a PROXY header, for two connections each.
BEHIND_HEADERS = f"""
[limits]
connections = 2
[endpoints]
tcp = "haproxy:tcp:0"
tls = "haproxy:{TLS}"
unix = "haproxy:unix:echo.sock"
"""

KINDS = ("tcp", "tls", "unix")


@pytest.fixture(params=["echo-engine", ON_RING, "asyncio"])
def behind_headers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningSuite]:
    with running_on(request.param, tmp_path, BEHIND_HEADERS) as suite:
        suite.asked_for.append('"reason": "connections"')
        yield suite


def answer(suite: RunningSuite, kind: str, sock: socket.socket) -> bytes:
    """What comes back for a header and a word on *sock*, which has sent nothing yet."""
    try:
        sock.sendall(PROXY_LINE)
        if kind == "tls":
            client = TLSClient(sock, suite.client_context())
            client.sendall(b"hola")
            return client.recv(4)
        sock.sendall(b"hola")
        return sock.recv(4)
    except (ConnectionError, ssl.SSLError):
        return b""


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_are_admitted_as_the_limit_says_and_all_count_from_accept(
    behind_headers: RunningSuite, kind: str
) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(behind_headers.connect(kind)) for _ in range(2)]
        # Refused however many of the others have sent their header.
        assert answer(behind_headers, kind, stack.enter_context(behind_headers.connect(kind))) == b""
        assert [answer(behind_headers, kind, sock) for sock in silent] == [b"hola"] * 2
        assert answer(behind_headers, kind, stack.enter_context(behind_headers.connect(kind))) == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_header_on_its_way_is_waited_for_when_its_endpoint_goes(
    behind_headers: RunningSuite, number: signal.Signals
) -> None:
    """Shutdown and reload drain what is there; nothing of it outlives them."""
    suite = behind_headers
    with ExitStack() as stack:
        socks = {kind: stack.enter_context(suite.connect(kind)) for kind in KINDS}
        silent = {kind: stack.enter_context(suite.connect(kind)) for kind in KINDS}
        # The third is refused, so that the first two have been accepted.
        for kind in KINDS:
            with suite.connect(kind) as third:
                assert answer(suite, kind, third) == b""
        if number == signal.SIGHUP:
            (suite.directory / "config.toml").write_text('[endpoints]\nother = "tcp:0"\n')
        suite.process.send_signal(number)
        answers = {kind: answer(suite, kind, sock) for kind, sock in socks.items()}
        assert answers == dict.fromkeys(KINDS, b"hola")
        for sock in (*socks.values(), *silent.values()):
            with suppress(ConnectionError):
                read_to_end(sock.recv)
    if number == signal.SIGTERM:
        assert suite.process.wait(60) == 0


# Health checks.


@pytest.mark.parametrize("reset", [False, True])
def test_a_health_check_that_connects_and_leaves_is_debug(tmp_path: Path, reset: bool) -> None:
    config = f'{BEHIND_HEADERS.replace("2", "1000", 1)}direct = "tcp:0"\ndirect_tls = "{TLS}"\n'
    kinds = ("tcp", "tls", "direct", "direct_tls")
    with running(tmp_path, config, "--log-level", "debug") as suite:
        for kind in kinds:
            for header in (b"", PROXY_LINE) if kind in KINDS else (b"",):
                with suite.connect(kind) as sock:
                    sock.sendall(header)
                    if reset:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: len(ends(suite)) == 6, "all have ended")
        assert {(event["level"], event["reason"]) for event in ends(suite)} <= {
            ("debug", "closed"),
            ("debug", "reset"),
        }
        if not reset:
            assert {event["reason"] for event in ends(suite)} == {"closed"}


def ends(suite: RunningSuite) -> list[dict[str, object]]:
    """The events of connections that have ended."""
    return [event for event in suite.events if "reason" in event]


def test_a_handshake_that_is_broken_off_is_told_in_words(tmp_path: Path) -> None:
    with running(tmp_path, f'[endpoints]\ntls = "{TLS}"\n') as suite:
        with suite.connect("tls") as sock:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        wait_until(lambda: bool(ends(suite)), "it has ended")
        (event,) = ends(suite)
        assert (event["level"], event["reason"]) == ("info", "tls")
        assert event["message"] == "closed: the peer closed the connection during the handshake"


# Handshakes.


@pytest.mark.parametrize("announced", [131_000, 65_536])
def test_unfinished_handshakes_do_not_fill_the_memory(tmp_path: Path, announced: int) -> None:
    """OpenSSL alone holds 131 KiB for each of them, 150 MiB for a thousand."""
    body = b"\x01" + announced.to_bytes(3, "big") + bytes(announced - 5000)
    hello = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (body[at : at + 16384] for at in range(0, len(body), 16384))
    )
    with running(tmp_path, f'[endpoints]\ntls = "{TLS}"\n') as suite, ExitStack() as stack:
        before = suite.memory()
        for _ in range(1000):
            sock = stack.enter_context(suite.connect("tls"))
            with suppress(ConnectionError):
                sock.sendall(hello)
        with suite.connect("tls") as sock:  # so all of them have been accepted
            client = TLSClient(sock, suite.client_context())
            client.sendall(b"hola")
            assert client.recv(4) == b"hola"
        assert suite.memory() - before < 40 * MIB


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_large_client_certificate_still_works_and_its_session_resumes(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    issued = authority.issue_cert(*(f"name-{number}.{'x' * 50}.example" for number in range(700)))
    config = f'[endpoints.tls]\nlisten = "{TLS}"\ntls = {{ client_ca = "clients.pem" }}\n'
    with running(tmp_path, config) as suite:
        context = suite.client_context(version)
        issued.configure_cert(context)
        assert len(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())) > 40_000
        session: ssl.SSLSession | None = None
        for resumed in (False, True):
            with (
                suite.connect("tls") as sock,
                context.wrap_socket(sock, server_hostname="localhost", session=session) as client,
            ):
                client.sendall(b"hola")
                assert client.recv(4) == b"hola"
                assert client.session_reused == resumed
                session = client.session


# Dead peers.


def test_a_peer_that_is_gone_without_a_word_is_noticed(tmp_path: Path) -> None:
    """Its packets are lost from some moment on, and it is owed an echo or not."""
    with lossy_cable(0) as (here, there):
        config = f"""
[limits]
keepalive = "1s"
stall = "2s"
idle = "none"
[endpoints]
tcp = "tcp:0:interface={here.address}"
tls = "{TLS}:interface={here.address}"
"""

        def unacknowledged() -> int:
            """The bytes that the suite has sent, of which its kernel has not heard that they arrived."""
            table = command(*here.inside("ss", "-tnH", "state", "established"))
            return sum(int(line.split()[1]) for line in table.splitlines())

        inside = here.inside(sys.executable, "-m", "suite")
        with (
            running(tmp_path, config, "--log-level", "debug", command=inside) as suite,
            ExitStack() as stack,
        ):
            streams: list[socket.socket | TLSClient] = []
            for kind in ("tcp", "tls", "tcp", "tls"):
                sock = stack.enter_context(there.socket(socket.SOCK_STREAM))
                sock.connect(suite.addresses[kind])
                stream = sock if kind == "tcp" else TLSClient(sock, suite.client_context())
                stream.sendall(b"hola")
                assert stream.recv(4) == b"hola"
                streams.append(stream)
            wait_until(lambda: unacknowledged() == 0, "all has arrived")
            command(*there.inside("iptables", "-I", "INPUT", "-j", "DROP"))
            for stream in streams[2:]:
                stream.sendall(b"mundo")
            wait_until(lambda: unacknowledged() >= 2 * 5, "the two are owed an echo")
            command(*there.inside("iptables", "-I", "OUTPUT", "-j", "DROP"))
            wait_until(lambda: len(ends(suite)) == 4, "all have ended")
            assert {event["reason"] for event in ends(suite)} <= {"reset", "stall"}
