"""Records of a size, key updates, and what is shared with others, in memory."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from OpenSSL import SSL

from suite.config.tls import TLS
from suite.endpoints.tls import choose_by_name, server_context
from suite.engine.openssl import set_groups
from suite.faults.records import APPLICATION_DATA, HANDSHAKE
from suite.identities import load_identity
from tests.engine.test_stream import context_of
from tests.faults.tls_wire import DATA, VERSIONS, Wire, both, fragment, storm


@both
@pytest.mark.parametrize("size", [1, 3, 100, 16384])
def test_records_have_a_size(wire: Callable[..., Wire], version: str, size: int) -> None:
    data = DATA if size > 3 else DATA[:5000]
    made = wire(fragment(size), version=version)
    made.talk(data)
    made.finish()
    assert (made.received, made.error, made.end) == (data, "close_notify", "eof")
    overhead = 17 if version == "1.3" else 24  # content type and tag; explicit nonce and tag
    sizes = [length for kind, length in made.plain() if kind in (HANDSHAKE, APPLICATION_DATA)]
    if version == "1.3":
        assert sizes.pop() == 2 + overhead, "the close_notify, which cannot be cut"
    assert max(sizes) <= size + overhead
    assert made.protocol.handshakes == 1


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_combined_no_byte_is_changed(wire: Callable[..., Wire], data: DataObject) -> None:
    faults = [fragment(data.draw(st.integers(1, 400)))] if data.draw(st.booleans()) else []
    for _ in range(data.draw(st.integers(0, 3))):
        after = data.draw(st.one_of(st.none(), st.integers(0, 2000)))
        faults.append(storm(data.draw(st.integers(1, 100)), **({} if after is None else {"size": after})))
    made = wire(*faults, version=data.draw(st.sampled_from(["1.2", "1.3"])))
    made.run()
    sent = b""
    for _ in range(data.draw(st.integers(1, 3))):
        piece = data.draw(st.binary(min_size=1, max_size=1000))
        made.tls.send(piece)
        sent += piece
        if data.draw(st.booleans()):
            made.run()
    made.finish()
    assert (made.received, made.error, made.end) == (sent, "close_notify", "eof")
    made.close()


@both
def test_an_unread_piece_is_all_that_waits(wire: Callable[..., Wire], version: str) -> None:
    """The wire is 24 times what the protocol writes, and must not be kept for a client that does not read."""
    made = wire(fragment(1), version=version)
    made.run()
    transport = made.transport
    transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for _ in range(10):
        transport.write(bytes(1500))
    assert 0 < len(transport._wire) <= 1024 * 30
    assert transport.unsent - len(transport._wire) >= 12_000
    made.run()
    assert made.received == bytes(15_000)


@both
def test_sessions_resume(wire: Callable[..., Wire], version: str) -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_max_proto_version(VERSIONS[version])
    first = wire(fragment(5), client=client)
    first.talk(b"hola")
    again = wire(fragment(5), storm(3), client=client, session=first.tls.get_session())
    again.talk(b"hola")
    assert again.received == b"hola"
    assert len(again.wire) < len(first.wire) / 2, "no certificate"


@both
def test_an_end_of_the_peers_without_close_notify_is_one(wire: Callable[..., Wire], version: str) -> None:
    made = wire(fragment(9), version=version)
    made.talk(b"hola")
    made.peer.send(b"\x17\x03\x03")  # a record that will never be complete
    made.peer.shutdown(socket.SHUT_WR)
    made.run()
    assert not made.transport.close_notify_received
    assert made.end == "eof"


@both
def test_an_alert_of_openssls_is_sent_before_the_end(wire: Callable[..., Wire], version: str) -> None:
    made = wire(fragment(9), version=version)
    made.talk(b"hola")
    made.peer.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    made.run()
    assert "bad record mac" in made.error
    assert made.protocol.lost_because(SSL.Error)


# Key updates.


def test_a_storm_of_key_updates(wire: Callable[..., Wire]) -> None:
    made = wire(storm(1000))
    made.talk()
    assert made.received == DATA
    made.finish()
    assert (made.error, made.end) == ("close_notify", "eof")
    updates = [length for kind, length in made.plain() if (kind, length) == (APPLICATION_DATA, 22)]
    assert len(updates) >= 1000


@pytest.mark.parametrize("size", [1, 16384])
def test_storms_come_after_so_many_bytes(wire: Callable[..., Wire], size: int) -> None:
    data = DATA if size > 1 else DATA[:3000]
    made = wire(storm(300, size=1500), storm(5, size=7), fragment(size))
    made.talk(data)
    assert made.received == data
    sizes = [length for kind, length in made.plain() if kind == APPLICATION_DATA]
    if size > 1:
        first = sizes.index(22)
        assert sizes[first - 1] == 7 + 17
        assert sizes[first : first + 6] == [22] * 5 + [1493 + 17]
        assert sizes[first + 6 : first + 306] == [22] * 300


def test_a_storm_comes_after_so_many_seconds(wire: Callable[..., Wire]) -> None:
    made = wire(storm(4, seconds=2.0))
    made.talk(b"hola")
    before = len(made.wire)
    made.reactor.clock.advance(1.9)
    made.run()
    assert len(made.wire) == before
    made.reactor.clock.advance(0.2)
    made.run()
    assert len(made.wire) - before == 4 * 27
    made.talk(b"hola")
    assert made.received == b"holahola"


def test_a_storm_that_does_not_come_any_more_is_forgotten(wire: Callable[..., Wire]) -> None:
    made = wire(storm(4, seconds=2.0))
    made.talk(b"hola")
    made.finish()
    assert made.reactor.clock.getDelayedCalls() == []


def test_over_tls_1_2_it_does_not_strike_and_the_log_says_so(
    wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("suite.faults.tls.log.info", lambda text, **fields: said.append(text))
    made = wire(storm(4), version="1.2")
    made.talk()
    made.finish()
    assert (made.received, made.error) == (DATA, "close_notify")
    assert said == ["key_update does not strike: TLS 1.2 has no key updates"], "no decision, for a replay"


# What is shared.


@both
def test_a_key_log_of_the_operators_is_written_too(
    certificates: Path, wire: Callable[..., Wire], version: str
) -> None:
    """And those who share the context, but have no faults, go on as before."""
    lines: list[bytes] = []
    context = context_of(certificates)
    context.set_keylog_callback(lambda connection, line: lines.append(line))
    made = wire(fragment(10), context=context, version=version)
    made.talk(b"hola")
    assert made.received == b"hola"
    labels = [line.split()[0] for line in lines]
    assert len(labels) == len(set(labels))
    assert (b"SERVER_TRAFFIC_SECRET_0" if version == "1.3" else b"CLIENT_RANDOM") in labels
    lines.clear()
    clean = wire(context=context, version=version)
    clean.talk(b"hola")
    assert (clean.received, bool(lines)) == (b"hola", True)


@both
def test_a_context_chosen_by_name_tells_its_secrets(
    certificates: Path, wire: Callable[..., Wire], version: str
) -> None:
    lines: list[bytes] = []
    default, named = context_of(certificates), context_of(certificates)
    named.set_keylog_callback(lambda connection, line: lines.append(line))
    choose_by_name(default, {"named.localhost": named})
    made = wire(fragment(10), context=default, version=version, name=b"named.localhost")
    made.talk(b"hola")
    assert made.received == b"hola"
    assert lines


@pytest.mark.parametrize("suites", ["ECDHE+AESGCM+AES128", "ECDHE+AESGCM+AES256", "ECDHE+CHACHA20"])
def test_every_kind_of_suite_of_tls_1_2(wire: Callable[..., Wire], suites: str) -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_max_proto_version(SSL.TLS1_2_VERSION)
    client.set_cipher_list(suites.encode())
    made = wire(fragment(1000), client=client)
    made.talk()
    assert made.received == DATA


@pytest.mark.parametrize(
    "suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
)
def test_every_suite_of_tls_1_3(wire: Callable[..., Wire], suite: str) -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_tls13_ciphersuites(suite.encode())
    made = wire(fragment(1000), storm(10, size=5000), client=client)
    made.talk()
    assert made.received == DATA
    assert made.tls.get_cipher_name() == suite


def test_a_hello_retry_request_is_written_again_too(wire: Callable[..., Wire]) -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    set_groups(client, b"P-521:P-384")  # the first is the one that a key is offered for
    made = wire(fragment(20), storm(3), client=client)
    made.talk()
    assert made.received == DATA


@both
def test_a_protocol_is_negotiated(certificates: Path, wire: Callable[..., Wire], version: str) -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_max_proto_version(VERSIONS[version])
    client.set_alpn_protos([b"h2", b"http/1.1"])
    made = wire(fragment(10), context=context_of(certificates, TLS(alpn=("http/1.1",))), client=client)
    made.talk(b"hola")
    assert made.transport.negotiatedProtocol == made.tls.get_alpn_proto_negotiated() == b"http/1.1"


def test_a_client_with_a_certificate_is_verified(certificates: Path, wire: Callable[..., Wire]) -> None:
    identity = load_identity(certificates / "server.pem", certificates / "server.key")
    context = server_context(identity, TLS(client_ca=certificates / "ca.pem"), session_id="test")
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.use_certificate_chain_file(str(certificates / "client.pem"))
    client.use_privatekey_file(str(certificates / "client.key"))
    made = wire(fragment(100), context=context, client=client)
    made.talk(b"hola")
    assert made.received == b"hola"
    assert "client.localhost" in made.transport.client_certificate
