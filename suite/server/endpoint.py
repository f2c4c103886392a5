"""One endpoint of a running suite: its port, and the guard of its connections or datagrams."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from suite import text
from suite.echo import EchoDatagram, EchoFactory, Refused
from suite.endpoints.descriptions import DIRECT, BoundAddress, Description
from suite.endpoints.listener import Listener
from suite.engine.accept import AcceptingPort
from suite.engine.listeners import with_listeners
from suite.errors import ListenError
from suite.guard.datagrams import DatagramPolicy, OwnPorts
from suite.guard.streams import Guard
from suite.server.announce import bound_address, listening_line


class RunningEndpoint:
    """One endpoint of a running suite.

    :ivar description: the current description; a reload may replace it.
    :ivar port: the port that listens; None before `open` and after `close`.
    :ivar guard: limits the connections of a stream endpoint; None for UDP.
    :ivar datagrams: decides which datagrams of a UDP endpoint are answered; None for streams.
    """

    def __init__(
        self, reactor: Any, description: Description, context: SSL.Context | None, own_ports: OwnPorts
    ) -> None:
        self.description = description
        self.port: IListeningPort | None = None
        self.guard: Guard | None = None
        self.datagrams: DatagramPolicy | None = None
        self._own_ports = own_ports
        limits = description.endpoint.limits
        if description.transport == "UDP":
            self.datagrams = DatagramPolicy(limits, own_ports, name=description.endpoint.name)
            answer: Any = self.make_datagrams(self.datagrams)
        else:
            self.guard = Guard(
                reactor,
                description.endpoint.name,
                limits,
                handshakes=description.transport == "TLS",
                proxied=description.proxied and description.kind == "ssl",
            )
            answer = self.make_factory(self.guard)
        self._listener = Listener(with_listeners(reactor), description, context, answer, self.guard)

    def make_factory(self, guard: Guard) -> EchoFactory:
        """The factory for the protocols of a stream endpoint."""
        return EchoFactory(guard, None if self.description.kind in DIRECT else Refused)

    def make_datagrams(self, policy: DatagramPolicy) -> EchoDatagram:
        """The protocol of a UDP endpoint."""
        return EchoDatagram(policy)

    async def open(self) -> None:
        """Listen, but do not accept anything before `start`.

        :raises ListenError: the endpoint cannot be opened.
        """
        make_directory(self.description)
        self.port = await self._listener.listen()
        pause(self.port)
        # If it is reopened, it must get the same port again, where its clients expect it.
        self._listener.description = self.description.bound_to(getattr(self.port.getHost(), "port", 0))
        if self.datagrams is not None:
            self._own_ports.join(cast(Any, self.port.getHost()).port, self.datagrams)

    def start(self) -> None:
        """Start accepting connections or datagrams."""
        resume(self.port)

    def adopt(self, description: Description, context: SSL.Context | None) -> None:
        """Switch to *description*, which has the same listening socket; existing connections stay."""
        self.description = description
        if self._listener.context_factory is not None and context is not None:
            self._listener.context_factory.context = context
        for judge in (self.guard, self.datagrams):
            if judge is not None:
                judge.limits = description.endpoint.limits

    async def close(self) -> None:
        """Stop listening."""
        port, self.port = self.port, None
        if port is None:
            return
        if self.datagrams is not None:
            self._own_ports.leave(cast(Any, port.getHost()).port, self.datagrams)
        await maybeDeferred(port.stopListening)

    def bound_address(self) -> BoundAddress | None:
        """The address it binds, to detect conflicts with other endpoints."""
        host = self.port.getHost() if self.port is not None else None
        return self.description.bound_address(getattr(host, "port", 0))

    def drain(self, seconds: float) -> Deferred[None]:
        """Let connections finish for up to *seconds*; fires when none are left."""
        drained: Deferred[None] = Deferred()
        if self.guard is None:
            drained.callback(None)
        else:
            self.guard.drain(seconds, lambda: drained.callback(None))
        return drained

    def line(self) -> str:
        """The line that announces this endpoint."""
        return listening_line(
            self.description, bound_address(self.description, cast(IListeningPort, self.port))
        )

    def summary(self) -> str:
        """A summary of the traffic so far, for people; empty if there was none."""
        if self.guard is None:
            refusals = self.datagrams.refusals if self.datagrams is not None else Counter()
            return f"{sum(refusals.values()):,} datagrams not answered{counted(refusals)}" if refusals else ""
        guard = self.guard
        if not guard.accepted_count and not guard.ends:
            return ""
        return f"{guard.accepted_count:,} connections, {guard.received:,} bytes{counted(guard.ends)}"


def pause(port: Any) -> None:
    """Stop accepting on *port*; what arrives waits in the kernel."""
    if hasattr(port, "stopReading"):  # missing on Windows' IOCP reactor
        port.stopReading()


def resume(port: Any) -> None:
    """Start accepting on *port* again."""
    if hasattr(port, "startReading"):
        port.startReading()


def accept_what_waits(port: Any) -> None:
    """Accept the connections that the kernel has already completed; closing the port would reset them."""
    if isinstance(port, AcceptingPort):
        port.accept_all()


def counted(what: Mapping[Any, int]) -> str:
    """Counts for people, in descending order."""
    pairs = sorted(what.items(), key=lambda pair: -pair[1])
    return f" ({', '.join(f'{name} {count:,}' for name, count in pairs)})" if pairs else ""


def make_directory(description: Description) -> None:
    """Make the directory of a UNIX socket if it is missing but its parent exists.

    :raises ListenError: the directory cannot be made.
    """
    if description.kind != "unix" or description.arguments["address"].startswith("\0"):
        return
    directory = os.path.dirname(description.arguments["address"])
    try:
        if directory and not os.path.isdir(directory):
            os.mkdir(directory)
    except OSError as error:
        raise ListenError(
            description.endpoint.name, description.address, f"{text.shown(directory)}: {error.strerror}"
        ) from error
