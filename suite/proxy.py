"""The PROXY protocol (haproxy.org/download/2.9/doc/proxy-protocol.txt) in front of a stream."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocolFactory

# Twisted's only public door, `proxyEndpoint`, builds a wrapper that does not pass on a half-close.
# tests/test_engine_ports.py fails loudly when these names go.
from twisted.protocols.haproxy._exceptions import InvalidProxyHeader
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class ProxyProtocol(HAProxyProtocolWrapper):
    """Twisted's wrapper, for protocols that can be half-closed."""

    wrappedProtocol: Any

    def readConnectionLost(self) -> None:
        """The peer has ended its side."""
        self.wrappedProtocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """We have ended ours."""
        self.wrappedProtocol.writeConnectionLost()


class ProxyFactory(HAProxyWrappingFactory):
    """Takes a PROXY header, version 1 or 2, from every connection before *wrapped* sees it."""

    protocol: Any = ProxyProtocol
    noisy = False

    def __init__(self, wrapped: IProtocolFactory) -> None:
        super().__init__(wrapped)


class ProxyHeader:
    """A PROXY header that comes before anything else, such as a TLS handshake; see `Preamble`.

    :ivar complete: whether all of it is there.
    :ivar source: the client that the proxy speaks for, if it says so.
    """

    #: The longest version 1 header, by its specification, with its end of line.
    LONGEST_LINE = 107

    def __init__(self) -> None:
        self.complete = False
        self.source: IAddress | None = None
        self._data = b""

    def feed(self, data: bytes) -> int:
        """Take what is ours from the beginning of *data*; return how many bytes that is.

        :raises ValueError: this is no PROXY header.
        """
        seen = self._data + data
        length = self._length(seen)
        if length is None or len(seen) < length:
            self._data = seen
            return len(data)
        header = seen[:length]
        if header != b"PROXY UNKNOWN\r\n":  # which Twisted's parser does not know
            parser = V2Parser() if header[:1] == V2Parser.PREFIX[:1] else V1Parser()
            try:
                info, _ = parser.feed(header)
            except InvalidProxyHeader as error:
                raise ValueError("no PROXY header") from error
            self.source = info.source if info is not None else None
        self.complete = True
        return length - len(self._data)

    def _length(self, seen: bytes) -> int | None:
        """How long the header is that begins with *seen*; None if that cannot be told yet."""
        signature, word = V2Parser.PREFIX, V1Parser.PROXYSTR + b" "
        if seen[: len(signature)] == signature[: len(seen)]:
            return 16 + int.from_bytes(seen[14:16], "big") if len(seen) >= 16 else None
        if seen[: len(word)] == word[: len(seen)]:
            end = seen.find(b"\r\n", 0, self.LONGEST_LINE)
            if end >= 0:
                return end + 2
            if len(seen) < self.LONGEST_LINE:
                return None
        raise ValueError("no PROXY header")
