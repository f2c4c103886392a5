"""`suite.engine.binding`: addresses that are valid on one interface only."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address

from suite.engine.binding import with_scope
from suite.engine.datagram import DatagramPort

(INDEX, INTERFACE) = socket.if_nameindex()[0]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("fe80::7", 5, 0, INDEX), f"fe80::7%{INTERFACE}"),
        (("2001:db8::7", 5, 0, 0), "2001:db8::7"),
        (("192.0.2.7", 5), "192.0.2.7"),
    ],
)
def test_a_udp_port_says_on_which_interface_its_address_is_valid(address: Any, host: str) -> None:
    assert with_scope(address) == (host, *address[1:])
    port: Any = object.__new__(DatagramPort)
    six = ":" in host
    port.addressFamily = socket.AF_INET6 if six else socket.AF_INET
    port.socket = SimpleNamespace(getsockname=lambda: address)
    assert port.getHost() == (IPv6Address if six else IPv4Address)("UDP", host, 5)


@pytest.mark.parametrize("address", ["", "path", b"\0abstract"])
def test_a_unix_socket_has_no_scope(address: Any) -> None:
    assert with_scope(address) == address
