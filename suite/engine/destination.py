"""The address that a datagram was sent to, and how to answer from it.

Rules: a socket bound to one address needs none of this, and does not ask for it; a reply leaves from the
address that the datagram was sent to (RFC 1122, 4.1.3.5), or a connected client would not receive it; what
was sent to broadcast or multicast was sent to many, whose answers would be a flood for one.

The kernel reports the address in a control message: ``IP_PKTINFO`` (Linux, ip(7)), ``IPV6_PKTINFO`` (RFC
3542). A socket for both families gets both for an IPv4 datagram, and needs both: only ``IP_PKTINFO`` tells
the broadcast address of a subnet from the address of a host.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

#: Numbers of Linux, linux/in.h and linux/in6.h.
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25

#: linux/in.h; Python has a name for it from 3.14 on. None where the option or its layout is another.
IP_PKTINFO: Final = 8 if sys.platform == "linux" else None
IPV6_RECVPKTINFO: Final = getattr(socket, "IPV6_RECVPKTINFO", None)
IPV6_PKTINFO: Final = getattr(socket, "IPV6_PKTINFO", None)

#: Enough room for the control messages that a plain ``recvmsg`` returns, in bytes.
CONTROL_SIZE: Final = 256

_ANY: Final = bytes(4)
_BROADCAST: Final = b"\xff" * 4

#: A control message: level, type, data.
ControlMessage = tuple[int, int, bytes]


class Destination(NamedTuple):
    """What a datagram was sent to.

    :ivar many: whether that is a broadcast or multicast address.
    :ivar reply: the control message that makes a reply leave from there; None: not known.
    """

    many: bool
    reply: ControlMessage | None


def destination(control: Iterable[ControlMessage]) -> Destination:
    """The destination in the *control* messages of a datagram."""
    many = False
    reply: ControlMessage | None = None
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            # struct in_pktinfo: interface, source of a reply (0: not looked up), destination.
            local, sent_to = data[4:8], data[8:12]
            many = many or _is_many(IPv4Address(sent_to)) or local not in (sent_to, _ANY)
            reply = reply or (level, kind, bytes(4) + sent_to + bytes(4))
        elif (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            # struct in6_pktinfo: the destination, interface.
            address = IPv6Address(data[:16])
            many = many or _is_many(address.ipv4_mapped or address)
            # An interface would override the routing table; a link-local address means nothing without.
            interface = data[16:20] if address.is_link_local else bytes(4)
            reply = (level, kind, data[:16] + interface)
    return Destination(many, reply)


#: One host on every system.
_LOOPBACK: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


def _is_many(address: IPv4Address | IPv6Address) -> bool:
    return address.is_multicast or address.packed == _BROADCAST


def report_no_errors(sock: socket.socket) -> None:
    """Have *sock* report no errors that replies to others have met, whoever has opened it.

    A parent may have asked for them (ip(7), ``IP_RECVERR``): then one client that is gone before its reply
    ends the port of a reactor, to which an error on a descriptor is its end.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 0)
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 0)


def report_destinations(sock: socket.socket) -> bool:
    """Let the bound *sock* report destinations if its datagrams can have several; return whether it does."""
    if _bound_to_one_host(sock):
        return False
    try:
        if sock.family == socket.AF_INET6:
            if IPV6_RECVPKTINFO is None:
                return False
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            only_ipv6 = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        if IP_PKTINFO is not None and (sock.family == socket.AF_INET or not only_ipv6):
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    except OSError:
        return False  # not supported by this kernel: replies leave from the address that the kernel chooses
    return sock.family == socket.AF_INET6 or IP_PKTINFO is not None


def _bound_to_one_host(sock: socket.socket) -> bool:
    name = sock.getsockname()
    if sock.family == socket.AF_INET6:
        whole = IPv6Address(name[0].partition("%")[0])
        address: IPv4Address | IPv6Address = whole.ipv4_mapped or whole
    else:
        address = IPv4Address(name[0])
    if address.is_unspecified or _is_many(address):
        return False
    if address in _LOOPBACK:  # where most endpoints are
        return True
    with socket.socket(sock.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(name)  # sends nothing
        except PermissionError:
            return False  # the broadcast address of a subnet (EACCES, ip(7))
        except OSError:
            pass  # without a route, but an address of this host
    return True
