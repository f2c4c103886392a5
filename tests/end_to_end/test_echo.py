"""``python -m suite`` as users run it, on every reactor, seen through the standard library's clients."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import socket
import ssl
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.running import (
    FOUR_TRANSPORTS,
    ON_RING,
    ONE_LINE,
    REACTORS,
    RunningSuite,
    TLSClient,
    echo,
    read_to_end,
    run_suite,
    running,
    running_on,
    states_of,
    wait_until,
)

MIB = 2**20
STREAMS = ("tcp", "unix", "tls")
TLS_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

IPV6 = """
tcp6 = "tcp6:0"
udp6 = "udp6:0"
"""


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="module", params=[*REACTORS, ON_RING])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    """The four transports on each reactor."""
    config = FOUR_TRANSPORTS + (IPV6 if has_ipv6() else "")
    with running_on(request.param, tmp_path_factory.mktemp("suite"), config) as suite:
        yield suite


def echo_through(suite: RunningSuite, endpoint: str, data: bytes) -> bytes:
    """The echo of *data* over a stream, half-closed as its kind should be."""
    with suite.connect(endpoint) as sock:
        if endpoint == "tls":
            client = TLSClient(sock, suite.client_context())
            return echo(client, data, client.close_notify_and_fin)  # type: ignore[arg-type]  # alike enough
        return echo(sock, data, lambda: sock.shutdown(socket.SHUT_WR))


# 1. Exactness.


@pytest.mark.parametrize("size", [0, 1, 17, 16385, MIB])
@pytest.mark.parametrize("endpoint", STREAMS)
def test_every_byte_comes_back(suite: RunningSuite, endpoint: str, size: int) -> None:
    data = os.urandom(size)
    assert echo_through(suite, endpoint, data) == data


def test_all_256_byte_values_come_back(suite: RunningSuite) -> None:
    data = bytes(range(256)) * 3
    for endpoint in STREAMS:
        assert echo_through(suite, endpoint, data) == data


@pytest.mark.parametrize("endpoint", STREAMS)
def test_100_mib_come_back(tmp_path: Path, endpoint: str) -> None:
    data = os.urandom(MIB) * 100
    with running(tmp_path, FOUR_TRANSPORTS) as suite:
        assert echo_through(suite, endpoint, data) == data


@pytest.mark.parametrize("size", [0, 1, 1472, 8193, 65507])
@pytest.mark.parametrize("endpoint", ["udp", "udp6"])
def test_every_datagram_comes_back_whole(suite: RunningSuite, endpoint: str, size: int) -> None:
    if endpoint not in suite.addresses:
        pytest.skip("this host has no IPv6")
    data = os.urandom(size)
    with suite.connect(endpoint) as sock:
        sock.send(data)
        assert sock.recv(65535) == data


def test_tcp_over_ipv6_echoes(suite: RunningSuite) -> None:
    if "tcp6" not in suite.addresses:
        pytest.skip("this host has no IPv6")
    assert echo_through(suite, "tcp6", b"hola") == b"hola"


# 2. Half-close.


@pytest.mark.parametrize("late", [False, True], ids=["eager", "late"])
@pytest.mark.parametrize("size", [2, 17, 10 * MIB])
@pytest.mark.parametrize("endpoint", ["tcp", "unix"])
def test_half_close_gets_the_whole_echo_then_the_end(
    suite: RunningSuite, endpoint: str, size: int, *, late: bool
) -> None:
    data = os.urandom(size)
    with suite.connect(endpoint) as sock:
        assert echo(sock, data, lambda: sock.shutdown(socket.SHUT_WR), late=late) == data


@pytest.mark.parametrize("late", [False, True], ids=["eager", "late"])
@pytest.mark.parametrize("size", [2, 17, 10 * MIB])
@pytest.mark.parametrize("how", ["close_notify", "close_notify_and_fin", "fin"])
@pytest.mark.parametrize("version", TLS_VERSIONS, ids=lambda version: version.name)
def test_tls_half_close_gets_the_whole_echo_then_close_notify_then_fin(
    suite: RunningSuite, version: ssl.TLSVersion, how: str, size: int, *, late: bool
) -> None:
    data = os.urandom(size)
    with suite.connect("tls") as sock:
        client = TLSClient(sock, suite.client_context(version))
        assert echo(client, data, getattr(client, how), late=late) == data  # type: ignore[arg-type]
        assert client.end == "close_notify"
        assert sock.recv(1) == b""


def test_a_reader_of_a_few_bytes_at_a_time_gets_everything(suite: RunningSuite) -> None:
    data = os.urandom(MIB)
    for endpoint in ("tcp", "unix"):
        with suite.connect(endpoint) as sock:
            end = sock.shutdown
            assert echo(sock, data, lambda end=end: end(socket.SHUT_WR), read_size=999) == data  # type: ignore[misc]


@pytest.mark.parametrize("readers", [200, pytest.param(2000, marks=pytest.mark.stress)])
def test_slow_readers_that_end_leave_nothing_behind(suite: RunningSuite, readers: int) -> None:
    """The server is in the middle of its reply, and paused, when each of them ends."""
    context = suite.client_context()
    host, port = suite.addresses["tls"]
    closed = {"0A", "06"}  # LISTEN, and TIME_WAIT
    assert echo_through(suite, "tls", b"hola") == b"hola"  # what a suite opens once is open now
    wait_until(lambda: states_of(port).keys() <= closed, "that connection is closed")
    before = suite.descriptors()
    filler = os.urandom(MIB)
    for number in range(readers):
        with suite.connect("tls") as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client = TLSClient(sock, context)
            sock.settimeout(0)
            try:
                client.sendall(filler[: 256 * 1024])
            except BlockingIOError:
                pass  # part of a record is on its way: for the server this client is cut off
            else:
                if number % 2:
                    client.close_notify_and_fin()
    wait_until(lambda: suite.descriptors() <= before, "all connections were closed")
    assert states_of(port).keys() <= closed
    assert echo_through(suite, "tls", b"still here") == b"still here"
    assert host == "127.0.0.1"


# 3. Memory.


@pytest.mark.parametrize("endpoint", STREAMS)
def test_a_client_that_never_reads_costs_less_than_a_mebibyte(suite: RunningSuite, endpoint: str) -> None:
    assert echo_through(suite, endpoint, os.urandom(4 * MIB))  # what is allocated once, is allocated now
    before = suite.memory()
    chunk = os.urandom(MIB)
    with suite.connect(endpoint) as sock:
        client = TLSClient(sock, suite.client_context()) if endpoint == "tls" else sock
        sock.settimeout(0.3)  # not served for so long: not read any more
        sent = 0
        try:
            while sent < 500 * MIB:
                client.sendall(chunk)
                sent += len(chunk)
        except TimeoutError:
            pass
        assert sent < 100 * MIB, "somebody keeps it all"
        assert suite.memory() - before < MIB


# 4. Connecting.


def test_2000_connects_at_once_are_all_queued(tmp_path: Path) -> None:
    """Even while the server does nothing at all, no connect has to be repeated."""
    if int(Path("/proc/sys/net/core/somaxconn").read_text()) < 2000:
        pytest.skip("net.core.somaxconn cuts the queue off")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("not so many descriptors may be opened here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))  # for the server as well
    with running(tmp_path, '[endpoints]\ntcp = "tcp:0"') as suite:
        suite.process.send_signal(signal.SIGSTOP)
        clients = [socket.socket() for _ in range(2000)]
        try:
            poller = select.poll()
            for client in clients:
                client.setblocking(False)
                client.connect_ex(suite.addresses["tcp"])
                poller.register(client, select.POLLOUT)
            # Connecting over loopback is done when connect returns, unless the queue was full.
            assert len(poller.poll(0)) == 2000
            assert not any(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for client in clients)
        finally:
            suite.process.send_signal(signal.SIGCONT)
            for client in clients:
                client.close()


# 5. UNIX sockets.

UNIX = '[endpoints]\nunix = "unix:echo.sock"'


def test_a_socket_is_for_owner_and_group_and_is_removed_at_the_end(tmp_path: Path) -> None:
    with running(tmp_path, UNIX):
        assert stat.S_IMODE(os.stat(tmp_path / "echo.sock").st_mode) == 0o660
        assert sorted(os.listdir(tmp_path)) == ["config.toml", "echo.sock", "echo.sock.lock"]
    assert os.listdir(tmp_path) == ["config.toml"]


def test_what_kill_9_leaves_prevents_no_start(tmp_path: Path) -> None:
    killed = RunningSuite(tmp_path, UNIX)
    killed.stop(signal.SIGKILL)
    assert (tmp_path / "echo.sock").is_socket()
    with running(tmp_path, UNIX) as suite:
        assert echo_through(suite, "unix", b"again") == b"again"


def test_a_lock_that_names_a_living_pid_prevents_no_start(tmp_path: Path) -> None:
    RunningSuite(tmp_path, UNIX).stop(signal.SIGKILL)
    (tmp_path / "echo.sock.lock").unlink()
    (tmp_path / "echo.sock.lock").symlink_to(str(os.getpid()))  # as Twisted's own lock would be
    with running(tmp_path, UNIX) as suite:
        assert echo_through(suite, "unix", b"again") == b"again"


def test_a_socket_that_is_served_is_not_taken_over(tmp_path: Path) -> None:
    with running(tmp_path, UNIX) as suite:
        second = run_suite(tmp_path, "--config", "config.toml", says=ONE_LINE)
        assert second.returncode == 1
        assert "endpoints.unix: cannot listen on echo.sock" in second.stderr
        assert echo_through(suite, "unix", b"mine") == b"mine"


def test_a_socket_that_a_stranger_serves_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(UNIX)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(tmp_path / "echo.sock"))
        stranger.listen()
        refused = run_suite(tmp_path, "--config", "config.toml", says=ONE_LINE)
        assert refused.returncode == 1
        assert "a server is listening there" in refused.stderr
    assert sorted(os.listdir(tmp_path)) == ["config.toml", "echo.sock"]


def test_a_file_where_the_socket_should_be_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(UNIX)
    (tmp_path / "echo.sock").write_text("precious")
    refused = run_suite(tmp_path, "--config", "config.toml", says=ONE_LINE)
    assert refused.returncode == 1
    assert refused.stderr == ("endpoints.unix: cannot listen on echo.sock: it exists and is not a socket\n")
    assert (tmp_path / "echo.sock").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["config.toml", "echo.sock"]


# 6. UDP.


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to send from a system port")
def test_datagrams_from_system_ports_are_not_answered(suite: RunningSuite) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as system, suite.connect("udp") as ordinary:
        system.bind(("127.0.0.1", 1023))
        system.sendto(b"from below", suite.addresses["udp"])
        # They are answered in order: when the second is answered, the first will never be.
        ordinary.send(b"from above")
        assert ordinary.recv(100) == b"from above"
        system.settimeout(0)
        with pytest.raises(BlockingIOError):
            system.recv(100)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to forge a source address")
def test_a_forged_datagram_from_itself_starts_no_loop(suite: RunningSuite) -> None:
    host, port = suite.addresses["udp"]
    payload = b"round and round"
    header = struct.pack("!HHHH", port, port, 8 + len(payload), 0)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw,
        suite.connect("udp") as ordinary,
    ):

        def sent_meanwhile() -> int:
            before = datagrams_sent()
            for _ in range(50):
                ordinary.send(b"how many now?")
                ordinary.recv(100)
            return datagrams_sent() - before

        raw.sendto(header + payload, (host, 0))
        # Each question and answer is two. Others on this host may send, but not for ever, as a loop would.
        wait_until(lambda: sent_meanwhile() < 200, "nobody but this test sends")


def datagrams_sent() -> int:
    """How many UDP datagrams this host has sent."""
    names, values = (
        line.split()[1:]
        for line in Path("/proc/net/snmp").read_text().splitlines()
        if line.startswith("Udp:")
    )
    return int(values[names.index("OutDatagrams")])


# 8. Beginning and end.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_nothing_is_left(tmp_path: Path, number: signal.Signals) -> None:
    suite = RunningSuite(tmp_path, FOUR_TRANSPORTS)
    port = suite.addresses["tcp"][1]
    assert suite.stop(number) == 0
    assert suite.errors == []
    assert "0A" not in states_of(port)
    assert not (tmp_path / "echo.sock").exists()
    assert not (tmp_path / "echo.sock.lock").exists()


@pytest.mark.parametrize("reactor", REACTORS)
@pytest.mark.parametrize("kind", ["tcp", "udp", "ssl"])
def test_a_port_in_use_ends_it_with_1_and_one_line(tmp_path: Path, kind: str, reactor: str) -> None:
    kind_of_socket = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind_of_socket) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind != "udp":
            taken.listen()
        port = taken.getsockname()[1]
        keys = ":privateKey=certs/server.key:certKey=certs/server.pem" if kind == "ssl" else ""
        (tmp_path / "config.toml").write_text(
            f'[endpoints]\nfirst = "unix:echo.sock"\nsecond = "{kind}:{port}{keys}"'
        )
        result = run_suite(tmp_path, "--config", "config.toml", "--reactor", reactor, says=ONE_LINE)
    assert result.returncode == 1
    assert result.stderr == (f"endpoints.second: cannot listen on 127.0.0.1:{port}: Address already in use\n")
    assert "ready" not in result.stdout
    assert not (tmp_path / "echo.sock").exists()


def test_it_says_where_it_listens_and_what_to_try(suite: RunningSuite) -> None:
    host, port = suite.addresses["tcp"]
    assert port != 0
    assert f"tcp          TCP   {host}:{port}" in suite.lines
    netcat = f"nc -N {host} {port}"
    connect = f"-m suite connect tcp:{host}:{port}"
    assert suite.lines[-1].startswith("ready; try: echo 'hola mundo...' | ")
    assert suite.lines[-1].endswith(netcat if shutil.which("nc") else connect)
    assert suite.lines[0].startswith("made development certificates: certs/ca.pem ")


def test_a_reader_of_its_output_may_go_away(tmp_path: Path) -> None:
    suite = RunningSuite(tmp_path, UNIX)
    assert suite.process.stdout is not None
    assert echo_through(suite, "unix", b"hola") == b"hola"
    assert suite.stop() == 0
    assert not suite.complaints()


def test_bare_fin_is_logged_as_truncated_and_close_notify_is_not(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite:
        ports = {}
        for how in ("fin", "close_notify_and_fin"):
            with suite.connect("tls") as sock:
                client = TLSClient(sock, suite.client_context())
                ports[how] = sock.getsockname()[1]
                echo(client, b"hola", getattr(client, how))  # type: ignore[arg-type]
    (truncated,) = [event for event in suite.events if event.get("reason") == "truncated"]
    assert truncated["peer"] == f"127.0.0.1:{ports['fin']}"
    assert (truncated["endpoint"], truncated["received"], truncated["message"]) == ("tls", 4, "closed")


def test_plain_text_on_a_tls_port_sees_an_end_and_not_a_reset(suite: RunningSuite) -> None:
    """OpenSSL reads only what a record header needs; closing with the rest unread would be a RST."""
    with suite.connect("tls") as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n" * 20)
        read_to_end(sock.recv)


def test_a_broken_handshake_is_answered_by_an_alert(suite: RunningSuite) -> None:
    with suite.connect("tls") as sock:
        sock.sendall(b"\x16\x03\x01\x00\x05" + b"\x01\x00\x00\x01\x00" + b"unread" * 100)
        answer = read_to_end(sock.recv)
    assert answer[:1] == b"\x15", "an alert record"
    assert answer[5:6] == b"\x02", "a fatal one"


PROXY_HEADERS = {
    "version 1": b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n",
    "version 1, unknown": b"PROXY UNKNOWN\r\n",
    "version 2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 3, 192, 0, 2, 4, 0, 5, 0, 6]),
    "version 2, local": b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
}


@pytest.fixture(scope="module", params=("echo-engine", "select"))
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSuite]:
    """The streams behind a proxy."""
    config = FOUR_TRANSPORTS
    for kind in ("tcp", "ssl", "unix"):
        config = config.replace(f'"{kind}:', f'"haproxy:{kind}:')
    with running_on(request.param, tmp_path_factory.mktemp("suite"), config) as suite:
        yield suite


@pytest.mark.parametrize("pieces", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("header", PROXY_HEADERS)
@pytest.mark.parametrize("endpoint", STREAMS)
def test_a_proxy_header_comes_before_all_else(
    behind: RunningSuite, endpoint: str, header: str, *, pieces: bool
) -> None:
    content = PROXY_HEADERS[header]
    with behind.connect(endpoint) as sock:
        if endpoint != "unix":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in [content[i : i + 1] for i in range(len(content))] if pieces else [content]:
            sock.sendall(piece)
        if endpoint == "tls":
            client = TLSClient(sock, behind.client_context())
            assert echo(client, b"hola", client.fin) == b"hola"  # type: ignore[arg-type]
        else:
            assert echo(sock, b"hola", lambda: sock.shutdown(socket.SHUT_WR)) == b"hola"
    if endpoint == "tls" and header == "version 2":
        named = '"peer": "192.0.2.3:5", "reason": "truncated"'
        wait_until(lambda: any(named in line for line in behind.errors), "the client was named")


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 x y\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        b"\r\n\r\n\0\r\nQUIT\n\x99\x11\0\0",
    ],
)
@pytest.mark.parametrize("endpoint", STREAMS)
def test_what_is_no_proxy_header_ends_the_connection(
    behind: RunningSuite, endpoint: str, wrong: bytes
) -> None:
    with behind.connect(endpoint) as sock:
        sock.sendall(wrong)
        with suppress(ConnectionResetError):
            assert read_to_end(sock.recv) == b""


def test_a_session_resumes(suite: RunningSuite) -> None:
    for version in TLS_VERSIONS:
        context = suite.client_context(version)
        session: ssl.SSLSession | None = None
        for attempt in range(2):
            raw = suite.connect("tls")
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
                sock.sendall(b"hola")
                assert sock.recv(100) == b"hola"
                assert sock.session_reused == bool(attempt)
                session = sock.session
