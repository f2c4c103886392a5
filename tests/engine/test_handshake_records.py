"""`suite.engine.handshake_records`: whole records, bounded messages."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.client_hello import MAX_CLIENT_HELLO
from suite.engine.handshake_records import (
    MAX_HANDSHAKE,
    MAX_HELD,
    MAX_MESSAGE,
    MAX_RECORD,
    ORDINARY_HANDSHAKE,
    HandshakeBudget,
    HandshakeRecords,
    HandshakeTooLargeError,
)

HELLO, CERTIFICATE, FINISHED = 1, 11, 20


def record(content: bytes, kind: int = 22) -> bytes:
    """A TLS record."""
    return bytes([kind, 3, 1]) + len(content).to_bytes(2, "big") + content


def message(kind: int, length: int) -> bytes:
    """The header of a handshake message that announces *length* bytes."""
    return bytes([kind]) + length.to_bytes(3, "big")


def records(content: bytes, size: int) -> bytes:
    """*content* in records of *size* bytes."""
    return b"".join(record(content[at : at + size]) for at in range(0, len(content), size))


class Reader(HandshakeRecords):
    """It reads in one version of TLS."""

    def __init__(self, *, version13: bool = True) -> None:
        super().__init__()
        self.version13 = version13

    def read(self, data: bytes) -> list[bytes]:
        """The records that are complete with *data*."""
        return list(self.split(data, lambda: self.version13))


@pytest.fixture
def reader() -> Reader:
    return Reader()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 50))
def test_records_come_whole_however_they_were_cut(sizes: list[int], step: int) -> None:
    sent = [record(bytes(size), kind=23) for size in sizes]
    data, found, reader = b"".join(sent), [], Reader()
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        found += reader.read(piece)
        assert reader.taken == len(piece)
    assert found == sent
    assert reader.received == len(data)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 50), st.data())
def test_what_comes_after_the_last_record_wanted_is_not_taken(
    sizes: list[int], step: int, drawn: st.DataObject
) -> None:
    """It is read by OpenSSL itself, from the socket, where it still is."""
    sent = [record(bytes(size), kind=23) for size in sizes]
    wanted = drawn.draw(st.integers(1, len(sent)))
    data, reader, read = b"".join(sent), Reader(), 0
    found: list[bytes] = []
    while len(found) < wanted:
        for one in reader.split(data[read : read + step], lambda: True):
            found.append(one)
            if len(found) == wanted:
                break
        read += reader.taken
    assert found == sent[:wanted]
    assert read == reader.received == len(b"".join(found))


def test_a_real_client_hello_passes_as_it_is(reader: Reader) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    assert b"".join(reader.read(hello)) == hello


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000])
@pytest.mark.parametrize(
    ("kind", "limit"), [(HELLO, MAX_CLIENT_HELLO), (CERTIFICATE, MAX_MESSAGE), (FINISHED, MAX_MESSAGE)]
)
def test_a_message_may_be_so_long_and_no_longer(reader: Reader, size: int, kind: int, limit: int) -> None:
    assert reader.read(records(message(kind, limit), size))
    assert reader.incomplete
    reader = Reader()
    with pytest.raises(HandshakeTooLargeError, match=f"{limit + 1:,} bytes; expected {limit:,}"):
        reader.read(records(message(kind, limit + 1), size))


def test_the_second_hello_is_bounded_too(reader: Reader) -> None:
    """After a HelloRetryRequest there is another, perhaps behind a change_cipher_spec that means nothing."""
    reader.read(record(message(HELLO, 100) + bytes(100)))
    reader.read(record(b"\x01", kind=20))
    with pytest.raises(HandshakeTooLargeError):
        reader.read(record(message(HELLO, 2**17)))


def test_in_tls_1_2_what_follows_change_cipher_spec_is_encrypted() -> None:
    reader = Reader(version13=False)
    reader.read(record(message(HELLO, 100) + bytes(100)))
    reader.read(record(b"\x01", kind=20))
    assert reader.read(record(b"\x01\xff\xff\xff" + bytes(36)))


def test_a_message_is_complete_with_its_last_byte(reader: Reader) -> None:
    """Only then is OpenSSL asked, which would allocate memory for all of it at its header."""
    whole = message(HELLO, 56) + bytes(56)

    def incomplete_after(data: bytes) -> bool:
        reader.read(data)
        return reader.incomplete

    assert [incomplete_after(record(whole[at : at + 10])) for at in range(0, 60, 10)] == [True] * 5 + [False]
    assert incomplete_after(record(whole + whole[:3]))
    assert not incomplete_after(record(b"\x02\x28", kind=21)), (
        "an alert is for OpenSSL, whatever it interrupts"
    )


def test_several_messages_in_one_record_are_each_seen(reader: Reader) -> None:
    with pytest.raises(HandshakeTooLargeError):
        reader.read(record(message(CERTIFICATE, 10) + bytes(10) + message(16, 2**18)))


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff", b"hola mundo", b"\x16\x04\x01\x00\x10"],
)
def test_what_is_no_record_is_left_to_openssl_to_refuse(reader: Reader, garbage: bytes) -> None:
    assert reader.read(garbage)[0] == garbage[:5]


def test_a_hello_of_ssl_2_is_a_record_as_well(reader: Reader) -> None:
    hello = b"\x80\x09\x01\x03\x03" + bytes(6)
    assert reader.read(hello) == [hello]


def test_a_handshake_may_be_so_long_and_no_longer(reader: Reader) -> None:
    full = record(bytes(MAX_RECORD), kind=23)
    for _ in range(MAX_HANDSHAKE // len(full)):
        assert reader.read(full) == [full]
    with pytest.raises(HandshakeTooLargeError, match="in a handshake"):
        reader.read(full)


def test_ordinary_handshakes_cost_the_budget_nothing_and_large_ones_share_it() -> None:
    budget = HandshakeBudget()
    for _ in range(10_000):
        budget.change(0, ORDINARY_HANDSHAKE)
    assert budget.held == 0
    for _ in range(MAX_HELD // MAX_CLIENT_HELLO):
        budget.change(0, MAX_CLIENT_HELLO)
    assert budget.held == MAX_HELD
    with pytest.raises(HandshakeTooLargeError, match="together"):
        budget.change(0, ORDINARY_HANDSHAKE + 1)
    budget.change(0, ORDINARY_HANDSHAKE)
    budget.change(MAX_CLIENT_HELLO, 0)
    budget.change(ORDINARY_HANDSHAKE, MAX_CLIENT_HELLO)
    assert budget.held == MAX_HELD
