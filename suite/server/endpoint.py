"""One endpoint of a running suite: its sockets, what answers on them, and whom that admits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from typing_extensions import override

from suite.endpoints.descriptions import Description
from suite.endpoints.sockets import ListeningSocket
from suite.engine.datagram import drop_what_waits
from suite.engine.linux.queues import drop_what_comes
from suite.server.announce import bound_address, listening_line
from suite.server.answering import Answering
from suite.server.ports import accept_what_waits, is_alive, is_datagram_port, pause, port_number, resume

log = Logger()


class CannotPauseError(Exception):
    """An endpoint has a port that cannot be paused: a plugin's, or one of another reactor.

    :ivar endpoint: the name of the endpoint.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.endpoint = endpoint

    @override
    def __str__(self) -> str:
        return f"{self.endpoint} cannot be paused: what listens there has no way to wait"


class RunningEndpoint(Answering):
    """One endpoint of a running suite.

    It lives as long as its address does: a reload changes its name, limits, certificates, or what it answers,
    and its connections stay.
    """

    # Opening and changing.

    async def open(self) -> None:
        """Open what only the reactor or a plugin can open, but do not accept anything before `start`.

        :raises ListenError: it cannot be opened.
        """
        if not self.sockets:
            self._foreign = await self._listener.listen(self._make_protocol(self.description.transport))
            pause(self._foreign)

    def start(self) -> None:
        """Start accepting connections or datagrams, unless it is paused."""
        if self._foreign is not None:
            self.ports = [self._foreign]
            self._choose_transport(self._foreign)
            if not self.paused:
                resume(self._foreign)
        for sock in self.sockets[len(self.ports) :]:
            self._serve(sock)
        if self._foreign is not None and self.datagrams is not None:
            self._surroundings.own_ports.join(port_number(self._foreign))

    def _serve(self, sock: ListeningSocket) -> None:
        protocol = self._make_protocol(sock.transport)
        port = self._listener.serve(sock, self._surroundings.reserve, protocol)
        if self.paused:
            pause(port)
        self._choose_transport(port)
        self.ports.append(port)
        if sock.transport == "UDP" and self.datagrams is not None:
            self._surroundings.own_ports.join(port_number(port))

    def change(
        self, description: Description, context: SSL.Context | None, sockets: Sequence[ListeningSocket]
    ) -> None:
        """Switch to *description* and *sockets*; connections stay. A port that has died is replaced."""
        before, self.description = self.description, description
        limits = description.endpoint.limits
        for judge in (self.guard, self.datagrams):
            if judge is not None:
                judge.name = description.endpoint.name
                if judge.limits != limits:
                    judge.limits = limits
        if self.guard is not None:
            self.guard.members = description.members
        self._change_answer(description.endpoint.answer)
        self.change_faults(description.endpoint.faults)
        same_answer = _serves(before) == _serves(description)
        if same_answer and self._listener.context_factory is not None and context is not None:
            self._listener.context_factory.context = context
        if same_answer and [*sockets] == self.sockets and all(map(is_alive, self.ports)):
            return
        for sock, port in zip(self.sockets, self.ports, strict=True):
            if sock not in sockets:
                accept_what_waits(port)  # its socket is closed once everything has changed
            self._detach(sock, port)
        self.sockets, self.ports = [*sockets], []
        self._listener = self._make_listener(context)
        for sock in self.sockets:
            self._serve(sock)

    # Pausing.

    def pause(self) -> None:
        """Accept nothing until `resume`; open connections go on, and nobody is refused.

        New connections wait in the queue of the kernel, as far as it reaches. Datagrams are dropped.

        :raises CannotPauseError: a port cannot be paused.
        """
        name = self.description.endpoint.name
        if not all(hasattr(port, "stopReading") for port in self.ports):
            raise CannotPauseError(name)
        if not self.paused:
            self.hold_back(True)
            log.info("paused: nothing is accepted until it is resumed", endpoint=name)

    def resume(self) -> None:
        """Accept again: first the connections that have waited; datagrams come too late for an answer."""
        if self.paused:
            self.hold_back(False)
            log.info("resumed", endpoint=self.description.endpoint.name)

    def hold_back(self, paused: bool) -> None:
        """Accept nothing from now on, or accept again."""
        if paused == self.paused:
            return
        self.paused = paused
        for port in filter(is_alive, self.ports):
            if paused:
                pause(port)
                continue
            if is_datagram_port(port):
                drop_what_waits(cast(Any, port).socket)
            resume(port)

    def _detach(self, sock: ListeningSocket, port: Any) -> None:
        if sock.transport == "UDP" and self.datagrams is not None:
            self._surroundings.own_ports.leave(sock.sock.getsockname()[1])  # the port may have died
        port.detach()

    def turn_away(self) -> None:
        """Complete no more connections: its listening sockets are about to be closed for good."""
        for sock in self.sockets:
            if sock.transport == "TCP" and sock.fd is None:  # a parent's socket stays as it is
                drop_what_comes(sock.sock)

    async def close(self, *, keep_datagrams: bool = False) -> None:
        """Stop listening; connections that wait in the queue have been accepted.

        What one port raises keeps no other open; if several do, it is the context of another.

        :param keep_datagrams: go on answering datagrams.
        """
        if self.datagram_faults is not None and not keep_datagrams:
            self.datagram_faults.line.stop()
        if self._foreign is not None:
            await self._close_foreign(keep_datagrams)
            return
        pairs = [*zip(self.sockets, self.ports, strict=False)]
        kept = [pair for pair in pairs if keep_datagrams and pair[0].transport == "UDP"]
        self.sockets = [sock for sock, _ in kept]
        self.ports = [port for _, port in kept]
        with ExitStack() as steps:  # each is done, whatever another raises; the last one is done first
            for sock, port in pairs:
                if (sock, port) not in kept:
                    steps.callback(self._detach, sock, port)
                    steps.callback(accept_what_waits, port)

    async def _close_foreign(self, keep_datagrams: bool) -> None:
        if keep_datagrams and self.datagrams is not None:
            return
        foreign, self._foreign = self._foreign, None
        if self.ports and self.datagrams is not None:
            self._surroundings.own_ports.leave(port_number(foreign))
        self.ports = []
        accept_what_waits(foreign)
        await maybeDeferred(cast(IListeningPort, foreign).stopListening)

    @property
    def keys(self) -> list[tuple[object, ...]]:
        """What a description must match for this endpoint to go on under it."""
        return [sock.key for sock in self.sockets] or [self.description.foreign_key()]

    # Draining.

    def drain(self, seconds: float) -> Deferred[None]:
        """Let connections finish, and late datagrams leave, for up to *seconds*; fires when none are left."""
        drains: list[Deferred[None]] = []
        line = self.datagram_faults.line if self.datagram_faults is not None else None
        for what in (self.guard, line):
            if what is not None:
                drained: Deferred[None] = Deferred()
                what.drain(seconds, partial(drained.callback, None))
                drains.append(drained)
        return gatherResults(drains).addCallback(lambda _: None)

    def abort(self) -> None:
        """Abort every connection, and drop datagrams that are late."""
        if self.guard is not None:
            self.guard.abort()
        if self.datagram_faults is not None:
            self.datagram_faults.line.stop()

    @property
    def listens(self) -> bool:
        """Whether it has sockets, none of which has died of an error."""
        return bool(self.ports or self.sockets or self._foreign) and all(map(is_alive, self.ports))

    # For people.

    def lines(self) -> list[str]:
        """The lines that announce this endpoint: one for each port."""
        alive = filter(is_alive, self.ports)
        return [listening_line(self.description, bound_address(self.description, port)) for port in alive]

    def summary(self) -> str:
        """A summary of the traffic so far, for people; empty if there was none."""
        found = []
        if self.guard is not None and (self.guard.accepted_count or self.guard.ends):
            guard = self.guard
            found.append(
                f"{guard.accepted_count:,} connections, {guard.received:,} bytes{counted(guard.ends)}"
            )
        if self.decider.struck:
            found.append(f"faults{counted(self.decider.struck)}")
        refusals = self.datagrams.refusals if self.datagrams is not None else Counter()
        if refusals:
            found.append(f"{sum(refusals.values()):,} datagrams not answered{counted(refusals)}")
        return "; ".join(found)


def _serves(description: Description) -> tuple[bool, str, str]:
    """What has to stay for the factory of an endpoint to stay."""
    return description.proxied, description.transport, description.endpoint.gallery


def counted(what: Mapping[Any, int]) -> str:
    """Counts for people, in descending order."""
    pairs = sorted(what.items(), key=lambda pair: -pair[1])
    return f" ({', '.join(f'{name} {count:,}' for name, count in pairs)})" if pairs else ""
