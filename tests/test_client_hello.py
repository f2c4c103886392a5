"""What a ClientHello says, however it is cut, and that nothing in it is an error."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from suite.client_hello import ClientHello, Extension, KeyShare, read_client_hello
from suite.faults.records import split_records
from tests.config.test_parsers_property import mutated
from tests.faults import rfc8448

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


@given(st.one_of(st.binary(max_size=300), mutated(rfc8448.CLIENT_HELLO_RECORD)))
def test_nothing_is_an_error(data: bytes) -> None:
    read = read_client_hello(data)
    assert read is None or isinstance(read.name, str | None)
