"""The record layer: RFC 8448's vectors, and rewriting that changes no content."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from suite.faults import records
from suite.faults.records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    MAX_CONTENT,
    SUITES,
    Keys12,
    Keys13,
    RecordError,
    Rewriter,
    hello_alone,
    plain_alert,
    server_hello,
    split_records,
)
from tests.faults import rfc8448

AES_128 = SUITES[0x1301]

SECRETS = [
    b"SERVER_HANDSHAKE_TRAFFIC_SECRET %s %s" % (b"00" * 32, rfc8448.SERVER_HANDSHAKE_SECRET.hex().encode()),
    b"SERVER_TRAFFIC_SECRET_0 %s %s" % (b"00" * 32, rfc8448.SERVER_SECRET.hex().encode()),
]


def rewriter(size: int = MAX_CONTENT) -> Rewriter:
    """One that knows the secrets of RFC 8448."""
    made = Rewriter(size)
    for line in SECRETS:
        made.note_secret(line)
    return made


def ticket(keys: Keys13) -> bytes:
    """A record as the first one after the handshake."""
    return keys.seal(HANDSHAKE, b"\x04\x00\x00\x02ok")


# Keys.


@pytest.mark.parametrize(
    ("secret", "key", "iv"),
    [
        (rfc8448.SERVER_HANDSHAKE_SECRET, rfc8448.SERVER_HANDSHAKE_KEY, rfc8448.SERVER_HANDSHAKE_IV),
        (rfc8448.SERVER_SECRET, rfc8448.SERVER_KEY, rfc8448.SERVER_IV),
    ],
)
def test_keys_follow_from_secrets_as_in_rfc_8448(secret: bytes, key: bytes, iv: bytes) -> None:
    keys = Keys13(AES_128, secret)
    assert (keys.key, keys.iv) == (key, iv)


def test_records_are_sealed_and_opened_as_in_rfc_8448() -> None:
    keys = Keys13(AES_128, rfc8448.SERVER_HANDSHAKE_SECRET)
    assert keys.seal(HANDSHAKE, rfc8448.SERVER_FLIGHT) == rfc8448.SERVER_FLIGHT_RECORD
    keys = Keys13(AES_128, rfc8448.SERVER_HANDSHAKE_SECRET)
    assert keys.open(rfc8448.SERVER_FLIGHT_RECORD) == (HANDSHAKE, rfc8448.SERVER_FLIGHT)
    keys = Keys13(AES_128, rfc8448.SERVER_SECRET)
    ticket(keys)
    assert keys.seal(APPLICATION_DATA, rfc8448.SERVER_DATA) == rfc8448.SERVER_DATA_RECORD
    assert keys.seal(ALERT, b"\x01\x00") == rfc8448.SERVER_ALERT_RECORD


def test_padding_is_no_content() -> None:
    sealed, opened = (Keys13(AES_128, rfc8448.SERVER_SECRET) for _ in range(2))
    padded = sealed.seal(0, b"hola" + bytes([APPLICATION_DATA]) + bytes(99))  # the 0 is padding, too
    assert opened.open(padded) == (APPLICATION_DATA, b"hola")


def test_updated_keys_are_others_and_begin_anew() -> None:
    keys = Keys13(AES_128, rfc8448.SERVER_SECRET)
    ticket(keys)
    updated = keys.updated()
    assert updated.number == 0
    assert len({keys.key, updated.key, updated.updated().key}) == 3
    with pytest.raises(InvalidTag):
        updated.open(rfc8448.SERVER_DATA_RECORD)


def test_the_pseudo_random_function_of_tls_1_2() -> None:
    """The vector for SHA-256 that everybody tests with (IETF's mailing list tls, 2009)."""
    assert records.prf(
        SUITES[0xC02B],
        bytes.fromhex("9bbe436ba940f017b17652849a71db35"),
        "test label",
        bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c"),
        100,
    ) == bytes.fromhex(
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
        "0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
        "87347b66"
    )


@pytest.mark.parametrize("number", sorted(SUITES), ids=hex)
def test_what_one_side_seals_the_other_opens(number: int) -> None:
    suite = SUITES[number]
    secret = bytes(suite.hash().digest_size)
    if number >> 8 == 0x13:
        sealing, opening = Keys13(suite, secret), Keys13(suite, secret)
        pair: tuple[Keys12 | Keys13, Keys12 | Keys13] = sealing, opening
    else:
        master = bytes(48)
        pair = Keys12(suite, master, b"c" * 32, b"s" * 32), Keys12(suite, master, b"c" * 32, b"s" * 32)
    for content in (b"hola", b"", b"mundo"):
        assert pair[1].open(pair[0].seal(APPLICATION_DATA, content)) == (APPLICATION_DATA, content)


# Reading.


def test_a_server_hello_is_read() -> None:
    hello = server_hello(rfc8448.SERVER_HELLO_RECORD[9:])
    assert (hello.random, hello.suite, hello.version13) == (rfc8448.SERVER_RANDOM, 0x1301, True)
    assert not hello.retry
    assert hello._replace(random=records.RETRY).retry


def test_nothing_follows_a_server_hello_alone() -> None:
    flight = rfc8448.SERVER_HELLO_RECORD + b"\x14\x03\x03\x00\x01\x01" + rfc8448.SERVER_FLIGHT_RECORD
    assert hello_alone(flight) == (rfc8448.SERVER_HELLO_RECORD, True)
    cut = rewriter(7).rewrite(rfc8448.SERVER_HELLO_RECORD)
    assert hello_alone(cut + rfc8448.SERVER_FLIGHT_RECORD) == (cut, True)


def test_a_hello_retry_request_is_not_the_server_hello() -> None:
    retry = rfc8448.SERVER_HELLO_RECORD.replace(rfc8448.SERVER_RANDOM, records.RETRY)
    assert hello_alone(retry + b"\x14\x03\x03\x00\x01\x01") == (retry + b"\x14\x03\x03\x00\x01\x01", False)
    assert hello_alone(plain_alert(40)) == (plain_alert(40), False)
    assert hello_alone(b"") == (b"", False)


# Writing again.


class Reader:
    """The client's side of RFC 8448: opens what a `Rewriter` has written."""

    def __init__(self) -> None:
        self.keys: Keys13 | None = None

    def read(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The kind and content of each record; only KeyUpdate messages are looked at."""
        message = b""
        for record in split_records(data):
            kind, content = record[0], record[5:]
            if self.keys is not None and kind != CHANGE_CIPHER_SPEC:
                kind, content = self.keys.open(record)
            yield kind, content
            if kind == HANDSHAKE and self.keys is not None:
                message += content
                if message == b"\x18\x00\x00\x01\x00":
                    self.keys = self.keys.updated()
                    message = b""
                elif not b"\x18\x00\x00\x01\x00".startswith(message):
                    message = b""

    def switch(self, secret: bytes) -> None:
        self.keys = Keys13(AES_128, secret)


def handshake(size: int) -> tuple[Rewriter, Reader]:
    """A rewriter and its reader after RFC 8448's handshake, all of which is checked."""
    writer, reader = rewriter(size), Reader()
    hello = [*reader.read(writer.rewrite(rfc8448.SERVER_HELLO_RECORD + b"\x14\x03\x03\x00\x01\x01"))]
    *parts, (last, content) = hello
    assert (last, content) == (CHANGE_CIPHER_SPEC, b"\x01")
    assert b"".join(part for _, part in parts) == rfc8448.SERVER_HELLO_RECORD[5:]
    reader.switch(rfc8448.SERVER_HANDSHAKE_SECRET)
    flight = [*reader.read(writer.rewrite(rfc8448.SERVER_FLIGHT_RECORD))]
    assert {kind for kind, _ in flight} == {HANDSHAKE}
    assert b"".join(part for _, part in flight) == rfc8448.SERVER_FLIGHT
    assert max(len(part) for _, part in parts + flight) == min(size, len(rfc8448.SERVER_FLIGHT))
    reader.switch(rfc8448.SERVER_SECRET)
    return writer, reader


@pytest.mark.parametrize("size", [1, 2, 5, 50, MAX_CONTENT])
def test_a_handshake_is_written_again_in_records_of_a_size(size: int) -> None:
    writer, reader = handshake(size)
    openssl = Keys13(AES_128, rfc8448.SERVER_SECRET)
    first = [*reader.read(writer.rewrite(ticket(openssl)))]
    assert b"".join(part for _, part in first) == b"\x04\x00\x00\x02ok"
    data = [*reader.read(writer.rewrite(rfc8448.SERVER_DATA_RECORD + rfc8448.SERVER_ALERT_RECORD))]
    assert data[-1] == (ALERT, b"\x01\x00")  # never cut
    assert b"".join(part for _, part in data[:-1]) == rfc8448.SERVER_DATA


#: What may follow a handshake: application data of OpenSSL's, a key update of OpenSSL's, one of ours.
steps = st.lists(st.one_of(st.binary(max_size=400), st.sampled_from(["theirs", "ours"])), max_size=12)


@given(st.integers(1, 300), steps)
def test_whatever_is_updated_the_content_is_the_same(size: int, steps: list[bytes | str]) -> None:
    """Ours count on top of those that OpenSSL makes when a client asks for one."""
    writer, reader = handshake(size)
    openssl = Keys13(AES_128, rfc8448.SERVER_SECRET)
    sent, wire = b"", b""
    for step in steps:
        if isinstance(step, bytes):
            wire += writer.rewrite(openssl.seal(APPLICATION_DATA, step))
            sent += step
        elif step == "ours":
            wire += writer.key_update()
        else:
            wire += writer.rewrite(openssl.seal(HANDSHAKE, b"\x18\x00\x00\x01\x00"))
            openssl = openssl.updated()
    read = [*reader.read(wire)]
    assert b"".join(content for kind, content in read if kind == APPLICATION_DATA) == sent
    assert all(len(content) <= size for _, content in read)
    assert b"".join(content for kind, content in read if kind == HANDSHAKE) == (
        b"\x18\x00\x00\x01\x00" * sum(isinstance(step, str) for step in steps)
    )


def test_no_record_is_empty_that_was_not() -> None:
    """OpenSSL's peers count empty ones as an attack."""
    writer, reader = handshake(10)
    openssl = Keys13(AES_128, rfc8448.SERVER_SECRET)
    sizes = [
        len(content) for _, content in reader.read(writer.rewrite(openssl.seal(APPLICATION_DATA, bytes(20))))
    ]
    assert sizes == [10, 10]


@pytest.mark.parametrize("number", [0xC02F, 0xC030, 0xCCA8])
@pytest.mark.parametrize("size", [1, 16, MAX_CONTENT])
def test_tls_1_2_is_written_again(number: int, size: int) -> None:
    master, client_random = bytes(48), bytes(32)
    body = b"\x03\x03" + b"s" * 32 + b"\0" + number.to_bytes(2, "big") + b"\0"
    hello = b"\x02" + len(body).to_bytes(3, "big") + body
    writer = Rewriter(size)
    writer.note_secret(b"CLIENT_RANDOM %s %s" % (client_random.hex().encode(), master.hex().encode()))
    openssl, client = (Keys12(SUITES[number], master, client_random, b"s" * 32) for _ in range(2))
    plain = writer.rewrite(b"\x16\x03\x03" + len(hello).to_bytes(2, "big") + hello)
    assert b"".join(record[5:] for record in split_records(plain)) == hello
    assert not writer.version13
    assert writer.alert(80) == plain_alert(80), "nothing is encrypted yet"
    assert writer.rewrite(b"\x14\x03\x03\x00\x01\x01") == b"\x14\x03\x03\x00\x01\x01"
    finished = b"\x14\x00\x00\x0cverify data."
    wire = writer.rewrite(openssl.seal(HANDSHAKE, finished) + openssl.seal(APPLICATION_DATA, b"hola mundo"))
    opened = [client.open(record) for record in split_records(wire)]
    assert b"".join(content for kind, content in opened if kind == HANDSHAKE) == finished
    assert b"".join(content for kind, content in opened if kind == APPLICATION_DATA) == b"hola mundo"
    assert max(len(content) for _, content in opened) <= size
    assert all(before <= after for (before, _), (after, _) in pairwise(opened))
    assert client.open(writer.alert(80)) == (ALERT, b"\x02\x50")


def test_an_alert_before_anything_is_encrypted_is_plain() -> None:
    assert Rewriter(1).alert(40) == plain_alert(40) == b"\x15\x03\x03\x00\x02\x02\x28"


def test_a_suite_that_is_not_known_is_no_guess() -> None:
    unknown = rfc8448.SERVER_HELLO_RECORD.replace(b"\x00\x13\x01\x00", b"\x00\x13\x04\x00")
    with pytest.raises(RecordError, match="suite=4868"):
        rewriter().rewrite(unknown)
    with pytest.raises(RecordError, match="no SERVER_HANDSHAKE_TRAFFIC_SECRET"):
        Rewriter().rewrite(rfc8448.SERVER_HELLO_RECORD)
