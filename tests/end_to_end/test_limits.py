"""The limits of a running suite, as peers meet them."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tlslite.api import TLSConnection
from tlslite.constants import KeyUpdateMessageType
from tlslite.errors import TLSAbruptCloseError, TLSRemoteAlert
from tlslite.messages import ApplicationData

from suite.engine.linux.mmsg import UDP_SEGMENT
from tests.running import (
    ON_RING,
    RunningSuite,
    TLSClient,
    client_program,
    echo,
    read_to_end,
    running,
    running_on,
    wait_until,
)

TLS = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"

#: The name of an abstract UNIX socket.
ABSTRACT = f"echo-suite-limits-{os.getpid()}"

#: One endpoint for each limit, so that one suite will do.
CONFIG = f"""
[endpoints.few]
listen = "tcp:0"
limits = {{ connections = 2 }}
[endpoints.share]
listen = "tcp6:0:interface=\\\\:\\\\:"
limits = {{ per_peer = 2 }}
[endpoints.share_tls]
listen = "{TLS}"
limits = {{ per_peer = 2 }}
[endpoints.denied]
listen = "tcp:0"
limits = {{ deny = ["127.0.0.0/8"] }}
[endpoints.mapped]
listen = "tcp6:0:interface=\\\\:\\\\:"
limits = {{ deny = ["127.0.0.1"] }}
[endpoints.allowed]
listen = "tcp:0"
limits = {{ allow = ["127.0.0.1/32", "2001:db8::/32"] }}
[endpoints.handshake]
listen = "{TLS}"
limits = {{ handshake = "1s", idle = "60s" }}
[endpoints.idle]
listen = "tcp:0"
limits = {{ idle = "1s" }}
[endpoints.idle_tls]
listen = "{TLS}"
limits = {{ idle = "1s" }}
[endpoints.idle_unix]
listen = "unix:idle.sock"
limits = {{ idle = "1s" }}
[endpoints.stall]
listen = "tcp:0"
limits = {{ stall = "1s" }}
[endpoints.stall_tls]
listen = "{TLS}"
limits = {{ stall = "1s" }}
[endpoints.half_close]
listen = "tcp:0"
limits = {{ half_close = "1s", bytes = "2B" }}
[endpoints.lifetime]
listen = "tcp:0"
limits = {{ lifetime = "1s" }}
[endpoints.measured]
listen = "tcp:0"
limits = {{ bytes = "100KiB" }}
[endpoints.measured_tls]
listen = "{TLS}"
limits = {{ bytes = "100KiB" }}
[endpoints.users]
listen = "unix:users.sock:mode=666"
limits = {{ users = ["{os.getuid()}"] }}
[endpoints.others]
listen = "unix:others.sock:mode=666"
limits = {{ users = ["4711"], groups = ["4712"] }}
[endpoints.abstract]
listen = "unix:\\u0000{ABSTRACT}"
limits = {{ users = ["4711"], groups = ["4712"] }}
[endpoints.udp]
listen = "udp:0"
limits = {{ rate = 10, burst = 5, rate_exempt = [] }}
[endpoints.header]
listen = "haproxy:tcp:0"
[endpoints.header_tls]
listen = "haproxy:{TLS}"
[endpoints.stranger]
listen = "haproxy:tcp:0"
limits = {{ proxy_from = ["192.0.2.0/24"] }}
[endpoints.stranger_tls]
listen = "haproxy:{TLS}"
limits = {{ proxy_from = ["192.0.2.0/24"] }}
[endpoints.proxied]
listen = "haproxy:tcp:0"
limits = {{ deny = ["192.0.2.0/24"], per_peer = 1 }}
[endpoints.proxied_tls]
listen = "haproxy:{TLS}"
limits = {{ deny = ["192.0.2.0/24"], per_peer = 1 }}
[endpoints.udp_denied]
listen = "udp:0"
limits = {{ deny = ["127.0.0.0/8"] }}
"""


@pytest.fixture(scope="module", params=["echo-engine", ON_RING, "poll"])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running_on(request.param, tmp_path_factory.mktemp("limits"), CONFIG) as suite:
        suite.asked_for.append('"endpoint": "few"')  # the one that refuses connections by their number
        yield suite


def is_served(sock: socket.socket) -> bool:
    """Whether bytes come back."""
    try:
        sock.sendall(b"hola")
        return sock.recv(4) == b"hola"
    except ConnectionError:
        return False


def ended(sock: socket.socket, since: float = 0.0, *, data: bool = False) -> float:
    """Wait until the suite ends the connection, for `PATIENCE`; return the seconds from *since* on."""
    with suppress(ConnectionError):
        while received := sock.recv(65536):
            assert data, received
    return time.monotonic() - since


# Whom it admits.


def test_connections_over_the_limit_are_refused_and_the_place_of_one_that_leaves_is_free(
    suite: RunningSuite,
) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(suite.connect("few")) for _ in range(2))
        assert is_served(first)
        assert is_served(second)
        with suite.connect("few") as third:
            assert not is_served(third)
        first.close()

        def there_is_room() -> bool:
            with suite.connect("few") as sock:
                return is_served(sock)

        wait_until(there_is_room, "there is room again")


def test_a_peer_has_its_share_by_whichever_family_it_comes(suite: RunningSuite) -> None:
    port = suite.addresses["share"][1]
    with (
        socket.create_connection(("127.0.0.1", port), 60) as first,
        socket.create_connection(("127.0.0.1", port), 60) as second,
        socket.create_connection(("127.0.0.1", port), 60) as third,
        socket.create_connection(("::1", port), 60) as other,
    ):
        assert [is_served(sock) for sock in (first, second, third, other)] == [True, True, False, True]


def test_a_peer_has_its_share_of_tls_too(suite: RunningSuite) -> None:
    with suite.connect("share_tls") as first, suite.connect("share_tls") as second:
        for sock in (first, second):
            TLSClient(sock, suite.client_context())
        with suite.connect("share_tls") as third:
            ended(third)
    wait_until(
        lambda: any((e.get("endpoint"), e.get("reason")) == ("share_tls", "per-peer") for e in suite.events),
        "it says so",
    )


@pytest.mark.parametrize(("endpoint", "served"), [("denied", False), ("allowed", True)])
def test_networks_are_allowed_and_denied(suite: RunningSuite, endpoint: str, served: bool) -> None:
    with suite.connect(endpoint) as sock:
        assert is_served(sock) is served


def test_a_rule_for_ipv4_holds_where_the_address_is_mapped_into_ipv6(suite: RunningSuite) -> None:
    port = suite.addresses["mapped"][1]
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        assert not is_served(sock)
    with socket.create_connection(("::1", port), 60) as sock:
        assert is_served(sock)


@pytest.mark.parametrize(("endpoint", "served"), [("users", True), ("others", False)])
def test_a_unix_socket_is_for_those_it_names(suite: RunningSuite, endpoint: str, served: bool) -> None:
    with suite.connect(endpoint) as sock:
        assert is_served(sock) is served


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user for once")
@pytest.mark.parametrize(("user", "group", "served"), [(4711, 1, True), (1, 4712, True), (1, 1, False)])
def test_others_are_known_by_the_kernels_word(
    suite: RunningSuite, user: int, group: int, served: bool
) -> None:
    """Over a socket without a path: the way to the others is for root alone."""
    client = subprocess.run(
        [client_program("socat"), "-t", "30", "-", f"ABSTRACT-CONNECT:{ABSTRACT}"],
        input=b"hola",
        capture_output=True,
        timeout=60,
        check=False,
        user=user,
        group=group,
        extra_groups=[],
    )
    assert (client.stdout == b"hola") is served


# How long they may stay: at least so long. How late a limit may take effect is tested where the clock is a
# stand-in (tests/guard); here, this machine may be late itself.


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "halfway"])
def test_a_handshake_has_a_second(suite: RunningSuite, start: bytes) -> None:
    began = time.monotonic()
    with suite.connect("handshake") as sock:
        sock.sendall(start)
        assert ended(sock, began) > 0.9


def test_who_has_shaken_hands_in_time_may_stay(suite: RunningSuite) -> None:
    with suite.connect("handshake") as sock:
        client = TLSClient(sock, suite.client_context())
        time.sleep(2)  # what is waited for is that nothing happens
        client.sendall(b"hola")
        assert client.recv(4) == b"hola"


@pytest.mark.parametrize("endpoint", ["idle", "idle_unix"])
def test_an_idle_connection_ends(suite: RunningSuite, endpoint: str) -> None:
    began = time.monotonic()
    with suite.connect(endpoint) as sock:
        assert is_served(sock)
        assert ended(sock, began) > 0.9


def test_an_idle_connection_over_tls_ends_as_it_should(suite: RunningSuite) -> None:
    with suite.connect("idle_tls") as sock:
        client = TLSClient(sock, suite.client_context())
        client.sendall(b"hola")
        assert read_to_end(client.recv) == b"hola"
        assert client.end == "close_notify"


def test_who_sends_now_and_then_is_not_idle(suite: RunningSuite) -> None:
    with suite.connect("idle") as sock:
        for _ in range(6):
            time.sleep(0.4)  # this client's pace
            assert is_served(sock)


@pytest.mark.parametrize("endpoint", ["stall", "stall_tls"])
def test_who_takes_nothing_is_cut_off(suite: RunningSuite, endpoint: str) -> None:
    with suite.connect(endpoint) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        send = sock.send if endpoint == "stall" else None
        if send is None:
            client = TLSClient(sock, suite.client_context())
        sock.settimeout(1)
        with pytest.raises(ConnectionError):  # noqa: PT012  # sending is what goes wrong, sooner or later
            start = time.monotonic()
            while time.monotonic() - start < 60:
                try:
                    if send is not None:
                        send(bytes(65536))
                    else:
                        client.sendall(bytes(65536))
                except TimeoutError:
                    continue


def test_a_slow_reader_that_takes_something_is_not_cut_off(suite: RunningSuite) -> None:
    data = os.urandom(2**18)
    with suite.connect("stall") as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def slow(size: int) -> bytes:
            time.sleep(0.002)  # this client's pace: it takes longer than the limit altogether
            return sock.recv(min(size, 4096))

        received: list[bytes] = []
        sock.setblocking(False)
        sent = 0
        while sum(map(len, received)) < len(data):
            _, writable, _ = select.select([], [sock] if sent < len(data) else [], [], 0)
            if writable:
                sent += sock.send(data[sent : sent + 65536])
            with suppress(BlockingIOError):
                received.append(slow(65536))
        assert b"".join(received) == data


def test_after_the_end_of_one_side_there_is_a_second_for_the_other(suite: RunningSuite) -> None:
    """Here it is the suite that ends its side first, after so many bytes, and the peer that does not."""
    start = time.monotonic()
    with suite.connect("half_close") as sock:
        sock.sendall(b"hola")
        assert read_to_end(sock.recv) == b"ho"
        with pytest.raises(ConnectionError):  # noqa: PT012  # sending is what goes wrong, sooner or later
            while time.monotonic() - start < 60:
                sock.sendall(b"x")
                time.sleep(0.05)  # this client's pace
        assert time.monotonic() - start > 0.9


def test_a_lifetime_ends_whoever_sends(suite: RunningSuite) -> None:
    start = time.monotonic()
    with suite.connect("lifetime") as sock:
        while is_served(sock):
            time.sleep(0.05)  # this client's pace
    assert time.monotonic() - start > 0.9


@pytest.mark.parametrize("size", [100 * 1024, 300 * 1024])
def test_so_many_bytes_come_back_and_then_the_end(suite: RunningSuite, size: int) -> None:
    data = os.urandom(size)
    with suite.connect("measured") as sock:
        assert echo(sock, data, lambda: sock.shutdown(socket.SHUT_WR)) == data[: 100 * 1024]
    with suite.connect("measured_tls") as sock:
        client = TLSClient(sock, suite.client_context())
        assert echo(client, data, client.close_notify_and_fin) == data[: 100 * 1024]  # type: ignore[arg-type]
        assert client.end == "close_notify"


# Behind a proxy.


@pytest.mark.parametrize("endpoint", ["stranger", "stranger_tls"])
def test_a_header_is_taken_only_from_those_it_may_come_from(suite: RunningSuite, endpoint: str) -> None:
    with suite.connect(endpoint) as sock:
        with suppress(ConnectionError):
            sock.sendall(b"PROXY TCP4 198.51.100.1 192.0.2.2 40000 443\r\nhola")
        ended(sock)
    wait_until(
        lambda: any(e.get("endpoint") == endpoint and e.get("reason") == "proxy" for e in suite.events),
        "it says so",
    )


def test_a_header_has_five_seconds(suite: RunningSuite) -> None:
    began = time.monotonic()
    with suite.connect("header") as plain, suite.connect("header_tls") as tls:
        for sock in (plain, tls):
            sock.sendall(b"PROXY TCP4 198.51.100.1")
        for sock in (plain, tls):
            assert ended(sock, began) > 4.5


@pytest.mark.parametrize("endpoint", ["proxied", "proxied_tls"])
def test_limits_are_about_the_client_and_not_about_its_proxy(suite: RunningSuite, endpoint: str) -> None:
    with ExitStack() as stack:

        def served(client: str) -> bool:
            sock = stack.enter_context(suite.connect(endpoint))
            try:
                sock.sendall(f"PROXY TCP4 {client} 203.0.113.1 40000 443\r\n".encode())
                if endpoint == "proxied":
                    return is_served(sock)
                stream = TLSClient(sock, suite.client_context())
                stream.sendall(b"hola")
                return stream.recv(4) == b"hola"
            except (ConnectionError, ssl.SSLError):
                return False

        clients = ("198.51.100.1", "198.51.100.1", "198.51.100.2", "192.0.2.1")
        assert [served(client) for client in clients] == [True, False, True, False]


# Datagrams.


def test_a_source_has_its_rate(suite: RunningSuite) -> None:
    with suite.connect("udp") as sock:
        for number in range(100):
            sock.send(bytes([number]))
        sock.settimeout(0.5)
        answers = []
        with suppress(TimeoutError):
            while True:
                answers.append(sock.recv(100))
    assert answers[:5] == [bytes([number]) for number in range(5)]
    assert len(answers) < 30


def test_a_denied_source_is_not_answered(suite: RunningSuite) -> None:
    with suite.connect("udp_denied") as sock:
        sock.send(b"hola")
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.recv(100)


# What is done for every connection.


@pytest.mark.parametrize("endpoint", ["few", "handshake"])
def test_a_keep_alive_is_set(suite: RunningSuite, endpoint: str) -> None:
    with suite.connect(endpoint) as sock:
        if endpoint == "few":
            assert is_served(sock)
        else:
            TLSClient(sock, suite.client_context())
        port = sock.getsockname()[1]

        def timers() -> str:
            command = [client_program("ss"), "-tnoH", "state", "established", "dport", "=", f":{port}"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

        wait_until(lambda: "timer:(keepalive" in timers(), "a timer runs")


FOUR = f"""
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
tls = "{TLS}"
unix = "unix:echo.sock"
"""


KEY_UPDATE = "a key update"


def chatter(suite: RunningSuite, *messages: str | bytes) -> bytes:
    """What comes back for a word after *messages*, over one TLS connection; bytes are records of data."""
    with suite.connect("tls") as sock:
        client = TLSConnection(sock)
        client.handshakeClientCert(serverName="localhost")
        try:
            for message in messages:
                if message == KEY_UPDATE:
                    steps = client.send_keyupdate_request(KeyUpdateMessageType.update_not_requested)
                else:
                    steps = client._sendMsg(ApplicationData().create(message), randomizeFirstBlock=False)
                for _ in steps:
                    pass
            client.write(b"hola")
            return bytes(client.read(4, 4))
        except (TLSRemoteAlert, TLSAbruptCloseError, OSError):
            return b""


@pytest.mark.parametrize("reactor", ["echo-engine", "epoll"])
def test_more_than_32_records_without_a_byte_end_the_connection(tmp_path: Path, reactor: str) -> None:
    with running(tmp_path, FOUR, "--reactor", reactor) as suite:
        assert chatter(suite, *[KEY_UPDATE] * 32) == b"hola"
        assert chatter(suite, *[b""] * 32) == b"hola"
        assert chatter(suite, *[KEY_UPDATE] * 33) == b""
        assert chatter(suite, *[b""] * 33) == b""
        assert chatter(suite, *[KEY_UPDATE] * 30, b"h", *[KEY_UPDATE] * 30) == b"hhol"


def test_out_of_descriptors_the_others_are_served_and_it_recovers(tmp_path: Path) -> None:
    with ExitStack() as stack:
        suite = stack.enter_context(
            running(
                tmp_path,
                FOUR,
                command=["bash", "-c", f'ulimit -n 64; exec {sys.executable} -m suite "$@"', "-"],
                asked_for=['"reason": "descriptors"'],
            )
        )
        one = stack.enter_context(suite.connect("tcp"))
        assert is_served(one)
        crowd = [stack.enter_context(suite.connect("tcp")) for _ in range(200)]
        refused = [sock for sock in crowd if not is_served(sock)]
        assert 100 < len(refused) < 200
        assert is_served(one)
        before = cpu_of(suite.process.pid)
        time.sleep(1)  # what is measured is this second
        assert cpu_of(suite.process.pid) - before < 0.3
        assert len(suite.errors) < 10
        assert any("descriptors" in line for line in suite.errors)
        for sock in crowd:
            sock.close()

        def served_again() -> bool:
            with suite.connect("tcp") as sock:
                return is_served(sock)

        wait_until(served_again, "it serves again")


def cpu_of(pid: int) -> float:
    """CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_takes_as_many_descriptors_as_it_may(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    command = ["bash", "-c", f'ulimit -Sn 64; exec {sys.executable} -m suite "$@"', "-"]
    with running(tmp_path, FOUR, command=command) as suite:
        limits = Path(f"/proc/{suite.process.pid}/limits").read_text()
        assert re.search(rf"Max open files +{hard} +{hard} ", limits)


def break_tls(suite: RunningSuite) -> None:
    """One of the ways in which a TLS client can be faulty."""
    with suite.connect("tls") as sock:
        match os.urandom(1)[0] % 4:
            case 0:
                sock.sendall(os.urandom(100))
                with suppress(OSError):  # where they begin like a record, some are not read
                    sock.shutdown(socket.SHUT_WR)
                    read_to_end(sock.recv)
            case 1:
                sock.sendall(b"\x16\x03\x01")
            case 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case 3:
                with suppress(ssl.SSLError):  # it trusts nobody
                    TLSClient(sock, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def break_tcp(suite: RunningSuite) -> None:
    """One of the ways in which a TCP client can be."""
    with suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        if os.urandom(1)[0] % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def churn(suite: RunningSuite, tcp: int, tls: int) -> None:
    """Faulty connections, one after the other; nothing of them may be left."""
    for _ in range(200):
        break_tcp(suite)
        break_tls(suite)
    wait_until(lambda: suite.descriptors() < 40, "all are closed")
    descriptors, memory = suite.descriptors(), suite.memory()
    for _ in range(tcp):
        break_tcp(suite)
    for _ in range(tls):
        break_tls(suite)
    wait_until(lambda: suite.descriptors() <= descriptors, "all are closed")
    assert suite.memory() < memory * 1.2 + 2 * 2**20


def test_faulty_connections_leave_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path, FOUR) as suite:
        churn(suite, 400, 200)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_10000_faulty_connections_and_5000_over_tls_leave_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path, FOUR) as suite:
        churn(suite, 10_000, 5_000)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_500_stalled_handshakes_are_gone_in_time(tmp_path: Path) -> None:
    config = FOUR + '[limits]\nhandshake = "5s"'
    with running(tmp_path, config) as suite, ExitStack() as stack:
        socks = [stack.enter_context(suite.connect("tls")) for _ in range(500)]
        for sock in socks:
            ended(sock)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_20000_idle_connections_end_in_time_and_cost_next_to_nothing(tmp_path: Path) -> None:
    """As many as there are descriptors for; from several addresses, whose ports do not suffice alone."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(20_000, hard - 200)
    config = FOUR + '[limits]\nconnections = 30000\nper_peer = 30000\nidle = "30s"'
    with running(tmp_path, config) as suite, ExitStack() as stack:
        sources = [(f"127.0.0.{number % 5 + 2}", 0) for number in range(count)]
        socks = [
            stack.enter_context(socket.create_connection(suite.addresses["tcp"], 60, source))
            for source in sources
        ]
        for sock in socks:
            sock.sendall(b"x")
        for sock in socks:
            assert sock.recv(1) == b"x"
        start, before = time.monotonic(), cpu_of(suite.process.pid)
        time.sleep(5)  # what is measured are these seconds
        share = (cpu_of(suite.process.pid) - before) / (time.monotonic() - start)
        assert share < 0.15
        for sock in socks:
            ended(sock)


@pytest.mark.parametrize("together", [False, True])
def test_a_flood_of_the_smallest_datagrams_does_not_starve_tcp(tmp_path: Path, together: bool) -> None:
    """Empty ones, or, because these cannot, those of one byte sent 64 at a time."""
    with (
        # On a fast machine they are so many, and all alike, that it may take them for a loop.
        running(tmp_path, FOUR, asked_for=['"reason": "loop"']) as suite,
        suite.connect("udp") as flood,
        suite.connect("tcp") as sock,
    ):
        if together:
            flood.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1)
        end = time.monotonic() + 1
        longest = 0.0
        while time.monotonic() < end:
            for _ in range(200):
                with suppress(OSError):
                    flood.send(bytes(64) if together else b"")
            before = cpu_of(suite.process.pid)
            assert is_served(sock)
            longest = max(longest, cpu_of(suite.process.pid) - before)
        assert longest < 3, "seconds of CPU that it has spent on something else"


def test_signals_that_are_not_for_it_change_nothing(tmp_path: Path) -> None:
    with running(tmp_path, FOUR) as suite, suite.connect("tcp") as sock:
        suite.process.send_signal(signal.SIGPIPE)
        assert is_served(sock)
