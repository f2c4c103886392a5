"""What a ClientHello says, however it is cut, and that nothing in it is an error."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from suite.client_hello import (
    MAX_CLIENT_HELLO,
    ClientHello,
    Extension,
    KeyShare,
    find_client_hello,
    is_grease,
    read_client_hello,
)
from suite.faults.records import split_records
from tests.config.test_parsers_property import mutated
from tests.faults import rfc8448
from tests.hellos import RECORDED, RecordedHello
from tests.tshark import as_tshark, read_by_tshark

recorded = pytest.mark.parametrize("hello", RECORDED, ids=lambda hello: hello.client)

RFC8448 = ClientHello(
    name="server",
    versions=(0x0304,),
    legacy_version=0x0303,
    record_version=0x0301,
    suites=(0x1301, 0x1303, 0x1302),
    compressions=(0,),
    extensions=tuple(
        Extension(kind, size)
        for kind, size in (
            (0, 11),
            (0xFF01, 1),
            (10, 20),
            (35, 0),
            (51, 38),
            (43, 3),
            (13, 32),
            (45, 2),
            (28, 2),
        )
    ),
    groups=(0x1D, 0x17, 0x18, 0x19, 0x100, 0x101, 0x102, 0x103, 0x104),
    signatures=(
        *(0x0403, 0x0503, 0x0603, 0x0203, 0x0804, 0x0805, 0x0806, 0x0401),
        *(0x0501, 0x0601, 0x0201, 0x0402, 0x0502, 0x0602, 0x0202),
    ),
    key_shares=(KeyShare(0x1D, 32),),
    psk_modes=(1,),
    size=196,
    records=(196,),
)


def openssl_hello(name: bytes | None, *, version: int = 0, alpn: tuple[bytes, ...] = ()) -> bytes:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if version:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if alpn:
        context.set_alpn_protos(list(alpn))
    client = SSL.Connection(context, None)
    client.set_connect_state()
    if name is not None:
        client.set_tlsext_host_name(name)
    with suppress(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(2**16)


def cut(hello: bytes, *sizes: int) -> bytes:
    """*hello*, of one record, in records of these *sizes* in turn."""
    content, records = hello[5:], b""
    turn = 0
    while content:
        size = sizes[turn % len(sizes)]
        part, content = content[:size], content[size:]
        records += hello[:3] + len(part).to_bytes(2, "big") + part
        turn += 1
    return records


def test_the_client_hello_of_rfc_8448() -> None:
    assert read_client_hello(rfc8448.CLIENT_HELLO_RECORD) == RFC8448


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_the_client_hello_of_openssl(version: int) -> None:
    hello = openssl_hello(b"Reset-at-64KiB.Localhost", version=version, alpn=(b"h2", b"http/1.1"))
    read = read_client_hello(hello)
    assert read is not None
    assert (read.name, read.protocols) == ("reset-at-64kib.localhost", (b"h2", b"http/1.1"))
    assert version in read.versions


def test_a_client_need_not_ask_for_a_name() -> None:
    read = read_client_hello(openssl_hello(None))
    assert read is not None
    assert read.name is None


def test_tls_1_2_without_extensions() -> None:
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\x00\x02\xc0\x2f" + b"\x01\0"
    hello = (
        b"\x16\x03\x01" + (4 + len(body)).to_bytes(2, "big") + b"\x01" + len(body).to_bytes(3, "big") + body
    )
    assert read_client_hello(hello) == ClientHello(
        versions=(0x0303,),
        legacy_version=0x0303,
        record_version=0x0301,
        suites=(0xC02F,),
        compressions=(0,),
        size=4 + len(body),
        records=(4 + len(body),),
    )


@given(st.lists(st.integers(1, 300), min_size=1, max_size=10))
def test_it_may_be_spread_over_any_records(sizes: list[int]) -> None:
    records = cut(rfc8448.CLIENT_HELLO_RECORD, *sizes)
    read = read_client_hello(records)
    assert read is not None
    assert replace(read, records=(196,)) == RFC8448
    assert read.records == tuple(len(record) - 5 for record in split_records(records))


def test_what_follows_it_is_not_looked_at() -> None:
    assert read_client_hello(rfc8448.CLIENT_HELLO_RECORD + b"\x17\x03\x03\x00\x05early") == RFC8448
    assert read_client_hello(rfc8448.CLIENT_HELLO_RECORD + b"\x14\x03\x03\x00\x01\x01") == RFC8448


@pytest.mark.parametrize("size", range(len(rfc8448.CLIENT_HELLO_RECORD)))
def test_one_that_is_cut_off_says_nothing(size: int) -> None:
    assert read_client_hello(rfc8448.CLIENT_HELLO_RECORD[:size]) is None


@recorded
def test_what_real_clients_say_is_what_tshark_reads(hello: RecordedHello) -> None:
    read = read_client_hello(hello.records)
    assert read is not None
    assert as_tshark(read) == hello.tshark
    assert not read.malformed


def test_tshark_still_reads_that(tmp_path: Path) -> None:
    """Whole, and in records of any size."""
    records = [hello.records for hello in RECORDED]
    records += [cut(hello.records, 1, 100, 7) for hello in RECORDED]
    for data, reading in zip(records, read_by_tshark(tmp_path, records), strict=True):
        read = read_client_hello(data)
        assert read is not None
        # It tells the version of each record that is in the last packet.
        assert as_tshark(read) == {**reading, "record_version": reading["record_version"][:1]}


def test_at_least_eight_clients_are_recorded() -> None:
    assert len({hello.client for hello in RECORDED}) >= 8


def test_grease_is_sent_by_browsers() -> None:
    (browser,) = (hello for hello in RECORDED if hello.client == "chromium")
    read = read_client_hello(browser.records)
    assert read is not None
    shares = [share.group for share in read.key_shares]
    for numbers in (read.suites, read.groups, read.versions, shares):
        assert [is_grease(number) for number in numbers] == [True] + [False] * (len(numbers) - 1)
    assert [is_grease(each.kind) for each in read.extensions].count(True) == 2


def test_grease_has_sixteen_values() -> None:
    values = [value for value in range(2**16) if is_grease(value)]
    assert values == [0x0A0A + 0x1010 * number for number in range(16)]


def hello_with(*extensions: tuple[int, bytes], suite: int = 0xC02F) -> bytes:
    """A ClientHello that offers one *suite*, with these extensions."""
    listed = b"".join(
        kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content for kind, content in extensions
    )
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\x00\x02" + suite.to_bytes(2, "big") + b"\x01\0"
    body += len(listed).to_bytes(2, "big") + listed
    content = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (content[start : start + 16384] for start in range(0, len(content), 16384))
    )


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (0, b"\x00\x0a\x00\x00\x07serv\xc3\xa9"),  # not ASCII, and longer than it says
        (0, b"\x00\x08\x00\x00\x05serv\xc3"),
        (0, b""),
        (10, b"\x00\x03\x00\x1d\x00"),
        (13, b"\x00\x04\x04\x03"),
        (16, b"\x00\x03\x02h2more"),
        (43, b"\x03\x03\x04\x03"),
        (51, b"\x00\x06\x00\x1d\x00\x20ab"),
    ],
)
def test_an_extension_that_cannot_be_read_is_named(kind: int, content: bytes) -> None:
    read = read_client_hello(hello_with((kind, content), (45, b"\x01\x01")))
    assert read is not None
    assert read.malformed == (kind,)
    assert (read.name, read.protocols, read.versions) == (None, (), (0x0303,))
    assert (read.groups, read.signatures, read.key_shares) == ((), (), ())
    assert read.psk_modes == (1,)


def test_the_longest_one() -> None:
    """Longer than `MAX_CLIENT_HELLO` is none; the others are kept in full, and in linear time."""
    room = MAX_CLIENT_HELLO - (len(hello_with((0xAAAA, b""))) - 9)
    longest = hello_with((0xAAAA, bytes(room)))
    read = read_client_hello(longest)
    assert read is not None
    assert read.size == 4 + MAX_CLIENT_HELLO
    assert sum(read.records) == read.size
    assert read_client_hello(hello_with((0xAAAA, bytes(room + 1)))) is None
    with pytest.raises(ValueError, match="too long"):
        find_client_hello(hello_with((0xAAAA, bytes(room + 1)))[:9])


@given(st.lists(st.tuples(st.sampled_from((0, 10, 11, 13, 16, 43, 45, 50, 51, 21)), st.binary(max_size=40))))
def test_extensions_may_contain_anything(extensions: list[tuple[int, bytes]]) -> None:
    read = read_client_hello(hello_with(*extensions))
    assert read is not None
    assert read.extensions == tuple((kind, len(content)) for kind, content in extensions)
    assert set(read.malformed) <= {kind for kind, _ in extensions}


def test_what_is_missing_is_awaited() -> None:
    record = rfc8448.CLIENT_HELLO_RECORD
    assert all(find_client_hello(record[:size]) is None for size in range(len(record)))
    with pytest.raises(ValueError, match="no handshake record"):
        find_client_hello(b"G")
    with pytest.raises(ValueError, match="no ClientHello"):
        find_client_hello(rfc8448.SERVER_HELLO_RECORD[:6])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + bytes(40),  # SSL 2
        rfc8448.SERVER_HELLO_RECORD,
        b"\x16\x03\x01\x00\x00",
    ],
)
def test_what_is_none_gives_none(data: bytes) -> None:
    assert read_client_hello(data) is None


@given(st.one_of(st.binary(max_size=300), mutated(rfc8448.CLIENT_HELLO_RECORD), mutated(RECORDED[0].records)))
def test_nothing_is_an_error(data: bytes) -> None:
    read = read_client_hello(data)
    assert read is None or isinstance(read.name, str | None)
