"""The echo as Twisted's documentation has it, with what speed asks for: back-pressure and no Nagle.

``twisted_echo.py tcp|udp PORT | unix PATH | tls PORT CERTIFICATE KEY`` (port 0: any); prints
``ready PORT`` or ``ready PATH`` when it listens. Stock reactor, stock transports, stock TLS.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet import ssl
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from typing_extensions import override

#: Every peer, and the suite, has room for this many connections that wait to be accepted.
BACKLOG = 4096

reactor = cast(Any, installed)


class Echo(Protocol):
    """Echo for UNIX sockets; a peer that does not read is not read from."""

    @override
    def connectionMade(self) -> None:
        cast(IConsumer, self.transport).registerProducer(cast(IPushProducer, self.transport), True)

    @override
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]  # connected, or no data


class InternetEcho(Echo):
    """Echo for TCP and TLS."""

    @override
    def connectionMade(self) -> None:
        cast(Any, self.transport).setTcpNoDelay(True)
        super().connectionMade()


class EchoDatagram(DatagramProtocol):
    """Echo for UDP."""

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)  # type: ignore[union-attr]  # listening


def listen(transport: str, address: str, identity: list[str]) -> None:
    """Listen, and say so."""
    factory = Factory.forProtocol(Echo if transport == "unix" else InternetEcho)
    if transport == "unix":
        reactor.listenUNIX(address, factory, BACKLOG)
    else:
        where = {"port": int(address), "interface": "127.0.0.1"}
        if transport == "udp":
            port = reactor.listenUDP(protocol=EchoDatagram(), **where)
        elif transport == "tcp":
            port = reactor.listenTCP(factory=factory, backlog=BACKLOG, **where)
        else:
            pem = "\n".join(Path(file).read_text() for file in identity)
            options = ssl.PrivateCertificate.loadPEM(pem).options()  # twisted.internet.ssl.CertificateOptions
            port = reactor.listenSSL(factory=factory, contextFactory=options, backlog=BACKLOG, **where)
        address = str(port.getHost().port)
    print("ready", address, flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transport", choices=("tcp", "udp", "unix", "tls"))
    parser.add_argument("address", help="a port, or the path of a UNIX socket")
    parser.add_argument("identity", nargs="*", metavar="FILE", help="of TLS: certificate, key")
    options = parser.parse_args()
    listen(options.transport, options.address, options.identity)
    reactor.run()


if __name__ == "__main__":
    main()
