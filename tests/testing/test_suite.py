"""`suite.testing` as its users see it, without Twisted."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.testing import (
    FOUR_TRANSPORTS,
    Connection,
    Counts,
    CrashError,
    RunningSuite,
    StartError,
    StillOpenError,
    process,
    to_toml,
)
from suite.testing import suite as testing
from suite.testing.server import KEPT, KEPT_DATAGRAMS, Record
from tests.running import PATIENCE, wait_until

MIB = 2**20
TCP = '[endpoints]\ntcp = "tcp:0"'
KEYS = "privateKey=certs/server.key:certKey=certs/server.pem"
MUTUAL = f'[endpoints.mutual]\nlisten = "ssl:0:{KEYS}"\ntls = {{ client_ca = "certs/ca.pem" }}'


@pytest.fixture(scope="module")
def module_suite() -> Iterator[RunningSuite]:
    with RunningSuite(patience=PATIENCE) as suite:
        yield suite


@pytest.fixture
def suite(module_suite: RunningSuite) -> Iterator[RunningSuite]:
    """One that has seen nothing yet."""
    module_suite.clear()
    yield module_suite
    module_suite.check()


def echoed(sock: socket.socket, data: bytes) -> bytes:
    """Send *data* on a stream; return its echo."""
    sock.sendall(data)
    back = b""
    while len(back) < len(data):
        chunk = sock.recv(65536)
        assert chunk, "the end, too early"
        back += chunk
    return back


# Addresses and clients.


def test_all_four_transports_are_where_it_says(suite: RunningSuite) -> None:
    with socket.create_connection(suite.tcp, PATIENCE) as sock:
        assert echoed(sock, b"over tcp") == b"over tcp"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(suite.unix)
        assert echoed(sock, b"over unix") == b"over unix"
    with (
        socket.create_connection(suite.tls, PATIENCE) as raw,
        suite.ssl_context.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        assert echoed(sock, b"over tls") == b"over tls"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(b"over udp", suite.udp)
        assert sock.recvfrom(100) == (b"over udp", suite.udp)
    for endpoint in ("tcp", "unix", "tls", "udp"):
        assert suite.received(endpoint) == f"over {endpoint}".encode()


def test_addresses_have_the_names_of_the_configuration(suite: RunningSuite) -> None:
    assert list(suite.addresses) == ["tcp", "udp", "tls", "unix"]
    for endpoint in suite.addresses:
        assert suite[endpoint] == suite.addresses[endpoint] == getattr(suite, endpoint)
    assert suite.tcp[1] != 0
    assert Path(suite.unix).is_socket()


def test_a_name_or_transport_that_is_not_there_is_said_with_those_that_are() -> None:
    with RunningSuite(TCP) as suite:
        with pytest.raises(KeyError, match="no endpoint 'tpc'; expected tcp"):
            suite["tpc"]
        with pytest.raises(KeyError, match="no endpoint 'tpc'; expected tcp"):
            suite.received("tpc")
        with pytest.raises(LookupError, match="no UNIX endpoint; the endpoints are tcp"):
            _ = suite.unix
        with pytest.raises(LookupError, match="the suite made no certificates"):
            _ = suite.ca


@pytest.mark.parametrize("endpoint", ["tcp", "udp", "tls", "unix"])
def test_connect_gives_a_client_that_is_ready(suite: RunningSuite, endpoint: str) -> None:
    with suite.connect(endpoint, timeout=PATIENCE) as sock:
        sock.sendall(b"hola")
        assert sock.recv(100) == b"hola"
        assert isinstance(sock, ssl.SSLSocket) == (endpoint == "tls")


def test_a_client_that_cannot_connect_leaves_no_socket_behind(suite: RunningSuite) -> None:
    with RunningSuite(FOUR_TRANSPORTS) as other:
        (other.directory / "certs/ca.pem").write_bytes(suite.ca.read_bytes())
        with pytest.raises(ssl.SSLCertVerificationError):
            other.connect("tls")
        other.check()
        assert "alert unknown ca" in other.log


def test_the_context_trusts_the_suite_under_its_names_only(suite: RunningSuite) -> None:
    for name in ("localhost", "127.0.0.1", "::1"):
        with (
            socket.create_connection(suite.tls, PATIENCE) as raw,
            suite.ssl_context.wrap_socket(raw, server_hostname=name) as sock,
        ):
            assert echoed(sock, b"hola") == b"hola"
    with (
        socket.create_connection(suite.tls, PATIENCE) as raw,
        pytest.raises(ssl.SSLCertVerificationError, match=r"example\.org"),
    ):
        suite.ssl_context.wrap_socket(raw, server_hostname="example.org")
    with (
        socket.create_connection(suite.tls, PATIENCE) as raw,
        pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get local issuer"),
    ):
        ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")


def test_contexts_are_new_ones_so_that_no_test_changes_anothers(suite: RunningSuite) -> None:
    suite.ssl_context.check_hostname = False
    assert suite.ssl_context.check_hostname


def test_mutual_tls_admits_the_client_certificate_and_nobody_without() -> None:
    with RunningSuite(MUTUAL) as suite:
        certificate, key = suite.client_cert
        context = suite.ssl_context
        context.load_cert_chain(certificate, key)
        for admitted in (context, suite.client_context):
            with (
                socket.create_connection(suite.tls, PATIENCE) as raw,
                admitted.wrap_socket(raw, server_hostname="localhost") as sock,
            ):
                assert echoed(sock, b"hola") == b"hola"
        with suite.connect("mutual") as sock:
            assert echoed(sock, b"hola") == b"hola"
        with (
            socket.create_connection(suite.tls, PATIENCE) as raw,
            pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
            suite.ssl_context.wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            sock.recv(1)  # in TLS 1.3 the client learns of it after its own handshake
        assert suite.received("mutual") == b"hola" * 3
        assert suite.wait_for("mutual", open=0).opened == 4


# Observations.


def test_what_is_echoed_has_been_received(suite: RunningSuite) -> None:
    data = os.urandom(100_000)
    with suite.connect("tcp", timeout=PATIENCE) as sock:
        for start in range(0, len(data), 10_000):
            part = data[start : start + 10_000]
            assert echoed(sock, part) == part
            assert suite.received("tcp") == data[: start + 10_000]
    assert suite.connections("tcp").received == 100_000


def test_datagrams_are_kept_one_by_one(suite: RunningSuite) -> None:
    sent = [b"", b"one", bytes(65507), b"three"]
    with suite.connect("udp", timeout=PATIENCE) as sock:
        for datagram in sent:
            sock.send(datagram)
            assert sock.recv(65536) == datagram
    assert suite.datagrams("udp") == sent
    assert suite.received("udp") == b"".join(sent)
    assert suite.connections("udp") == Counts(opened=0, open=0, received=65515, datagrams=4)
    assert suite.datagrams("tcp") == []


def test_connections_are_counted_from_the_first_to_the_last(suite: RunningSuite) -> None:
    assert suite.connections("tcp") == Counts(0, 0, 0, 0)
    first, second = suite.connect("tcp"), suite.connect("tcp")
    try:
        assert suite.wait_for("tcp", opened=2) == Counts(opened=2, open=2, received=0, datagrams=0)
        second.sendall(b"hola")
        suite.wait_for("tcp", received=4)
        assert suite.open_connections() == [
            Connection("tcp", "{}:{}".format(*first.getsockname()), 0),
            Connection("tcp", "{}:{}".format(*second.getsockname()), 4),
        ]
    finally:
        first.close()
        second.close()
    assert suite.wait_for("tcp", open=0) == Counts(opened=2, open=0, received=4, datagrams=0)
    assert suite.open_connections() == []


def test_a_connection_is_seen_as_soon_as_it_is_there(suite: RunningSuite) -> None:
    """When a question and a connection arrive in the same turn, the connection is processed first."""
    for number in range(200):
        with suite.connect("unix"):
            assert suite.connections("unix").opened == number + 1


def test_to_clear_is_to_begin_anew_with_the_connections_there_are(suite: RunningSuite) -> None:
    with suite.connect("tcp") as sock, suite.connect("udp") as datagrams:
        assert echoed(sock, b"before") == b"before"
        datagrams.send(b"before")
        assert datagrams.recv(100) == b"before"
        suite.clear()
        assert suite.connections("tcp") == Counts(opened=0, open=1, received=0, datagrams=0)
        assert suite.datagrams("udp") == []
        assert echoed(sock, b"after") == b"after"
        assert suite.received("tcp") == b"after"


def test_waiting_for_what_does_not_come_says_what_came(suite: RunningSuite) -> None:
    with suite.connect("tcp") as sock:
        assert echoed(sock, b"hola") == b"hola"
        with pytest.raises(TimeoutError) as raised:
            suite.wait_for("tcp", received=5, timeout=0.1)
        assert str(raised.value) == (
            "tcp: after 0.1 s Counts(opened=1, open=1, received=4, datagrams=0);"
            " expected Counts(opened=0, open=1, received=5, datagrams=0)"
        )
        for wanted in ({"opened": 2}, {"datagrams": 1}, {"open": 0}, {"open": 2}):
            with pytest.raises(TimeoutError):
                suite.wait_for("tcp", **wanted, timeout=0)
        assert suite.wait_for("tcp", timeout=0).open == 1


def test_of_a_long_stream_the_last_mebibyte_is_kept_and_all_is_counted(suite: RunningSuite) -> None:
    data = os.urandom(3 * MIB + 5)
    with suite.connect("tcp", timeout=PATIENCE) as sock, ThreadPoolExecutor(1) as reader:
        sending = reader.submit(sock.sendall, data)
        left = len(data)
        while left:
            left -= len(sock.recv(65536))
        sending.result()
    assert suite.received("tcp") == data[-KEPT:]
    assert suite.connections("tcp").received == len(data)


def test_datagrams_are_kept_within_bounds_whether_large_or_empty() -> None:
    record = Record()
    for number in range(100):
        record.add_datagram(bytes([number]) * 60_000)
    assert [datagram[0] for datagram in record.kept_datagrams()] == list(range(100 - KEPT // 60_000, 100))
    for number in range(KEPT_DATAGRAMS + 10):
        record.add_datagram(str(number).encode())
    assert record.kept_datagrams()[0] == b"10"
    assert len(record.kept_datagrams()) == KEPT_DATAGRAMS
    assert record.datagrams == 100 + KEPT_DATAGRAMS + 10


def test_a_proxy_header_is_not_received_but_names_the_client() -> None:
    with RunningSuite(f'[endpoints]\na = "haproxy:tcp:0"\nb = "haproxy:ssl:0:{KEYS}"') as suite:
        with pytest.raises(LookupError, match="no TCP endpoint; the endpoints are a, b"):
            _ = suite.tcp
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n"
        with suite.connect("a") as sock:
            sock.sendall(header + b"hola")
            assert sock.recv(100) == b"hola"
            assert suite.open_connections() == [Connection("a", "192.0.2.1:5", 4)]
        with suite.connect("b") as raw:
            raw.sendall(header)
            with suite.ssl_context.wrap_socket(raw, server_hostname="localhost") as sock:
                assert echoed(sock, b"hola") == b"hola"
        assert suite.received("a") == suite.received("b") == b"hola"


# With every kind of client.


def test_asyncio_streams(suite: RunningSuite) -> None:
    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        try:
            writer.write(b"hola")
            if writer.can_write_eof():  # TLS cannot
                writer.write_eof()
                return await reader.read()
            return await reader.readexactly(4)
        finally:
            writer.close()
            await writer.wait_closed()

    async def all_of_them() -> list[bytes]:
        return [
            await use(*await asyncio.open_connection(*suite.tcp)),
            await use(*await asyncio.open_unix_connection(suite.unix)),
            await use(
                *await asyncio.open_connection(*suite.tls, ssl=suite.ssl_context, server_hostname="localhost")
            ),
        ]

    assert asyncio.run(all_of_them()) == [b"hola"] * 3
    assert suite.received("tls") == b"hola"


def test_asyncio_datagrams_and_waiting_beside_the_loop(suite: RunningSuite) -> None:
    class Client(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.answer.set_result(data)

    async def use() -> bytes:
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_datagram_endpoint(Client, remote_addr=suite.udp)
        try:
            waiting = asyncio.create_task(asyncio.to_thread(suite.wait_for, "udp", datagrams=1))
            transport.sendto(b"hola")
            assert (await waiting).received == 4
            return await client.answer
        finally:
            transport.close()

    assert asyncio.run(use()) == b"hola"


def test_anyio(suite: RunningSuite) -> None:
    async def use() -> None:
        tls = await anyio.connect_tcp(
            "localhost", suite.tls[1], ssl_context=suite.ssl_context, tls_standard_compatible=False
        )
        for connecting in (anyio.connect_tcp(*suite.tcp), anyio.connect_unix(suite.unix)):
            async with await connecting as stream:
                await stream.send(b"hola")
                assert await stream.receive() == b"hola"
        async with tls as stream:
            await stream.send(b"hola")
            assert await stream.receive() == b"hola"
        async with await anyio.create_connected_udp_socket(*suite.udp) as udp:
            await udp.send(b"hola")
            assert await udp.receive() == b"hola"

    anyio.run(use)


def test_many_threads_at_once(suite: RunningSuite) -> None:
    def use(number: int) -> None:
        endpoint = ("tcp", "tls", "unix")[number % 3]
        with suite.connect(endpoint, timeout=PATIENCE) as sock:
            data = os.urandom(1000)
            assert echoed(sock, data) == data
            assert data in suite.received(endpoint)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(96)))
    assert suite.wait_for("tls", open=0) == Counts(32, 0, 32_000, 0)


def test_suites_beside_each_other_know_nothing_of_each_other(suite: RunningSuite) -> None:
    with RunningSuite() as other:
        with other.connect("tcp") as sock:
            assert echoed(sock, b"hola") == b"hola"
        assert other.received("tcp") == b"hola"
        assert suite.received("tcp") == b""
        assert set(other.addresses.values()).isdisjoint(suite.addresses.values())


# Configurations.


def test_a_mapping_says_what_toml_would() -> None:
    config = {
        "tls": {"minimum": "1.3", "alpn": ["echo"]},
        "endpoints": {"plain": "tcp:0", "secret": {"listen": f"ssl:0:{KEYS}", "tls": {"maximum": "1.3"}}},
    }
    with RunningSuite(config) as suite:
        context = suite.ssl_context
        context.set_alpn_protocols(["echo"])
        with (
            socket.create_connection(suite.tls, PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            assert (sock.version(), sock.selected_alpn_protocol()) == ("TLSv1.3", "echo")
        assert list(suite.addresses) == ["plain", "secret"]


def test_a_file_is_served_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo.toml").write_text(FOUR_TRANSPORTS)
    monkeypatch.chdir(tmp_path)
    with RunningSuite(Path("echo.toml")) as suite:
        assert suite.unix == str(tmp_path / "echo.sock")
        assert suite.ca == tmp_path / "certs/ca.pem"
        with suite.connect("tls") as sock:
            assert echoed(sock, b"hola") == b"hola"
    assert sorted(os.listdir(tmp_path)) == ["certs", "echo.toml"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs abstract sockets")
def test_an_abstract_socket_has_an_address_to_connect_to() -> None:
    with RunningSuite({"endpoints": {"abstract": f"unix:\0echo-suite-{os.getpid()}"}}) as suite:
        assert suite.unix == f"\0echo-suite-{os.getpid()}"
        with suite.connect("abstract") as sock:
            assert echoed(sock, b"hola") == b"hola"


def test_what_is_open_to_everyone_has_an_address_to_connect_to() -> None:
    with RunningSuite('[endpoints]\neveryone = "tcp:0:interface=0.0.0.0"') as suite:
        assert suite.tcp[0] == "127.0.0.1"


keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | keys
tables = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


@given(tables)
def test_toml_of_a_table_says_that_table(table: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_toml_of_paths_and_tuples_and_what_is_no_number() -> None:
    assert tomllib.loads(to_toml({"a": Path("/x"), "b": ("c", "\x7f")})) == {"a": "/x", "b": ["c", "\x7f"]}
    assert math.isnan(tomllib.loads(to_toml({"a": math.nan}))["a"])


def test_what_toml_cannot_say_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"endpoints\.tcp: None cannot be written as TOML; expected a string"):
        RunningSuite({"endpoints": {"tcp": None}})


def test_what_is_no_configuration_is_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"is no TOML; expected Path\('config\.toml'\) for a file$"):
        RunningSuite("config.toml")
    with pytest.raises(TypeError, match=r"^7 is not a configuration; expected TOML text, a mapping"):
        RunningSuite(7)  # type: ignore[arg-type]  # the mistake


# Starting.


def test_a_mistake_in_the_configuration_is_said_in_the_suites_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StartError) as raised:
        RunningSuite('[endpoints]\ntcp = "tpc:0"')
    assert str(raised.value) == (
        "config.toml: endpoints.tcp.listen: 'tpc' is not an endpoint type; did you mean tcp?"
    )
    assert raised.value.exit_code == 2
    with pytest.raises(StartError, match="no such file; expected a configuration"):
        RunningSuite(tmp_path / "nowhere.toml")
    assert os.listdir(tmp_path) == []


def test_a_port_in_use_is_said_in_the_suites_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as raised:
            RunningSuite({"endpoints": {"mine": f"tcp:{port}"}})
    assert str(raised.value) == (f"endpoints.mine: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert raised.value.exit_code == 1


def test_a_suite_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("suite", "errors"):  # the one waits so long, the other says so
        monkeypatch.setattr(f"suite.testing.{module}.LIMIT", 0.001)
    with pytest.raises(StartError, match=r"was not ready within 0\.001 s") as raised:
        RunningSuite(TCP)
    assert raised.value.exit_code is None


def test_a_long_temporary_directory_does_not_make_a_socket_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with RunningSuite() as suite, suite.connect("unix") as sock:
        assert echoed(sock, b"hola") == b"hola"


def test_a_directory_called_suite_beside_the_tests_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite/__init__.py").write_text("raise SystemExit('not me')")
    monkeypatch.chdir(tmp_path)
    with RunningSuite(TCP) as suite, suite.connect("tcp") as sock:
        assert echoed(sock, b"hola") == b"hola"


# Closing.


@pytest.mark.parametrize("endpoint", ["tcp", "tls", "unix"])
def test_a_connection_that_hangs_is_named_on_close(endpoint: str) -> None:
    suite = RunningSuite(patience=0.1)
    with suite.connect(endpoint, timeout=PATIENCE) as sock:
        assert echoed(sock, b"hola") == b"hola"
        with pytest.raises(StillOpenError) as raised:
            suite.close()
        peer = "an unnamed socket" if endpoint == "unix" else "{}:{}".format(*sock.getsockname())
        assert raised.value.connections == (Connection(endpoint, peer, 4),)
        assert str(raised.value) == (
            f"1 connection still open:\n  {endpoint}: {peer}, which has sent 4 bytes"
        )
        assert not suite.directory.exists()
        # It is not only reported, but closed.
        try:
            assert sock.recv(1) == b""
        except OSError as error:
            assert isinstance(error, (ConnectionError, ssl.SSLError))  # noqa: PT017  # either is an end


def test_the_end_of_a_with_statement_is_as_loud() -> None:
    def leak(sock: socket.socket) -> None:
        with RunningSuite(TCP, patience=0) as suite:
            sock.connect(suite.tcp)
            suite.wait_for("tcp", opened=1)

    with socket.socket() as sock, pytest.raises(StillOpenError, match="1 connection still open"):
        leak(sock)


def test_a_connection_that_is_ending_is_waited_for() -> None:
    with RunningSuite(TCP, patience=PATIENCE) as suite:
        sock = suite.connect("tcp")
        suite.wait_for("tcp", opened=1)
        with ThreadPoolExecutor(1) as other, sock:
            closing = other.submit(suite.close)
            assert suite.connections("tcp").open == 1
            assert not closing.done()
            sock.close()
            closing.result(PATIENCE)


def test_check_is_loud_without_closing() -> None:
    with RunningSuite(TCP, patience=0.1) as suite:
        with suite.connect("tcp"):
            suite.wait_for("tcp", opened=1)
            with pytest.raises(StillOpenError):
                suite.check()
        suite.patience = PATIENCE
        suite.check()


def test_after_close_nothing_is_left_but_the_log() -> None:
    with RunningSuite() as suite:
        with socket.create_connection(suite.tls, PATIENCE) as raw, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")
        suite.wait_for("tls", opened=1, open=0)
    assert not suite.directory.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(suite.tcp, PATIENCE)
    assert "unknown ca" in suite.log
    with pytest.raises(RuntimeError, match="has been closed"):
        suite.received("tcp")
    suite.close()


def test_an_error_in_the_test_comes_first_and_what_hangs_is_a_note_to_it() -> None:
    def fail(sock: socket.socket) -> None:
        with RunningSuite(TCP, patience=0) as suite:
            sock.connect(suite.tcp)
            suite.wait_for("tcp", opened=1)
            suite._control.sendall(b'["nonsense"]\n')
            raise ZeroDivisionError

    with socket.socket() as sock, pytest.raises(ZeroDivisionError) as raised:
        fail(sock)
    first, second = raised.value.__notes__
    assert first.startswith("Also, on closing the suite: 1 connection still open:\n  tcp: 127.0.0.1:")
    assert second.startswith("Also, on closing the suite: the suite logged an error of its own; its log:\n")


def test_a_suite_that_has_been_killed_is_a_crash() -> None:
    suite = RunningSuite(TCP)
    suite._process.popen.send_signal(signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(CrashError, match="the suite exited by itself with code -9; its log:\n"):
            suite.received("tcp")
    with pytest.raises(CrashError, match="exited by itself with code -9"):
        suite.close()
    assert not suite.directory.exists()


def test_a_suite_that_somebody_has_ended_is_a_crash_too() -> None:
    suite = RunningSuite(TCP)
    suite._process.popen.send_signal(signal.SIGTERM)
    assert suite._process.popen.wait(PATIENCE) == 0
    with pytest.raises(CrashError, match="the suite exited by itself with code 0"):
        suite.close()


def test_an_error_of_the_suites_own_is_a_crash() -> None:
    suite = RunningSuite(TCP)
    suite._control.sendall(b'["nonsense"]\n')
    with pytest.raises(CrashError, match="the suite logged an error of its own") as raised:
        suite.close()
    assert "KeyError: 'nonsense'" in raised.value.log


def test_a_suite_that_does_not_answer_is_killed() -> None:
    suite = RunningSuite(TCP)
    suite._control.settimeout(0.2)
    suite._process.popen.send_signal(signal.SIGSTOP)
    with pytest.raises(CrashError, match="did not answer within"):
        suite.close()
    assert suite._process.popen.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGSTOP, r"did not exit within 0\.2 s of SIGTERM"),
        (signal.SIGKILL, "exited with code -9"),
    ],
)
def test_a_suite_that_does_not_end_well_is_a_crash(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, said: str
) -> None:
    suite = RunningSuite(TCP)
    check = suite.check

    def check_and_disturb() -> None:
        check()
        suite._process.popen.send_signal(number)

    monkeypatch.setattr(suite, "check", check_and_disturb)
    for module in (testing, process):
        monkeypatch.setattr(module, "LIMIT", 0.2 if number == signal.SIGSTOP else PATIENCE)
    with pytest.raises(CrashError, match=said):
        suite.close()
    assert suite._process.popen.returncode == -signal.SIGKILL


def test_what_hangs_and_what_crashes_are_both_told() -> None:
    suite = RunningSuite(TCP, patience=0)
    suite._control.sendall(b'["nonsense"]\n')
    with suite.connect("tcp"):
        suite.wait_for("tcp", opened=1)
        with pytest.raises(ExceptionGroup) as raised:
            suite.close()
    assert raised.group_contains(StillOpenError)
    assert raised.group_contains(CrashError)


def test_a_suite_does_not_outlive_its_test_whatever_kills_that() -> None:
    script = (
        "import os, signal\n"
        "from suite.testing import RunningSuite\n"
        "suite = RunningSuite()\n"
        "print(suite.directory, *suite.tcp, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == -signal.SIGKILL
    directory, host, port = result.stdout.split()
    wait_until(lambda: not Path(directory).exists(), "its directory was removed")
    with socket.socket() as sock:
        assert sock.connect_ex((host, int(port))) != 0


# Costs.


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("suite.testing", {"twisted", "OpenSSL", "cryptography", "cffi"}),
        ("pytest_echo_suite", {"twisted", "OpenSSL", "ssl", "suite"}),
    ],
)
def test_importing_it_imports_little(module: str, unwanted: set[str]) -> None:
    script = (
        f"import sys, pytest; before = {{*sys.modules}}; import {module}; print(*{{*sys.modules}} - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert module in result.stdout.split()
    assert unwanted.isdisjoint(result.stdout.split())
