"""A client with Twisted's `optionsForClientTLS`: arguments are HOST, PORT and the CA's file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import react
from twisted.python.failure import Failure
from typing_extensions import override

TIME_LIMIT = 5


class Request(Protocol):
    """Sends a request, and has the first bytes of the answer."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()

    @override
    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.write(b"GET / HTTP/1.0\r\n\r\n")

    @override
    def dataReceived(self, data: bytes) -> None:
        if not self.answer.called:
            self.answer.callback(data)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(reason)


async def ask(reactor: Any, host: str, port: str, ca: str) -> None:
    """Print the answer, or the error and exit with 1."""
    try:
        root = Certificate.loadPEM(Path(ca).read_bytes())
        endpoint = HostnameEndpoint(reactor, host.encode(), int(port), timeout=TIME_LIMIT)
        tls = wrapClientTLS(
            optionsForClientTLS(host, trustRoot=root, acceptableProtocols=[b"http/1.1"]), endpoint
        )
        protocol = cast(Request, await tls.connect(Factory.forProtocol(Request)))
        answer = await protocol.answer.addTimeout(TIME_LIMIT, reactor)
    except Exception as error:  # noqa: BLE001  # whatever a TLS library raises is its refusal
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(1) from None
    sys.stdout.write(answer.decode(errors="replace"))


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(ask(reactor, *words)), sys.argv[1:])
