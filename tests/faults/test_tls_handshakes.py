"""Handshakes that go wrong, in memory."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone

from suite.config.faults import ALERTS, Fault, Kind
from suite.engine.handshake import LEFT_HANDSHAKE
from suite.engine.openssl import set_groups
from suite.engine.tls import LINGER
from suite.faults.records import ALERT, HANDSHAKE, split_records
from suite.faults.tls import garbage
from tests.engine.test_stream import HalfCloseable
from tests.faults.tls_wire import DATA, Faulty, Wire, both


@both
def test_the_protocol_hears_the_name_before_anything_is_answered(
    wire: Callable[..., Wire], version: str
) -> None:
    protocol = Faulty(alert=[Fault(Kind.ALERT, "access_denied")])
    made = wire(protocol=protocol, version=version, name=b"ALERT")
    made.run()
    assert (protocol.names, made.error) == (["alert"], "tlsv1 alert access denied")
    assert (made.end, protocol.struck) == ("eof", "alert access_denied")


@both
def test_without_faults_it_is_an_ordinary_connection(wire: Callable[..., Wire], version: str) -> None:
    made = wire(version=version, name=None)
    made.talk()
    assert (made.received, made.protocol.data) == (DATA, DATA)
    made.finish()
    assert (made.error, made.end, made.protocol.names) == ("close_notify", "eof", [None])
    assert made.protocol.struck == ""
    assert made.protocol.lost_because(ConnectionDone)


def test_a_protocol_that_knows_no_faults_gets_an_ordinary_connection(wire: Callable[..., Wire]) -> None:
    made = wire(protocol=HalfCloseable())
    made.talk(b"hola")
    assert (made.protocol.data, made.protocol.events) == (b"hola", ["handshake"])


def test_what_is_no_client_hello_is_decided_about_as_well(wire: Callable[..., Wire]) -> None:
    made = wire(Fault(Kind.ALERT, "access_denied"))
    made.peer.send(b"GET / HTTP/1.0\r\n\r\n")
    made.act("doRead")
    assert made.peer.recv(100) == b"\x15\x03\x03\x00\x02\x02\x31"
    assert made.protocol.names == [None]


@both
@pytest.mark.parametrize("size", [1, 7])
def test_a_hello_may_come_in_any_pieces(wire: Callable[..., Wire], version: str, size: int) -> None:
    """In records of *size* bytes of content, and these byte by byte."""
    protocol = Faulty(alert=[Fault(Kind.ALERT, "access_denied")])
    made = wire(protocol=protocol, version=version, name=b"alert")
    made.client()
    hello = made.transport.socket.recv(65536)
    content = hello[5:]
    for at in range(0, len(content), size):
        part = content[at : at + size]
        for byte in hello[:3] + len(part).to_bytes(2, "big") + part:
            assert protocol.names == []
            made.peer.send(bytes([byte]))
            made.act("doRead")
    assert protocol.names == ["alert"]
    made.run()
    assert made.wire == b"\x15\x03\x03\x00\x02\x02\x31"


def test_a_protocol_may_abort_instead(wire: Callable[..., Wire]) -> None:
    class Refusing(Faulty):
        def client_hello(self, name: str | None) -> None:
            self.transport.abortConnection()  # type: ignore[union-attr]

    made = wire(protocol=Refusing(Fault(Kind.HANDSHAKE, "silent")))
    made.run()
    made.reactor.clock.advance(0)
    assert made.protocol.lost_because(ConnectionAborted)
    assert made.wire == b""


@both
@pytest.mark.parametrize("cut", [False, True])
def test_silent_answers_nothing_and_reads_on(wire: Callable[..., Wire], version: str, cut: bool) -> None:
    made = wire(Fault(Kind.HANDSHAKE, "silent"), version=version)
    made.run()
    for _ in range(20):
        made.peer.send(bytes(10_000))
        made.run()
    assert (made.wire, made.end) == (b"", "")
    assert made.transport.reading
    if cut:
        made.peer.shutdown(socket.SHUT_WR)
        made.run()
        assert made.protocol.failure.value is LEFT_HANDSHAKE
    assert made.protocol.handshakes == 0


@both
def test_stall_after_hello_sends_the_server_hello_and_nothing_more(
    wire: Callable[..., Wire], version: str
) -> None:
    made = wire(Fault(Kind.HANDSHAKE, "stall-after-hello"), version=version)
    made.run()
    (record,) = split_records(made.wire)
    assert (record[0], record[5]) == (HANDSHAKE, 2)
    assert len(record) == 5 + 4 + int.from_bytes(record[6:9], "big")
    made.peer.send(bytes(100))
    made.run()
    assert (made.end, made.protocol.failure) == ("", None)


def test_a_hello_retry_request_comes_before_the_server_hello(wire: Callable[..., Wire]) -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    set_groups(client, b"P-521:P-384")  # the first is the one that a key is offered for
    made = wire(Fault(Kind.HANDSHAKE, "stall-after-hello"), client=client)
    made.run()
    hellos = [record for record in split_records(made.wire) if record[0] == HANDSHAKE]
    assert [record[5] for record in hellos] == [2, 2]
    assert made.wire.endswith(hellos[-1])


@both
def test_close_is_a_fin_without_a_byte(wire: Callable[..., Wire], version: str) -> None:
    made = wire(Fault(Kind.HANDSHAKE, "close"), version=version)
    made.run()
    assert (made.wire, made.end, made.protocol.struck) == (b"", "eof", "handshake close")
    made.peer.send(b"still there")
    made.run()
    assert made.protocol.failure is None, "what still arrives must not cause a reset"
    made.peer.shutdown(socket.SHUT_WR)
    made.run()
    assert made.protocol.lost_because(ConnectionDone)
    assert made.reactor.clock.getDelayedCalls() == []


def test_who_does_not_close_after_us_is_cut_off(wire: Callable[..., Wire]) -> None:
    made = wire(Fault(Kind.HANDSHAKE, "close"))
    made.run()
    made.reactor.clock.advance(LINGER)
    made.reactor.clock.advance(0)
    assert made.protocol.lost_because(ConnectionAborted)


@both
def test_reset_is_an_abort(wire: Callable[..., Wire], version: str) -> None:
    made = wire(Fault(Kind.HANDSHAKE, "reset"), version=version)
    made.run()
    made.reactor.clock.advance(0)
    assert made.protocol.lost_because(ConnectionAborted)
    assert (made.wire, made.protocol.struck) == (b"", "handshake reset")


@both
def test_garbage_follows_from_the_seed(wire: Callable[..., Wire], version: str) -> None:
    made = wire(Fault(Kind.HANDSHAKE, "garbage"), version=version)
    made.run()
    assert made.wire == garbage(7)
    assert made.error


def test_garbage_is_no_record_of_any_version() -> None:
    for seed in range(1000):
        data = garbage(seed)
        assert data == garbage(seed)
        assert data[0] not in range(0x14, 0x20)
        assert data[0] < 0x80, "nor of SSL 2"
        assert data[1] > 3
    assert garbage(1) != garbage(2)


@both
@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_can_be_sent(wire: Callable[..., Wire], version: str, name: str) -> None:
    made = wire(Fault(Kind.ALERT, name), version=version)
    made.run()
    level = 1 if name in ("close_notify", "user_canceled", "no_renegotiation") else 2
    assert made.wire == bytes((ALERT, 3, 3, 0, 2, level, ALERTS[name]))
    assert made.end == "eof"
