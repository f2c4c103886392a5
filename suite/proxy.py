"""The PROXY protocol (haproxy.org/download/2.9/doc/proxy-protocol.txt) in front of a stream."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory

# Twisted's only public door, `proxyEndpoint`, builds a wrapper that does not pass on a half-close.
# tests/test_engine_ports.py fails loudly when these names go.
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
