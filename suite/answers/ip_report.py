"""What a report says about a peer's packets: TCP's parameters, and fields of the IP header.

Rules: Linux tells; elsewhere, and where it does not, a value is None. Times are in seconds, sizes in bytes.
Of a stream, the IP fields are those of the packet that completed the TCP handshake; of a datagram, its own.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

from suite.engine.destination import IP_PKTINFO, IPV6_PKTINFO, ControlMessage

LINUX: Final = sys.platform == "linux"

# linux/in.h and linux/in6.h; not all of them have names in Python 3.11.
IP_TOS: Final = 1
IP_TTL: Final = 2
IP_PKTOPTIONS: Final = 9
IP_RECVTTL: Final = 12
IP_RECVTOS: Final = 13
IPV6_2292PKTOPTIONS: Final = 6
IPV6_RECVHOPLIMIT: Final = 51
IPV6_HOPLIMIT: Final = 52
IPV6_RECVTCLASS: Final = 66
IPV6_TCLASS: Final = 67

#: What asks the kernel to tell these fields of what it receives, by family. An IPv6 socket has both: its peer
#: may speak IPv4.
_ASKING: Final = {
    socket.AF_INET: ((socket.IPPROTO_IP, IP_RECVTOS), (socket.IPPROTO_IP, IP_RECVTTL)),
    socket.AF_INET6: (
        (socket.IPPROTO_IPV6, IPV6_RECVTCLASS),
        (socket.IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
        (socket.IPPROTO_IP, IP_RECVTOS),
        (socket.IPPROTO_IP, IP_RECVTTL),
    ),
}

#: The control messages that have them, and how each is called here.
_FIELDS: Final = {
    (socket.IPPROTO_IP, IP_TOS): "tos",
    (socket.IPPROTO_IP, IP_TTL): "ttl",
    (socket.IPPROTO_IPV6, IPV6_TCLASS): "tos",
    (socket.IPPROTO_IPV6, IPV6_HOPLIMIT): "ttl",
}

#: ECN's codepoints (RFC 3168, section 5).
_ECN: Final = ("Not-ECT", "ECT(1)", "ECT(0)", "CE")

#: struct cmsghdr: its length, the level and the type.
_HEADER: Final = struct.Struct("@Nii")

#: Bits of ``tcpi_options`` (linux/tcp.h).
_OPTIONS: Final = {1: "timestamps", 2: "sack", 4: "window_scale", 8: "ecn", 32: "fast_open"}

_WINDOW_SCALE: Final = 4

#: ``tcpi_min_rtt`` before there is one.
_UNKNOWN: Final = 0xFFFF_FFFF

#: The part of ``struct tcp_info`` that is read: eight bytes, 24 numbers of 32 bits, four of 64, four of 32.
_TCP_INFO: Final = struct.Struct("@8B24I4Q4I")


class _TCP(NamedTuple):
    """Where in ``struct tcp_info`` each number is, counted in fields of `_TCP_INFO`."""

    options: int = 5
    scales: int = 6
    send_mss: int = 10
    receive_mss: int = 11
    path_mtu: int = 21
    rtt: int = 23
    rtt_variation: int = 24
    advertised_mss: int = 27
    retransmitted: int = 31
    min_rtt: int = 39


_AT: Final = _TCP()


def ask_for_fields(sock: Any, *, wanted: bool) -> None:
    """Let the kernel tell TOS and TTL of what *sock* receives, or let it be silent again."""
    if LINUX:
        for level, option in _ASKING.get(sock.family, ()):
            with suppress(OSError):  # such as IPv4's on a socket that has IPv6 only
                sock.setsockopt(level, option, int(wanted))


def stream_fields(sock: Any) -> dict[str, object]:
    """The fields of the IP header of the packet that completed the TCP handshake of *sock*."""
    found: list[ControlMessage] = []
    if LINUX:
        ask_for_fields(sock, wanted=True)
        options = [(socket.IPPROTO_IP, IP_PKTOPTIONS)]
        if sock.family == socket.AF_INET6:
            options.append((socket.IPPROTO_IPV6, IPV6_2292PKTOPTIONS))
        for option in options:
            with suppress(OSError):
                found += control_messages(sock.getsockopt(*option, 1024))
        mapped = sock.family == socket.AF_INET6 and _is_mapped(sock)
        level = socket.IPPROTO_IPV6 if sock.family == socket.AF_INET6 and not mapped else socket.IPPROTO_IP
        found = [message for message in found if message[0] == level]
    return fields(found)


def _is_mapped(sock: Any) -> bool:
    with suppress(OSError, ValueError):
        return IPv6Address(sock.getpeername()[0].partition("%")[0]).ipv4_mapped is not None
    return False


def control_messages(packed: bytes) -> Iterator[ControlMessage]:
    """The control messages in *packed* (cmsg(3))."""
    while len(packed) >= _HEADER.size:
        size, level, kind = _HEADER.unpack_from(packed)
        if size < _HEADER.size:
            return
        yield level, kind, packed[_HEADER.size : size]
        packed = packed[_aligned(size) :]


def _aligned(size: int) -> int:
    """``CMSG_ALIGN``."""
    word = struct.calcsize("@N")
    return -(-size // word) * word


def fields(control: Iterable[ControlMessage]) -> dict[str, object]:
    """TOS, which is DSCP (RFC 2474) and ECN (RFC 3168), and TTL, or IPv6's equivalents, in *control*."""
    found: dict[str, int] = {}
    for level, kind, data in control:
        field = _FIELDS.get((level, kind))
        if field is not None and data:
            found[field] = int.from_bytes(data[:4], sys.byteorder)  # TOS is a byte, the others are an int
    tos = found.get("tos")
    return {
        "tos": tos,
        "dscp": None if tos is None else tos >> 2,
        "ecn": None if tos is None else _ECN[tos & 3],
        "ttl": found.get("ttl"),
    }


def sent_to(control: Iterable[ControlMessage]) -> str | None:
    """The address that a datagram with *control* was sent to; None if that is not told."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return str(IPv4Address(data[8:12]))
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            address = IPv6Address(data[:16])
            return str(address.ipv4_mapped or address)
    return None


def tcp_report(sock: Any) -> dict[str, object] | None:
    """What ``TCP_INFO`` tells of *sock*; None if it tells nothing."""
    if not LINUX:
        return None
    try:
        packed = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return None
    if len(packed) < _TCP_INFO.size:  # Linux before 4.6
        return None
    values = _TCP_INFO.unpack(packed)
    options = values[_AT.options]
    scales = (values[_AT.scales] & 0xF, values[_AT.scales] >> 4)  # bit-fields: their order is the machine's
    to_peer, from_peer = scales if sys.byteorder == "little" else scales[::-1]
    scaled = bool(options & _WINDOW_SCALE)
    return {
        "mss": values[_AT.send_mss],
        "receive_mss": values[_AT.receive_mss],
        "advertised_mss": values[_AT.advertised_mss],
        "path_mtu": values[_AT.path_mtu],
        "options": [name for bit, name in _OPTIONS.items() if options & bit],
        "peer_window_scale": to_peer if scaled else None,
        "window_scale": from_peer if scaled else None,
        "rtt": values[_AT.rtt] / 1e6,
        "rtt_variation": values[_AT.rtt_variation] / 1e6,
        "min_rtt": None if values[_AT.min_rtt] == _UNKNOWN else values[_AT.min_rtt] / 1e6,
        "retransmitted": values[_AT.retransmitted],
    }
