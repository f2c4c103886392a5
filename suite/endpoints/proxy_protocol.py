"""The PROXY protocol (haproxy.org/download/2.9/doc/proxy-protocol.txt) in front of a stream.

Rules: one parser, `ProxyHeader`, for plain streams and for TLS; its result does not depend on how the bytes
were split on the way; it never holds more than `LONGEST` bytes; a connection that does not begin with a
header is aborted. The wrapped protocol is connected when the header is complete, and sees only the client
that the proxy names; its guard owns the connection from accept.

A header forged by a client looks like a proxy's own, so headers are accepted only from `proxy_from`.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from typing import Any, Final, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import directlyProvides, implementer, providedBy

from suite.echo import EchoFactory
from suite.engine.interfaces import IPreambleListener
from suite.faults.streams import FaultyStream
from suite.guard.streams import Guarded

#: The beginning of a version 1 header, and its maximum length with the end of line (section 2.1).
WORD: Final = b"PROXY "
LONGEST_LINE: Final = 107

#: The beginning of a version 2 header, and the length of its fixed part (section 2.2).
SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
FIXED: Final = 16

#: The longest version 2 header accepted; its length field allows 65,551 bytes. Addresses need 232 at the
#: most, and receivers must accept 536; the rest is for additions (TLVs), such as names from a client's
#: certificate.
LONGEST: Final = 4096

_FAMILIES: Final[dict[bytes, tuple[type[IPv4 | IPv6], int]]] = {
    b"TCP4": (IPv4, socket.AF_INET),
    b"TCP6": (IPv6, socket.AF_INET6),
}

_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")  # "heading zeroes are not permitted"

#: By the byte for family and protocol in version 2: the family, and the length of one of its addresses. Any
#: other valid value, such as those for datagrams, "falls back to the UNSPEC mode".
_LAYOUTS: Final = {
    0x11: (socket.AF_INET, 4),
    0x21: (socket.AF_INET6, 16),
    0x31: (socket.AF_UNIX, 108),
}

_LOCAL, _PROXY = 0x20, 0x21  # version 2, and the command


class ProxyHeader:
    """Reads the PROXY header, version 1 or 2, at the beginning of a connection.

    Over TLS it is the `suite.engine.tls.Preamble`, read before the handshake.

    :ivar complete: whether the whole header has been read.
    :ivar source: the address of the client that the proxy names; None if it names none, as in its own health
        checks.
    :ivar destination: the address that the client connected to, likewise.
    :ivar raw: the whole header, once it has been read.
    """

    def __init__(self) -> None:
        self.complete = False
        self.source: IAddress | None = None
        self.destination: IAddress | None = None
        self.raw = b""
        self._seen = b""

    def feed(self, data: bytes) -> int:
        """Read the header's bytes from the beginning of *data*; return how many they are.

        :raises ValueError: the bytes are not a PROXY header.
        """
        seen = self._seen + data
        length = _length(seen)
        if length is None or len(seen) < length:
            self._seen = seen
            return len(data)
        parse = _parse_line if seen.startswith(WORD) else _parse_block
        self.raw = seen[:length]
        self.source, self.destination = parse(self.raw)
        self.complete = True
        taken = length - len(self._seen)
        self._seen = b""
        return taken


Addresses = tuple[IAddress | None, IAddress | None]


def _length(seen: bytes) -> int | None:
    """The length of the header that begins with *seen*; None if more bytes are needed to know."""
    if seen[: len(WORD)] == WORD[: len(seen)]:
        end = seen.find(b"\r\n", 0, LONGEST_LINE)
        if end < 0 and len(seen) >= LONGEST_LINE:
            raise ValueError(f"a PROXY line of more than {LONGEST_LINE} bytes")
        return end + 2 if end >= 0 else None
    if seen[: len(SIGNATURE)] != SIGNATURE[: len(seen)]:
        raise ValueError("no PROXY header")
    if len(seen) < FIXED:
        return None
    length = FIXED + int.from_bytes(seen[14:16], "big")
    if length > LONGEST:
        raise ValueError(f"a PROXY header of {length} bytes; expected {LONGEST} at the most")
    return length


def _parse_line(line: bytes) -> Addresses:
    """Version 1: ``PROXY TCP4 192.0.2.1 192.0.2.2 56324 443``, and CRLF."""
    kind, _, rest = line[len(WORD) : -2].partition(b" ")
    if kind == b"UNKNOWN":  # anything after it "must be ignored"
        return None, None
    parts = rest.split(b" ")
    if kind not in _FAMILIES or len(parts) != 4:
        raise ValueError(f"a PROXY line that says {line!r}")
    make, family = _FAMILIES[kind]
    packed = [_numeric(make, part) for part in parts[:2]]
    ports = [int(part) if _PORT.fullmatch(part) else 65536 for part in parts[2:]]
    if max(ports) > 65535:
        raise ValueError(f"a PROXY line with the ports {parts[2:]!r}")
    return _address(family, packed[0], ports[0]), _address(family, packed[1], ports[1])


def _numeric(make: type[IPv4 | IPv6], text: bytes) -> bytes:
    """The numeric address *text*, packed."""
    address = make(text.decode("ascii"))
    if isinstance(address, IPv6) and address.scope_id is not None:
        raise ValueError(f"a PROXY line with a zone: {text!r}")
    return address.packed


def _parse_block(header: bytes) -> Addresses:
    """Version 2: signature, command, family, length, addresses, additions."""
    command, kind = header[12], header[13]
    # "the receiver must … use the real connection endpoints and ignore all address information"
    if command == _LOCAL:
        return None, None
    if command != _PROXY or kind >> 4 > 3 or kind & 0xF > 2:
        raise ValueError(f"a PROXY header with command {command:#x} and family {kind:#x}")
    if kind not in _LAYOUTS:
        return None, None
    family, size = _LAYOUTS[kind]
    ports = 0 if family == socket.AF_UNIX else 2
    block = header[FIXED:]
    if len(block) < 2 * (size + ports):
        raise ValueError(
            f"a PROXY header with {len(block)} bytes of addresses; expected {2 * (size + ports)}"
        )
    numbers = [int.from_bytes(block[at : at + ports], "big") for at in (2 * size, 2 * size + ports)]
    return _address(family, block[:size], numbers[0]), _address(family, block[size : 2 * size], numbers[1])


def _address(family: int, packed: bytes, port: int) -> IAddress:
    """The address as Twisted represents it, as if there were no proxy."""
    if family == socket.AF_UNIX:
        abstract = packed.startswith(b"\0")
        return UNIXAddress((packed.rstrip(b"\0") if abstract else packed.partition(b"\0")[0]) or None)
    make = IPv4Address if family == socket.AF_INET else IPv6Address
    return make("TCP", socket.inet_ntop(family, packed), port)


@implementer(IHalfCloseableProtocol)
class ProxyProtocol(ProtocolWrapper):
    """One connection through a proxy: reads the header, then acts as the transport of the wrapped protocol.

    The wrapped protocol is made at accept and known to its guard from then on; it is connected when the
    header is complete and its client admitted.

    :ivar wrappedProtocol: the protocol for the connection; None once the connection is lost.
    """

    factory: Any  # a ProxyFactory
    transport: Any
    wrappedProtocol: Any

    def __init__(self, factory: ProxyFactory, wrapped: Guarded | FaultyStream) -> None:
        super().__init__(cast(Any, factory), wrapped)
        self._header = ProxyHeader()
        self._begun = False  # some of the header has arrived
        self._connected = False  # the wrapped protocol has been connected
        self._refused = False  # what still arrives is discarded

    @property
    def preamble_complete(self) -> bool:
        """Whether the whole header has been read."""
        return self._header.complete

    @property
    def preamble(self) -> ProxyHeader:
        """The header."""
        return self._header

    # Called by the connection.

    @override
    def makeConnection(self, transport: ITransport) -> None:
        # As in ProtocolWrapper, except that the wrapped protocol is connected later, after the header.
        directlyProvides(self, providedBy(transport))
        self.factory.registerProtocol(self)
        Protocol.makeConnection(self, transport)
        self.wrappedProtocol.transport = self
        self.wrappedProtocol.accepted()

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._connected:
            self.wrappedProtocol.dataReceived(data)
        elif not self._refused:
            self._read_header(data)

    def _read_header(self, data: bytes) -> None:
        self._begun = True
        try:
            taken = self._header.feed(data)
        except ValueError as error:
            self._refuse(str(error))
            return
        if not self._header.complete:
            return
        if not self.wrappedProtocol.preamble_completed():
            self._refused = True
            return
        self._connected = True
        self.wrappedProtocol.makeConnection(self)
        if len(data) > taken:
            self.wrappedProtocol.dataReceived(data[taken:])

    def readConnectionLost(self) -> None:
        """The peer has closed its side."""
        if not self._connected:
            if self._begun and not self._refused:
                self._refuse("the connection ended within its PROXY header")
            else:
                self.transport.loseConnection()
        elif IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """This side has been closed."""
        if self._connected and IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.writeConnectionLost()

    @override
    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # as in ProtocolWrapper
        self.factory.unregisterProtocol(self)
        wrapped, self.wrappedProtocol = self.wrappedProtocol, None
        if self._connected:
            wrapped.connectionLost(reason)
        else:  # a protocol hears of the end only if it has heard of the beginning
            wrapped.lost(reason)

    # Called by the wrapped protocol.

    @override
    def getPeer(self) -> IAddress:
        """The client that the proxy names; if it names none, the proxy."""
        return self._header.source or cast(IAddress, self.transport.getPeer())

    @override
    def getHost(self) -> IAddress:
        """The address that the client connected to."""
        return self._header.destination or cast(IAddress, self.transport.getHost())

    def _refuse(self, problem: str) -> None:
        self._refused = True
        self.wrappedProtocol.preamble_invalid(problem)


class ProxyFactory(WrappingFactory):
    """Reads a PROXY header, version 1 or 2, from every connection before *wrapped*'s protocol sees it.

    Whose headers are accepted, how long they may take, and which clients are admitted is for the guard of
    *wrapped* to decide; without one, all are, and there is no deadline.

    :param reactor: the reactor of the connections.
    :param wrapped: makes the protocols for the clients.
    """

    protocol: Any = ProxyProtocol
    noisy = False

    def __init__(self, reactor: IReactorTime, wrapped: EchoFactory) -> None:
        super().__init__(cast(IProtocolFactory, wrapped))
        self.reactor = reactor

    @override
    def buildProtocol(self, addr: IAddress | None) -> Any:
        inner = cast(Any, self.wrappedFactory).build(addr, header=True)
        return self.protocol(self, inner) if IPreambleListener.providedBy(inner) else inner

    def out_of_descriptors(self, addr: IAddress) -> None:
        """A connection was closed at once, for want of a file descriptor."""
        cast(Any, self.wrappedFactory).out_of_descriptors(addr)
