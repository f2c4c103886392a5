"""`suite.engine.destination`: what a datagram was sent to, and what makes a reply leave from there."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from suite.engine.destination import (
    IP_PKTINFO,
    IPV6_PKTINFO,
    ControlMessage,
    destination,
    report_destinations,
)

pytestmark = pytest.mark.skipif(IP_PKTINFO is None, reason="needs Linux")


def pktinfo(sent_to: str, local: str, interface: int = 2) -> ControlMessage:
    """``struct in_pktinfo``."""
    data = struct.pack("=i4s4s", interface, IPv4Address(local).packed, IPv4Address(sent_to).packed)
    return (socket.IPPROTO_IP, 8, data)


def pktinfo6(sent_to: str, interface: int = 2) -> ControlMessage:
    """``struct in6_pktinfo``."""
    return (
        socket.IPPROTO_IPV6,
        socket.IPV6_PKTINFO,
        IPv6Address(sent_to).packed + struct.pack("=i", interface),
    )


@pytest.mark.parametrize("local", ["192.0.2.7", "0.0.0.0"], ids=["known", "queued before it was asked for"])
def test_a_reply_leaves_from_where_the_datagram_was_sent_to_by_any_interface(local: str) -> None:
    many, reply = destination([pktinfo("192.0.2.7", local)])
    assert not many
    assert reply is not None
    assert reply[:2] == (socket.IPPROTO_IP, IP_PKTINFO)
    interface, source, _ = struct.unpack("=i4s4s", reply[2])
    assert (interface, source) == (0, IPv4Address("192.0.2.7").packed)


@pytest.mark.parametrize(("host", "interface"), [("2001:db8::7", 0), ("fe80::7", 2), ("::ffff:192.0.2.7", 0)])
def test_only_a_link_local_address_keeps_its_interface(host: str, interface: int) -> None:
    many, reply = destination([pktinfo6(host)])
    assert not many
    assert reply == (socket.IPPROTO_IPV6, IPV6_PKTINFO, pktinfo6(host, interface)[2])


@pytest.mark.parametrize(
    "control",
    [
        [pktinfo("192.0.2.255", "192.0.2.7")],
        [pktinfo("255.255.255.255", "192.0.2.7")],
        [pktinfo("255.255.255.255", "0.0.0.0")],
        [pktinfo("224.0.0.251", "192.0.2.7")],
        [pktinfo("224.0.0.251", "0.0.0.0")],
        [pktinfo6("ff02::fb")],
        [pktinfo6("::ffff:224.0.0.251")],
        [pktinfo6("::ffff:255.255.255.255")],
        [pktinfo6("::ffff:192.0.2.255"), pktinfo("192.0.2.255", "192.0.2.7")],
    ],
    ids=lambda control: " ".join(message[2].hex() for message in control),
)
def test_what_was_sent_to_many_is_known(control: list[ControlMessage]) -> None:
    assert destination(control).many


def test_nothing_is_known_without_a_report() -> None:
    assert destination([(socket.IPPROTO_UDP, 104, bytes(4))]) == (False, None)


@pytest.mark.parametrize(
    ("family", "host", "reports"),
    [
        (socket.AF_INET, "127.0.0.1", False),
        (socket.AF_INET, "127.0.0.9", False),
        (socket.AF_INET6, "::1", False),
        (socket.AF_INET6, "::ffff:127.0.0.1", False),
        (socket.AF_INET, "0.0.0.0", True),
        (socket.AF_INET6, "::", True),
        (socket.AF_INET6, "::ffff:0.0.0.0", True),
        (socket.AF_INET, "127.255.255.255", True),
        (socket.AF_INET, "224.0.0.251", True),
    ],
)
def test_only_a_socket_that_can_be_reached_at_several_addresses_reports_them(
    family: int, host: str, reports: bool
) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        assert report_destinations(sock) is reports
        assert bool(sock.getsockopt(socket.IPPROTO_IP, 8)) is reports
