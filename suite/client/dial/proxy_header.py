"""The PROXY header that a client sends before anything else, as a proxy would.

Rules: pure; the header names the connection's own two ends, which is what a proxy says of a client that
connects from there (haproxy.org/download/2.9/doc/proxy-protocol.txt).
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import Any, Final, Literal, get_args

from suite.endpoints.proxy_protocol import SIGNATURE

Version = Literal["v1", "v2"]

VERSIONS: Final[tuple[Version, ...]] = get_args(Version)

#: Version 2 and the command PROXY; then, by family, the byte for family and stream (section 2.2).
_PROXY: Final = 0x21
_STREAMS: Final[dict[int, int]] = {4: 0x11, 6: 0x21}
_UNSPECIFIED: Final = 0x00


def proxy_header(version: Version, sock: socket.socket) -> bytes:
    """The header for the connected *sock*; it names no addresses for a UNIX socket.

    :raises OSError: the connection is over already.
    """
    if sock.family == socket.AF_UNIX:
        return b"PROXY UNKNOWN\r\n" if version == "v1" else _block(_UNSPECIFIED, b"")
    return header_of(version, sock.getsockname(), sock.getpeername())


def header_of(version: Version, source: Any, destination: Any) -> bytes:
    """The header for a connection from *source* to *destination*, as the socket module has addresses."""
    # A zone, as in fe80::1%eth0, means nothing to the other side.
    ends = [ip_address(end[0].partition("%")[0]) for end in (source, destination)]
    family = ends[0].version
    ports = (source[1], destination[1])
    if version == "v1":
        return f"PROXY TCP{family} {ends[0]} {ends[1]} {ports[0]} {ports[1]}\r\n".encode("ascii")
    return _block(_STREAMS[family], ends[0].packed + ends[1].packed + struct.pack(">HH", *ports))


def _block(kind: int, addresses: bytes) -> bytes:
    return SIGNATURE + struct.pack(">BBH", _PROXY, kind, len(addresses)) + addresses
