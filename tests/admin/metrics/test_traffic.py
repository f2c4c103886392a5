"""What has happened is what is counted, exactly: one endpoint for each test."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.admin.metrics.scraping import scrape, wait_for
from tests.running import RunningSuite, TLSClient, echo, read_to_end, running, wait_until

CERTIFICATE = "privateKey=certs/server.key:certKey=certs/server.pem"

CONFIG = f"""
[admin]
listen = "unix:admin.sock"

[endpoints]
tcp = "tcp:0"
unix = "unix:echo.sock"
tls = "ssl:0:{CERTIFICATE}"
tls-bytes = "ssl:0:{CERTIFICATE}"
tls-left = "ssl:0:{CERTIFICATE}"
udp = "udp:0"

[endpoints.tls-slow]
listen = "ssl:0:{CERTIFICATE}"
limits = {{ handshake = "300ms" }}

[endpoints.unread]
listen = "tcp:0"
limits = {{ stall = "500ms" }}

[endpoints.one]
listen = "tcp:0"
limits = {{ connections = 1 }}

[endpoints.denied]
listen = "tcp:0"
limits = {{ deny = ["127.0.0.0/8"] }}

[endpoints.proxied]
listen = "haproxy:tcp:0"
limits = {{ proxy_from = ["192.0.2.0/24"] }}

[endpoints.capped]
listen = "tcp:0"
limits = {{ bytes = "10B" }}

[endpoints.discard]
listen = "tcp:0"
answer = "discard"

[endpoints.time]
listen = "tcp:0"
answer = "time"

[endpoints.late]
listen = "tcp:0"
faults = [{{ latency = "5ms" }}, {{ slice = "7B" }}]

[endpoints.limited]
listen = "tcp:0"
faults = [{{ limit = "4B" }}]

[endpoints.silent]
listen = "ssl:0:{CERTIFICATE}"
faults = [{{ alert = "handshake_failure" }}]

[endpoints.records]
listen = "ssl:0:{CERTIFICATE}"
faults = [{{ fragment = "100B" }}]

[endpoints.udp-denied]
listen = "udp:0"
limits = {{ deny = ["127.0.0.0/8"] }}

[endpoints.udp-rate]
listen = "udp:0"
limits = {{ rate = 1, burst = 3, rate_exempt = [] }}

[endpoints.udp-discard]
listen = "udp:0"
answer = "discard"

[endpoints.udp-time]
listen = "udp:0"
answer = "time"

[endpoints.udp-twice]
listen = "udp:0"
faults = [{{ duplicate = 1.0 }}]

[endpoints.udp-lossy]
listen = "udp:0"
faults = [{{ loss = 1.0 }}]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("traffic"), CONFIG, asked_for=["refused", "not answered"]) as suite:
        yield suite


def exchange(suite: RunningSuite, endpoint: str, data: bytes) -> bytes:
    """Send *data*, and the end; return all that comes back."""
    with suite.connect(endpoint) as sock:
        return echo(sock, data, lambda: sock.shutdown(socket.SHUT_WR))


# Connections and bytes.


@pytest.mark.parametrize("endpoint", ["tcp", "unix"])
def test_an_echo(suite: RunningSuite, endpoint: str) -> None:
    assert exchange(suite, endpoint, bytes(300_000)) == bytes(300_000)
    assert exchange(suite, endpoint, b"hola mundo...") == b"hola mundo..."
    with suite.connect(endpoint) as sock:
        sock.sendall(b"open")
        assert sock.recv(100) == b"open"
        found = wait_for(suite, 2, "connections_ended_total", endpoint=endpoint, reason="closed")
        assert found.value("connections_accepted_total", endpoint=endpoint) == 3
        assert found.by("state", "connections_open", endpoint=endpoint) == {"answering": 1}
        # Those of open connections are counted, too.
        for direction in ("received", "sent"):
            assert found.value(f"stream_{direction}_bytes_total", endpoint=endpoint) == 300_017
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""
    found = wait_for(suite, 3, "connections_ended_total", endpoint=endpoint, reason="closed")
    assert found.by("state", "connections_open", endpoint=endpoint) == {}
    assert found.by("reason", "connections_ended_total", endpoint=endpoint) == {"closed": 3}
    assert found.by("reason", "connections_refused_total", endpoint=endpoint) == {}


def test_what_the_kernel_has_not_taken_is_not_sent(suite: RunningSuite) -> None:
    """A client that does not read: sent is what is in the kernels' buffers, not what the suite holds."""
    with suite.connect("unread") as sock:
        sock.setblocking(False)
        data = bytes(2**20)

        def is_paused() -> bool:
            with suppress(BlockingIOError):
                while True:
                    sock.send(data)
            found = scrape(suite)
            received = found.value("stream_received_bytes_total", endpoint="unread") or 0
            return received > (found.value("stream_sent_bytes_total", endpoint="unread") or 0)

        wait_until(is_paused, "the suite held something")
    found = wait_for(suite, 0, "connections_open", endpoint="unread", state="answering")
    received = found.value("stream_received_bytes_total", endpoint="unread")
    sent = found.value("stream_sent_bytes_total", endpoint="unread")
    assert received is not None
    assert sent is not None
    assert 0 < received - sent <= 2**20


def test_a_reset(suite: RunningSuite) -> None:
    before = scrape(suite).value("connections_ended_total", endpoint="discard", reason="reset") or 0
    with suite.connect("discard") as sock:
        sock.sendall(b"abc")
        wait_for(suite, 3, "stream_received_bytes_total", endpoint="discard")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    found = wait_for(suite, before + 1, "connections_ended_total", endpoint="discard", reason="reset")
    assert found.value("stream_sent_bytes_total", endpoint="discard") == 0


def test_an_answer_that_is_no_echo(suite: RunningSuite) -> None:
    assert len(exchange(suite, "time", b"what time is it?")) == 4
    found = wait_for(suite, 1, "connections_ended_total", endpoint="time", reason="answered")
    assert found.value("stream_sent_bytes_total", endpoint="time") == 4


def test_a_limit_on_bytes(suite: RunningSuite) -> None:
    assert exchange(suite, "capped", b"0123456789abc") == b"0123456789"
    found = wait_for(suite, 1, "connections_ended_total", endpoint="capped", reason="bytes")
    assert found.value("stream_received_bytes_total", endpoint="capped") == 10
    assert found.value("stream_sent_bytes_total", endpoint="capped") == 10


# Refusals.


def test_one_connection_too_many(suite: RunningSuite) -> None:
    with suite.connect("one") as first, suite.connect("one") as second:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        with suppress(ConnectionError):
            assert second.recv(1) == b""
        found = wait_for(suite, 1, "connections_refused_total", endpoint="one", reason="connections")
        assert found.value("connections_accepted_total", endpoint="one") == 1
        assert found.by("reason", "connections_ended_total", endpoint="one") == {}


@pytest.mark.parametrize(("endpoint", "reason"), [("denied", "denied"), ("proxied", "proxy")])
def test_a_client_that_is_not_admitted(suite: RunningSuite, endpoint: str, reason: str) -> None:
    with suite.connect(endpoint) as sock, suppress(ConnectionError):
        assert sock.recv(1) == b""
    found = wait_for(suite, 1, "connections_refused_total", endpoint=endpoint, reason=reason)
    assert found.by("reason", "connections_refused_total", endpoint=endpoint) == {reason: 1}
    assert found.value("stream_received_bytes_total", endpoint=endpoint) == 0


def test_refusals_are_counted_from_0_on(suite: RunningSuite) -> None:
    found = scrape(suite)
    for reason in ("connections", "per-peer", "denied", "descriptors", "proxy"):
        assert found.value("connections_refused_total", endpoint="time", reason=reason) == 0
    for reason in ("denied", "destination", "loop", "rate", "size", "source"):
        assert found.value("datagrams_unanswered_total", endpoint="udp", reason=reason) == 0


# TLS.


def test_handshakes_by_what_was_agreed_on(suite: RunningSuite) -> None:
    context = suite.client_context(ssl.TLSVersion.TLSv1_2)
    session = None
    for _ in range(2):
        sock = suite.connect("tls")
        with context.wrap_socket(sock, server_hostname="localhost", session=session) as tls:
            tls.sendall(b"abc")
            assert tls.recv(3) == b"abc"
            session = tls.session
            agreed = tls.cipher()
            tls.unwrap()
    with suite.connect("tls") as sock:
        client = TLSClient(sock, suite.client_context(ssl.TLSVersion.TLSv1_3))
        client.close_notify()
        assert read_to_end(client.recv) == b""
        newer = client.tls.cipher()
    assert agreed is not None
    assert newer is not None
    found = wait_for(suite, 3, "connections_ended_total", endpoint="tls", reason="closed")
    handshakes = {
        (dict(labels)["version"], dict(labels)["cipher"], dict(labels)["resumed"]): value
        for (name, labels), value in found.samples.items()
        if name == "echo_suite_tls_handshakes_total" and ("endpoint", "tls") in labels
    }
    assert handshakes == {
        ("TLSv1.2", agreed[0], "false"): 1,
        ("TLSv1.2", agreed[0], "true"): 1,
        ("TLSv1.3", newer[0], "false"): 1,
    }
    assert found.value("tls_handshakes_failed_total", endpoint="tls") == 0


def test_bytes_over_tls_are_of_plaintext(suite: RunningSuite) -> None:
    data = bytes(100_000)
    with suite.connect("tls-bytes") as sock:
        client = TLSClient(sock, suite.client_context())
        assert echo(client, data, client.close_notify) == data  # type: ignore[arg-type]  # as a socket
    found = wait_for(suite, 1, "connections_ended_total", endpoint="tls-bytes", reason="closed")
    assert found.value("stream_received_bytes_total", endpoint="tls-bytes") == 100_000
    assert found.value("stream_sent_bytes_total", endpoint="tls-bytes") == 100_000


def test_handshakes_that_fail_by_word(suite: RunningSuite) -> None:
    def fails(word: str, count: int) -> None:
        wait_for(suite, count, "tls_handshake_failures_total", endpoint="tls-left", word=word)

    with suite.connect("tls-left") as sock:
        sock.sendall(b"\x16\x03\x01")
        wait_for(suite, 1, "connections_open", endpoint="tls-left", state="handshake")
    fails("left", 1)
    with suite.connect("tls-left") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        read_to_end(sock.recv)
    fails("http-request", 1)
    strange = ssl.create_default_context()  # which does not know the suite's CA
    for _ in range(2):
        with suite.connect("tls-left") as sock, pytest.raises(ssl.SSLCertVerificationError):
            strange.wrap_socket(sock, server_hostname="localhost")
    fails("tlsv1-alert-unknown-ca", 2)
    with suite.connect("tls-left") as sock:
        sock.sendall(b"\x16\x03\x01\xff\xff")  # a record that is longer than any may be
        with suppress(ConnectionError):
            read_to_end(sock.recv)
    suite.connect("tls-left").close()  # a health check, which has begun none
    found = wait_for(suite, 1, "connections_ended_total", endpoint="tls-left", reason="closed")
    words = found.by("word", "tls_handshake_failures_total", endpoint="tls-left")
    assert words.pop("left") == 1
    assert words.pop("http-request") == 1
    assert words.pop("tlsv1-alert-unknown-ca") == 2
    assert [*words.values()] == [1]  # in the words of this version of OpenSSL
    assert found.value("tls_handshakes_failed_total", endpoint="tls-left") == 5
    assert found.by("version", "tls_handshakes_total", endpoint="tls-left") == {}


def test_a_handshake_that_takes_too_long(suite: RunningSuite) -> None:
    with suite.connect("tls-slow") as sock, suppress(ConnectionError):
        assert read_to_end(sock.recv) == b""
    found = wait_for(suite, 1, "tls_handshake_failures_total", endpoint="tls-slow", word="timeout")
    assert found.by("reason", "connections_ended_total", endpoint="tls-slow") == {"handshake": 1}


# Faults.


def test_bytes_under_faults_are_those_that_were_sent(suite: RunningSuite) -> None:
    assert exchange(suite, "late", b"0123456789abcdef") == b"0123456789abcdef"
    found = wait_for(suite, 1, "connections_ended_total", endpoint="late", reason="closed")
    assert found.value("stream_received_bytes_total", endpoint="late") == 16
    assert found.value("stream_sent_bytes_total", endpoint="late") == 16
    assert found.by("fault", "faults_total", endpoint="late") == {"latency": 1, "slice": 1}


def test_bytes_that_a_fault_swallows_are_not_sent(suite: RunningSuite) -> None:
    with suite.connect("limited") as sock:
        sock.sendall(b"0123456789")
        assert read_to_end(sock.recv) == b"0123"
    found = wait_for(suite, 1, "connections_ended_total", endpoint="limited", reason="fault")
    assert found.value("stream_received_bytes_total", endpoint="limited") == 10
    assert found.value("stream_sent_bytes_total", endpoint="limited") == 4
    assert found.by("fault", "faults_total", endpoint="limited") == {"limit": 1}


def test_a_handshake_that_a_fault_ends(suite: RunningSuite) -> None:
    with suite.connect("silent") as sock, pytest.raises(ssl.SSLError):
        suite.client_context().wrap_socket(sock, server_hostname="localhost")
    found = wait_for(suite, 1, "tls_handshake_failures_total", endpoint="silent", word="fault")
    assert found.value("tls_handshakes_failed_total", endpoint="silent") == 1
    assert found.by("fault", "faults_total", endpoint="silent") == {"alert": 1}


def test_bytes_in_records_that_are_written_again(suite: RunningSuite) -> None:
    with suite.connect("records") as sock:
        client = TLSClient(sock, suite.client_context())
        assert echo(client, bytes(1000), client.close_notify) == bytes(1000)  # type: ignore[arg-type]
    found = wait_for(suite, 1, "connections_ended_total", endpoint="records", reason="closed")
    assert found.value("stream_sent_bytes_total", endpoint="records") == 1000
    assert found.value("tls_handshakes_total", endpoint="records") == 1


# Datagrams.


def send_datagrams(suite: RunningSuite, endpoint: str, *sizes: int, answers: int) -> int:
    """Send datagrams of these *sizes*; return the bytes in the *answers* that come back."""
    with suite.connect(endpoint) as sock:
        for size in sizes:
            sock.send(bytes(size))
        return sum(len(sock.recv(65536)) for _ in range(answers))


def datagrams(suite: RunningSuite, endpoint: str, received: int) -> tuple[float | None, ...]:
    """Bytes received, datagrams and bytes sent, and those lost, once so many have been *received*."""
    found = wait_for(suite, received, "datagrams_received_total", endpoint=endpoint)
    return tuple(
        found.value(name, endpoint=endpoint)
        for name in (
            "datagram_received_bytes_total",
            "datagrams_sent_total",
            "datagram_sent_bytes_total",
            "datagrams_lost_total",
        )
    )


def test_datagrams(suite: RunningSuite) -> None:
    assert send_datagrams(suite, "udp", 0, 1, 1200, answers=3) == 1201
    assert datagrams(suite, "udp", 3) == (1201, 3, 1201, 0)
    with ExitStack() as stack:  # from many at once
        socks = [stack.enter_context(suite.connect("udp")) for _ in range(40)]
        for sock in socks:
            sock.send(bytes(10))
        assert sum(len(sock.recv(100)) for sock in socks) == 400
    assert datagrams(suite, "udp", 43) == (1601, 43, 1601, 0)


def test_a_train_of_datagrams(suite: RunningSuite) -> None:
    segment = 103  # UDP_SEGMENT (linux/udp.h)
    before = scrape(suite)
    count = before.value("datagrams_received_total", endpoint="udp") or 0
    size = before.value("datagram_received_bytes_total", endpoint="udp") or 0
    with suite.connect("udp") as sock:
        try:
            sock.setsockopt(socket.IPPROTO_UDP, segment, 100)
        except OSError as error:
            pytest.skip(f"this kernel has no trains: {error}")
        sock.send(bytes(950))
        assert sum(len(sock.recv(65536)) for _ in range(10)) == 950
    found = wait_for(suite, count + 10, "datagrams_received_total", endpoint="udp")
    assert found.value("datagram_received_bytes_total", endpoint="udp") == size + 950
    assert found.value("datagrams_sent_total", endpoint="udp") == count + 10
    assert found.value("datagram_sent_bytes_total", endpoint="udp") == size + 950


def test_datagrams_that_are_not_answered(suite: RunningSuite) -> None:
    send_datagrams(suite, "udp-denied", 5, 6, answers=0)
    assert datagrams(suite, "udp-denied", 2) == (11, 0, 0, 0)
    unanswered = scrape(suite).by("reason", "datagrams_unanswered_total", endpoint="udp-denied")
    assert unanswered == {"denied": 2}
    send_datagrams(suite, "udp-discard", 7, answers=0)
    assert datagrams(suite, "udp-discard", 1) == (7, 0, 0, 0)


def test_datagrams_over_the_rate(suite: RunningSuite) -> None:
    """Three at once, and one more a second."""
    send_datagrams(suite, "udp-rate", *[10] * 20, answers=3)
    size, answered, sent, lost = datagrams(suite, "udp-rate", 20)
    unanswered = scrape(suite).by("reason", "datagrams_unanswered_total", endpoint="udp-rate")
    assert answered is not None
    assert 3 <= answered < 20
    assert (size, sent, lost) == (200, 10 * answered, 0)
    assert unanswered == {"rate": 20 - answered}


def test_datagrams_with_another_answer(suite: RunningSuite) -> None:
    assert send_datagrams(suite, "udp-time", 3, 10, answers=1) == 4
    assert datagrams(suite, "udp-time", 2) == (13, 1, 4, 0)
    assert scrape(suite).by("reason", "datagrams_unanswered_total", endpoint="udp-time") == {"size": 1}


def test_datagrams_under_faults(suite: RunningSuite) -> None:
    assert send_datagrams(suite, "udp-twice", 10, answers=2) == 20
    assert datagrams(suite, "udp-twice", 1) == (10, 2, 20, 0)
    send_datagrams(suite, "udp-lossy", 10, 10, answers=0)
    assert datagrams(suite, "udp-lossy", 2) == (20, 0, 0, 0)
    found = scrape(suite)
    assert found.by("fault", "faults_total", endpoint="udp-twice") == {"duplicate": 1}
    assert found.by("fault", "faults_total", endpoint="udp-lossy") == {"loss": 2}


# Everything.


def test_no_peer_is_in_it(suite: RunningSuite) -> None:
    with suite.connect("tcp") as sock:
        host, port = sock.getsockname()
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        text = scrape(suite).text
    assert str(port) not in text
    assert host not in text
