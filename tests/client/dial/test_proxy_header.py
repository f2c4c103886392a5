"""The PROXY headers that clients send."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from suite.client.dial.proxy_header import VERSIONS, Version, header_of, proxy_header
from suite.endpoints.proxy_protocol import ProxyHeader


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (("192.0.2.1", 1025), ("203.0.113.9", 443)),
        (("2001:db8::1", 65535, 0, 0), ("::1", 1, 0, 0)),
        (("fe80::1%lo", 7, 0, 1), ("fe80::2%lo", 8, 0, 1)),
    ],
)
def test_a_header_names_both_ends(version: Version, source: Any, destination: Any) -> None:
    """Read back by the parser of the suite's own endpoints."""
    read = ProxyHeader()
    header = header_of(version, source, destination)
    assert read.feed(header + b"payload") == len(header)
    for found, end in ((read.source, source), (read.destination, destination)):
        address: Any = found
        assert (address.host, address.port) == (end[0].partition("%")[0], end[1])


def test_the_bytes_of_a_header() -> None:
    """As the protocol's text has them (sections 2.1 and 2.2)."""
    ends = (("192.0.2.1", 56324), ("192.0.2.2", 443))
    assert header_of("v1", *ends) == b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
    assert header_of("v2", *ends) == bytes.fromhex("0d0a0d0a000d0a515549540a2111000cc0000201c0000202dc0401bb")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_unix_socket_has_no_addresses_to_name(version: Version) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        header = proxy_header(version, ours)
    read = ProxyHeader()
    assert read.feed(header) == len(header)
    assert read.complete
    assert (read.source, read.destination) == (None, None)
