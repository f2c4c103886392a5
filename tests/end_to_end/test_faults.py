"""Faults on streams as clients meet them that share no code with the suite: sockets, ssl, nc, socat, curl."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.running import (
    PATIENCE,
    RunningSuite,
    TLSClient,
    client_program,
    echo,
    read_to_end,
    run_suite,
    running,
    running_on,
    wait_until,
)

KIB: Final = 1024

#: How clients connect: over what, and for TLS with which version.
KINDS: Final = ("tcp", "unix", "tls12", "tls13")

VERSIONS: Final = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}

#: Faults by the name of their endpoint, which its transport follows.
FAULTS: Final = {
    "clean": "[]",
    "late": '[{ latency = "200ms" }]',
    "late_up": '[{ latency = "200ms", direction = "up" }]',
    "rate": '[{ bandwidth = "256KiB" }]',
    "mixed": """[
        { latency = "30ms", jitter = "20ms", direction = "both" },
        { bandwidth = "4MiB", direction = "both" },
        { slice = "999B", direction = "both" },
        { stall = true, after = "100KiB", for = "100ms" },
    ]""",
    "corrupt": "[{ corrupt = 0.01 }]",
    "reset": '[{ reset = true, after = "64KiB" }]',
    "limit": '[{ limit = "10KiB" }]',
    "close": '[{ close = true, after = "4B", direction = "up" }]',
    "half": '[{ half_close = true, after = "4B" }]',
    "blackhole": "[{ blackhole = true }]",
    "stall": '[{ stall = true, after = "4B" }]',
    "refuse": "[{ refuse = true }]",
    "accept": '[{ accept_delay = "200ms" }]',
    "slow": '[{ slow_close = "200ms" }]',
    "chosen": '"requested"',
}

LISTEN: Final = {
    "tcp": "tcp:0",
    "unix": "unix:{name}.sock",
    "tls": "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem",
}


def config_of(names: dict[str, str], *transports: str, top: str = "") -> str:
    """An endpoint for each of the faults, over each of *transports*."""
    found = [top]
    for fault, entries in names.items():
        for transport in transports:
            name = f"{fault}_{transport}"
            listen = LISTEN[transport].format(name=name)
            found += [
                f'[endpoints.{name}]\nlisten = "{listen}"',
                f"faults = {entries}" if entries != "[]" else "",
            ]
    return "\n".join(found)


@pytest.fixture(scope="module", params=["echo-engine", "epoll", "asyncio"])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    """Every fault over every transport, on the engine and on others."""
    config = config_of(FAULTS, *LISTEN, top='seed = 7\ndrain = "1s"')
    with running_on(request.param, tmp_path_factory.mktemp("suite"), config) as suite:
        yield suite


class Client:
    """A connected client.

    :ivar sock: its socket.
    :ivar stream: what it sends and receives with: the socket, or TLS on it.
    """

    def __init__(self, sock: socket.socket, stream: Any) -> None:
        self.sock = sock
        self.stream = stream
        self.send, self.recv = stream.sendall, stream.recv

    def end(self) -> None:
        """End this side."""
        if isinstance(self.stream, TLSClient):
            self.stream.close_notify_and_fin()
        else:
            self.sock.shutdown(socket.SHUT_WR)

    def receive(self, size: int) -> bytes:
        """Exactly *size* bytes."""
        found = b""
        while len(found) < size:
            more = self.recv(size - len(found))
            assert more, f"the end after {found!r}"
            found += more
        return found

    def echo(self, data: bytes) -> bytes:
        """What comes back of *data*, up to the end."""
        return echo(self.stream, data, self.end)


@contextmanager
def connected(suite: RunningSuite, fault: str, kind: str, name: str = "localhost") -> Iterator[Client]:
    """A client of the endpoint with *fault*."""
    with suite.connect(f"{fault}_{kind[:3] if kind in VERSIONS else kind}") as sock:
        if kind in VERSIONS:
            context = suite.client_context(VERSIONS[kind])
            context.check_hostname = name == "localhost"
            yield Client(sock, TLSClient(sock, context, name))
        else:
            yield Client(sock, sock)


def seconds(call: Callable[[], object]) -> float:
    """How long *call* takes."""
    start = time.monotonic()
    call()
    return time.monotonic() - start


def round_trip(client: Client) -> None:
    client.send(b"hola")
    assert client.receive(4) == b"hola"


def assert_silent(suite: RunningSuite, client: Client, kind: str) -> None:
    """After an undisturbed round trip elsewhere, in which all could have come, nothing has."""
    with connected(suite, "clean", kind) as other:
        for _ in range(3):
            round_trip(other)
    readable, _, _ = select.select([client.sock], [], [], 0)
    if readable and kind == "tls13":  # session tickets, which come with nothing in them
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
    else:
        assert not readable


def ends_of(suite: RunningSuite, endpoint: str) -> list[dict[str, Any]]:
    """The closing lines of the connections of *endpoint*."""
    return [event for event in suite.events if event.get("endpoint") == endpoint and "reason" in event]


# Delays and rates.


@pytest.mark.parametrize("fault", ["late", "late_up"])
@pytest.mark.parametrize("kind", KINDS)
def test_latency(suite: RunningSuite, kind: str, fault: str) -> None:
    with connected(suite, "clean", kind) as client:
        undisturbed = min(seconds(lambda: round_trip(client)) for _ in range(5))
    with connected(suite, fault, kind) as client:
        for _ in range(2):
            late = seconds(lambda: round_trip(client))
            assert late >= 0.2
            assert late > undisturbed


@pytest.mark.parametrize("kind", KINDS)
def test_bandwidth(suite: RunningSuite, kind: str) -> None:
    """Over all bytes: no sooner than the line allows, to a hundredth."""
    size = 128 * KIB
    with connected(suite, "rate", kind) as client:
        start = time.monotonic()
        client.send(bytes(size))
        client.receive(size)
        assert time.monotonic() - start >= 0.99 * size / (256 * KIB)


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_a_mebibyte_comes_back(suite: RunningSuite, kind: str) -> None:
    data = os.urandom(KIB * KIB)
    with connected(suite, "mixed", kind) as client:
        assert client.echo(data) == data


@pytest.mark.parametrize("kind", ["tcp", "tls13"])
def test_corrupt_bytes(suite: RunningSuite, kind: str) -> None:
    """About one in a hundred, and over TLS, too: the records themselves are sound."""
    with connected(suite, "corrupt", kind) as client:
        changed = sum(byte != 0 for byte in client.echo(bytes(100_000)))
        assert 800 < changed < 1200


# Ends.


def until_reset(client: Client, data: bytes, *, ends: bool = False) -> tuple[bytes, bool]:
    """Send *data*; return all that comes back, and whether any call was told of a reset."""
    received, errors = b"", []
    try:
        client.send(data)
        if ends:
            client.end()
    except OSError as error:
        errors.append(error.errno)
    try:
        while more := client.recv(65536):
            received += more
    except OSError as error:
        errors.append(error.errno)
    return received, bool({errno.ECONNRESET, errno.EPIPE} & {*errors})


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_after_64_kib(suite: RunningSuite, kind: str) -> None:
    """Exactly these, and then ECONNRESET; a UNIX socket may know an end only (unix(7))."""
    data = os.urandom(64 * KIB + 100)
    with connected(suite, "reset", kind) as client:
        received, reset = until_reset(client, data)
        assert received == data[: 64 * KIB]
        assert reset or kind == "unix"


@pytest.mark.parametrize("kind", ["tcp", "tls12", "tls13"])
def test_a_reset_is_one_even_if_the_peer_has_ended(suite: RunningSuite, kind: str) -> None:
    data = os.urandom(64 * KIB)
    with connected(suite, "reset", kind) as client:
        assert until_reset(client, data, ends=True) == (data, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit(suite: RunningSuite, kind: str) -> None:
    """A proper end: a FIN, over TLS behind a close_notify."""
    data = os.urandom(20 * KIB)
    with connected(suite, "limit", kind) as client:
        client.send(data)
        assert read_to_end(client.recv) == data[: 10 * KIB]
        if kind in VERSIONS:
            assert client.stream.end == "close_notify"


@pytest.mark.parametrize("kind", KINDS)
def test_a_close_of_what_comes_up(suite: RunningSuite, kind: str) -> None:
    with connected(suite, "close", kind) as client:
        client.send(b"hola mundo")
        assert read_to_end(client.recv) == b"hola"


@pytest.mark.parametrize("kind", KINDS)
def test_a_half_close(suite: RunningSuite, kind: str) -> None:
    """All that is sent after it is read, and not answered; the log counts it."""
    name = f"half_{kind[:3] if kind in VERSIONS else kind}"
    before = len(ends_of(suite, name))
    with connected(suite, "half", kind) as client:
        client.send(b"hola")
        assert read_to_end(client.recv) == b"hola"
        for _ in range(64):
            client.send(bytes(16 * KIB))
        client.end()
        wait_until(lambda: len(ends_of(suite, name)) > before, "the connection ended")
    event = ends_of(suite, name)[-1]
    assert (event["reason"], event["received"]) == ("fault", 4 + KIB * KIB)
    assert event["faults"] == "half_close at 4"


@pytest.mark.parametrize("kind", KINDS)
def test_a_blackhole(suite: RunningSuite, kind: str) -> None:
    """It takes everything, more than any buffer holds, and says nothing, not even at the end."""
    with connected(suite, "blackhole", kind) as client:
        for _ in range(64):
            client.send(bytes(256 * KIB))
        client.end()
        assert_silent(suite, client, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stall(suite: RunningSuite, kind: str) -> None:
    with connected(suite, "stall", kind) as client:
        client.send(b"hola mundo")
        assert client.receive(4) == b"hola"
        assert_silent(suite, client, kind)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_stalled_client_is_paused(suite: RunningSuite, kind: str) -> None:
    """So that what it sends stays with it: memory is bounded."""
    before = suite.memory()
    with connected(suite, "stall", kind) as client:
        client.sock.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):
            while sent < 500 * KIB * KIB:
                sent += client.sock.send(bytes(256 * KIB))
        assert sent < 100 * KIB * KIB
        assert suite.memory() - before < 4 * KIB * KIB


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_connection(suite: RunningSuite, kind: str) -> None:
    with (
        pytest.raises((ConnectionError, AssertionError)) as caught,
        connected(suite, "refuse", kind) as client,
    ):
        round_trip(client)
    if kind == "tcp":
        assert isinstance(caught.value, ConnectionResetError | BrokenPipeError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_delay_at_accept(suite: RunningSuite, kind: str) -> None:
    """Over TLS the handshake waits, too."""
    start = time.monotonic()
    with connected(suite, "accept", kind) as client:
        if kind in VERSIONS:
            assert time.monotonic() - start >= 0.2
        round_trip(client)
        assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_close(suite: RunningSuite, kind: str) -> None:
    """The echo comes at once, the end of it later."""
    with connected(suite, "slow", kind) as client:
        start = time.monotonic()
        client.send(b"hola")
        client.end()
        assert client.receive(4) == b"hola"
        assert read_to_end(client.recv) == b""
        assert time.monotonic() - start >= 0.2


# Requests.


def run_client(program: str, *arguments: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run *program*; *data* is all that its standard input has."""
    return subprocess.run(
        [client_program(program), *arguments],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def output_of(program: str, *arguments: str, data: bytes) -> bytes:
    """What *program* prints if it succeeds."""
    result = run_client(program, *arguments, data=data)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"\n", b"ok\nhola"),
        (b"latency=20ms slice=1 seed=7\r\n", b"ok\nhola"),
        (b"limit=2\n", b"ok\nho"),
        (b"latncy=1s\n", b"latncy: is not a fault; did you mean latency?\n"),
        (b"GET / HTTP/1.1\r\n", b"GET: is not a fault"),
    ],
)
def test_a_request(suite: RunningSuite, kind: str, line: bytes, answer: bytes) -> None:
    with connected(suite, "chosen", kind) as client:
        client.send(line + b"hola")
        assert client.receive(len(answer)) == answer
        if not answer.startswith(b"ok"):
            assert read_to_end(client.recv).count(b"\n") == (not answer.endswith(b"\n"))


@pytest.mark.parametrize("kind", ["tls12", "tls13"])
def test_a_request_in_a_name(suite: RunningSuite, kind: str) -> None:
    with connected(suite, "chosen", kind, "latency-200ms.slice-1.localhost") as client:
        assert seconds(lambda: round_trip(client)) >= 0.2


def test_nc_asks_for_faults(suite: RunningSuite) -> None:
    host, port = suite.addresses["chosen_tcp"]
    data = b"latency=50ms slice=2\nhola mundo"
    assert output_of("nc", "-N", host, str(port), data=data) == b"ok\nhola mundo"
    assert output_of("nc", "-NU", suite.addresses["chosen_unix"], data=data) == b"ok\nhola mundo"


def test_socat_asks_for_faults(suite: RunningSuite) -> None:
    host, port = suite.addresses["chosen_tcp"]
    data = b"latency=50ms limit=4\nhola mundo"
    assert output_of("socat", "-t", "30", "-", f"TCP:{host}:{port}", data=data) == b"ok\nhola"
    address = f"UNIX-CONNECT:{suite.addresses['chosen_unix']}"
    assert output_of("socat", "-t", "30", "-", address, data=data) == b"ok\nhola"


@pytest.mark.parametrize(
    ("fault", "size", "more", "codes"),
    [("limit", 10 * KIB, 100, {0}), ("reset", 64 * KIB, 0, {55, 56}), ("refuse", 0, 100, {7, 55, 56})],
)
def test_curl_over_telnet(suite: RunningSuite, fault: str, size: int, more: int, codes: set[int]) -> None:
    """curl(1): 7 is "Failed to connect", 55 "Failed sending network data", 56 the same for receiving.

    A curl that has more to send than what is reset may notice that first, and then reads no more.
    """
    host, port = suite.addresses[f"{fault}_tcp"]
    result = run_client("curl", "-sSN", f"telnet://{host}:{port}", data=bytes(size + more))
    assert (len(result.stdout), result.returncode in codes) == (size, True), result.stderr


# As predicted.


def test_what_strikes_whom_is_as_explained(tmp_path: Path) -> None:
    config = """
[endpoints.flaky]
listen = "tcp:0"
seed = 11
faults = [{ reset = true, after = "2B", chance = 0.5 }]
"""
    with running(tmp_path, config) as flaky:
        said = run_suite(tmp_path, "faults", "explain", "--config", "config.toml", "--json").stdout
        predicted = [bool(connection["faults"]) for connection in json.loads(said)["connections"]]
        struck = []
        for _ in predicted:
            with flaky.connect("flaky") as sock:
                sock.sendall(b"hola")
                sock.shutdown(socket.SHUT_WR)
                try:
                    struck.append(read_to_end(sock.recv) != b"hola")
                except ConnectionResetError:
                    struck.append(True)
        assert struck == predicted
        assert 0 < sum(struck) < len(struck)


# PROXY headers and limits.

PROXIED: Final = """
[endpoints.proxied_tcp]
listen = "haproxy:tcp:0"
faults = [{ refuse = true, only = ["192.0.2.0/24"] }, { latency = "200ms" }]
[endpoints.proxied_tls]
listen = "haproxy:ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
faults = [{ refuse = true, only = ["192.0.2.0/24"] }, { latency = "200ms" }]
"""


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_behind_a_proxy_the_client_decides(tmp_path: Path, kind: str) -> None:
    with running(tmp_path, PROXIED) as proxied:
        for client, served in (("192.0.2.1", False), ("198.51.100.1", True)):
            with proxied.connect(f"proxied_{kind}") as sock:
                sock.sendall(f"PROXY TCP4 {client} 192.0.2.100 1 2\r\n".encode())
                with ExitStack() as stack:
                    if not served:
                        stack.enter_context(pytest.raises(ConnectionError))
                    stream: Any = TLSClient(sock, proxied.client_context()) if kind == "tls" else sock
                    start = time.monotonic()
                    stream.sendall(b"hola")
                    assert stream.recv(4) == b"hola"
                    assert time.monotonic() - start >= 0.2


def test_a_stalled_connection_has_its_limits(tmp_path: Path) -> None:
    config = """
[endpoints.idle]
listen = "tcp:0"
limits = { idle = "500ms", half_close = "1s" }
faults = [{ stall = true, after = "4B" }]
[endpoints.lifetime]
listen = "tcp:0"
limits = { lifetime = "500ms", half_close = "1s" }
faults = [{ blackhole = true }]
"""
    with running(tmp_path, config, "--log-level", "debug") as limited:
        for name in ("idle", "lifetime"):
            with limited.connect(name) as sock:
                sock.sendall(b"hola mundo")
                with suppress(ConnectionError):
                    assert read_to_end(sock.recv) in (b"hola", b"")
            wait_until(lambda name=name: bool(ends_of(limited, name)), "it ended")  # type: ignore[misc]
            assert ends_of(limited, name)[0]["reason"] == name


@pytest.mark.parametrize("fault", ["blackhole", "stall", "slow", "late"])
def test_a_shutdown_ends_what_a_fault_holds(tmp_path: Path, fault: str) -> None:
    """By `drain` at the latest, as ever with exit code 0."""
    faults = {fault: FAULTS[fault].replace("200ms", "100s")}
    with (
        running(tmp_path, config_of(faults, "tcp", "tls", top='drain = "1s"')) as suite,
        connected(suite, fault, "tcp") as plain,
        connected(suite, fault, "tls13") as encrypted,
    ):
        for client in (plain, encrypted):
            client.send(b"hola mundo")
        plain.end()
        suite.process.send_signal(signal.SIGTERM)
        assert suite.process.wait(PATIENCE) == 0
        for client in (plain, encrypted):
            with suppress(ConnectionError):
                read_to_end(client.recv)


# Changes.

CHANGING: Final = """
{top}
[endpoints.tcp]
listen = "tcp:0"
{faults}
[endpoints.tls]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
{faults}
"""


def reload(suite: RunningSuite, config: str) -> None:
    """Have *suite* reload *config*."""
    (suite.directory / "config.toml").write_text(config)
    before = sum("reloaded" in line for line in suite.errors)
    suite.process.send_signal(signal.SIGHUP)
    wait_until(lambda: sum("reloaded" in line for line in suite.errors) > before, "it has reloaded")


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("reactor", ["echo-engine", "asyncio"])
def test_faults_come_and_go_while_connections_are_open(tmp_path: Path, reactor: str, *, live: bool) -> None:
    """New connections have them at once; those that are there only with `live`, and none is lost."""
    top = "[faults]\nlive = true" if live else ""

    def config(faults: str) -> str:
        return CHANGING.format(top=top, faults=faults)

    with running_on(reactor, tmp_path, config("")) as suite, ExitStack() as stack:

        def connect() -> list[Client]:
            plain, encrypted = (stack.enter_context(suite.connect(name)) for name in ("tcp", "tls"))
            return [Client(plain, plain), Client(encrypted, TLSClient(encrypted, suite.client_context()))]

        def struck(clients: list[Client]) -> list[bool]:
            """Whether their bytes come back changed."""
            for client in clients:
                client.send(b"hola")
            return [client.receive(4) != b"hola" for client in clients]

        first = connect()
        assert struck(first) == [False, False]
        before = (dict(suite.addresses), suite.descriptors())
        reload(suite, config("faults = [{ corrupt = 1 }]"))
        assert (suite.addresses, suite.descriptors()) == before
        second = connect()
        assert struck(second) == [True, True]
        assert struck(first) == [live, live]
        reload(suite, config(""))
        assert struck(connect()) == [False, False]
        assert struck(second) == [not live, not live]
        assert struck(first) == [False, False]


# Many.


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.stress)])
def test_many_slow_connections_at_once(tmp_path: Path, count: int) -> None:
    """Each gets its bytes, in a fraction of the memory that would hold them all."""
    config = """
limits = { connections = 3000, per_peer = 3000 }
[endpoints.slow]
listen = "tcp:0"
faults = [
    { latency = "500ms", jitter = "200ms" },
    { bandwidth = "8KiB", direction = "both" },
    { slice = "512B" },
    { corrupt = 0.000001, after = "1GiB" },
]
"""
    data = os.urandom(4 * KIB)
    with running(tmp_path, config) as suite, ExitStack() as stack:

        def crowd(size: int) -> int:
            """The memory that the suite has while *size* connections are being served."""
            socks = [stack.enter_context(suite.connect("slow")) for _ in range(size)]
            for sock in socks:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            most = suite.memory()
            for sock in socks:
                assert read_to_end(sock.recv) == data
            return max(most, suite.memory())

        before = crowd(20)  # with all that is made once
        most = crowd(count) - before
        assert most < count * 32 * KIB + KIB * KIB
