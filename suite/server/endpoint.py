"""One endpoint of a running suite: its sockets, what answers on them, and whom that admits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from typing_extensions import override

from suite.answers.answer import Answer
from suite.answers.table import ANSWERS, ECHO
from suite.config.faults import Faults
from suite.echo import EchoFactory, Refused
from suite.endpoints.descriptions import DIRECT, Description
from suite.endpoints.listener import Listener
from suite.endpoints.sockets import ListeningSocket
from suite.engine.accept import AcceptingPort, Reserve
from suite.engine.datagram import drop_what_waits
from suite.engine.hello import HelloTLS
from suite.engine.linux.queues import drop_what_comes
from suite.engine.listeners import with_listeners
from suite.engine.tls import TLSPort, TLSServer
from suite.faults.datagrams import DatagramFaults, FaultyDatagrams
from suite.faults.decide import Decider
from suite.faults.packets import strike_datagrams
from suite.faults.streams import FaultyStream
from suite.faults.tls import FaultyHelloTLS, FaultyTLS
from suite.guard.datagrams import DatagramPolicy, OwnPorts
from suite.guard.streams import Guard
from suite.server.announce import bound_address, listening_line
from suite.server.pauses import Turns

if TYPE_CHECKING:
    from suite.guard.shared import EndpointShare, WorkerShare  # which one process alone does not need

log = Logger()

#: The transports of TLS ports: by whether they may misbehave, and whether the ClientHello is asked for.
_TLS_TRANSPORTS: Final[Mapping[tuple[bool, bool], type[TLSServer]]] = {
    (False, False): TLSServer,
    (False, True): HelloTLS,
    (True, False): FaultyTLS,
    (True, True): FaultyHelloTLS,
}


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


class Surroundings:
    """What the endpoints of one suite share.

    :ivar reactor: the reactor of them all.
    :ivar own_ports: the UDP ports of the suite.
    :ivar reserve: the file descriptor to release when there are no others.
    :ivar live_faults: whether a change of faults applies to open connections, too.
    :ivar exhibition: returns the gallery, and its open ports (`suite.gallery.index.Exhibition`).
    :ivar shared: what this process counts together with other workers; None: there are no others.
    """

    live_faults = False
    exhibition: Any = None
    shared: WorkerShare | None = None

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.own_ports = OwnPorts()
        self.reserve = Reserve()


class RunningEndpoint:
    """One endpoint of a running suite.

    It lives as long as its address does: a reload changes its name, limits, certificates, or what it answers,
    and its connections stay.

    :param sockets: its listening sockets, which are open and stay their owner's; none if the reactor or a
        plugin opens its own.
    :ivar description: the current description; a reload may replace it.
    :ivar ports: one port for each socket; none before `start` and after `close`.
    :ivar guard: limits the connections of a stream endpoint; None if it has no stream.
    :ivar datagrams: decides which datagrams of a UDP endpoint are answered; None if it has no UDP.
    :ivar decider: decides which connections get which of its faults.
    :ivar datagram_faults: how its datagrams misbehave; None if they never have.
    :ivar paused: whether it accepts nothing for now.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        description: Description,
        context: SSL.Context | None,
        sockets: Sequence[ListeningSocket] = (),
    ) -> None:
        self.description = description
        self.sockets = [*sockets]
        self.ports: list[IListeningPort] = []
        self.guard: Guard | None = None
        self.datagrams: DatagramPolicy | None = None
        self.decider = Decider(description.endpoint.faults)
        self.datagram_faults: DatagramFaults | None = None
        self.paused = False
        self._surroundings = surroundings
        self._foreign: IListeningPort | None = None
        self._factory: EchoFactory | None = None
        self._answer: Answer = ECHO
        self._listener = self._make_listener(context)

    def make_factory(self, guard: Guard) -> EchoFactory:
        """The factory for the protocols of a stream endpoint."""
        what = self.description.endpoint.gallery
        if what:
            factory: EchoFactory = _gallery().make_factory(what, guard, self._surroundings.exhibition)
            return factory
        return EchoFactory(guard, None if self.description.kind in DIRECT else Refused)

    def make_datagrams(self, policy: DatagramPolicy) -> DatagramProtocol:
        """The protocol of a UDP endpoint."""
        protocol: DatagramProtocol = cast(Any, self._answer).datagrams(policy)
        return protocol

    def _make_listener(self, context: SSL.Context | None) -> Listener:
        """What answers on the sockets; the guard and the policy, once made, stay."""
        description, surroundings = self.description, self._surroundings
        name, limits = description.endpoint.name, description.endpoint.limits
        transports = {sock.transport for sock in self.sockets} or {description.transport}
        self._factory = None
        self._answer = ANSWERS[description.endpoint.answer]
        if "UDP" in transports and self.datagrams is None:
            self.datagrams = DatagramPolicy(limits, surroundings.own_ports, name=name)
        if transports - {"UDP"}:
            if self.guard is None:
                self.guard = Guard(surroundings.reactor, name, limits)
            self.guard.members = description.members
            self.guard.handshakes = description.transport == "TLS"
            self.guard.proxied = description.proxied and description.kind == "ssl"
            share = self._share(datagrams=False)
            if share is not None:
                self.guard.share_with(share)
                self.decider.claim = share.claim
            self._factory = self.make_factory(self.guard)
            self._apply_answer()
            self._apply_faults()
        self._apply_datagram_faults()
        reactor = with_listeners(surroundings.reactor)
        return Listener(reactor, description, context, self._factory)

    def _share(self, *, datagrams: bool) -> EndpointShare | None:
        """What workers count together of its connections, or its datagrams; None: there are no others."""
        shared = self._surroundings.shared
        for sock in self.sockets if shared is not None else ():
            if (sock.transport == "UDP") is datagrams and None not in (sock.slot, sock.counter):
                return cast("WorkerShare", shared).endpoint(cast(int, sock.slot), cast(int, sock.counter))
        return None

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
            self._surroundings.own_ports.join(_port_number(self._foreign))

    def _make_protocol(self, transport: str) -> DatagramProtocol | None:
        """The protocol of one port over *transport*; None for streams, whose connections have their own."""
        if transport != "UDP" or self.datagrams is None:
            return None
        protocol, faults = self.make_datagrams(self.datagrams), self.datagram_faults
        if faults is None or not faults.any:
            return protocol
        return FaultyDatagrams(protocol, self.datagrams, faults)

    def _serve(self, sock: ListeningSocket) -> None:
        protocol = self._make_protocol(sock.transport)
        port = self._listener.serve(sock, self._surroundings.reserve, protocol)
        if self.paused:
            pause(port)
        self._choose_transport(port)
        self.ports.append(port)
        if sock.transport == "UDP" and self.datagrams is not None:
            self._surroundings.own_ports.join(_port_number(port))

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
        self._change_answer(ANSWERS[description.endpoint.answer])
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
            if _is_datagram_port(port):
                drop_what_waits(cast(Any, port).socket)
            resume(port)

    # Answers.

    def _change_answer(self, answer: Answer) -> None:
        """Give new connections, and the next datagram, *answer*; open connections keep theirs."""
        if answer is not self._answer:
            self._answer = answer
            self._apply_answer()
            self._replace_datagram_protocols()

    def _apply_answer(self) -> None:
        factory = self._factory
        if factory is None:
            return
        if self._answer is ECHO:  # the factory's own
            factory.__dict__.pop("protocol", None)
            factory.__dict__.pop("measured", None)
        else:
            factory.protocol = factory.measured = cast(Any, self._answer.stream)

    # Faults.

    def change_faults(self, faults: Faults) -> None:
        """Misbehave as *faults* say from now on; whether open connections do, too, is `live_faults`.

        Thousands of them change in turns, between which everything else has its own.
        """
        before, self.decider.faults = self.decider.faults, faults
        self._apply_faults()
        self._apply_datagram_faults()
        if self._surroundings.live_faults and self.guard is not None and faults is not before:
            changing = Deferred.fromCoroutine(self._change_open(self.guard))
            changing.addErrback(lambda why: log.failure("open connections not changed", why))

    async def _change_open(self, guard: Guard) -> None:
        async for connection in Turns(self._surroundings.reactor).between([*guard.open]):
            stream: Any = connection.transport
            if connection in guard.open and isinstance(stream, FaultyStream):
                stream.redecide()

    def _apply_faults(self) -> None:
        """See to it that new connections are decided about, if any faults are declared or may be."""
        if self._factory is not None:
            wanted = self.decider.faults or self._surroundings.live_faults
            self._factory.decider = self.decider if wanted else None
            for port in self.ports:
                self._choose_transport(port)

    def _apply_datagram_faults(self) -> None:
        """Misbehave on UDP ports, too; where there are no faults, nothing stands between port and answer.

        Sockets stay as they are, and so do datagrams that are in their queues, or late.
        """
        faults, policy = self.decider.faults, self.datagrams
        if policy is None or (self.datagram_faults is None and not strike_datagrams(faults)):
            return
        if self.datagram_faults is None:
            self.datagram_faults = DatagramFaults(self._surroundings.reactor, policy, self.decider.struck)
        self.datagram_faults.share = self._share(datagrams=True)
        self.datagram_faults.faults = faults
        self._replace_datagram_protocols()

    def _replace_datagram_protocols(self) -> None:
        """Let the right protocol answer on each UDP port; its socket, and what waits there, stays."""
        for index, (sock, port) in enumerate(zip(self.sockets, self.ports, strict=False)):
            if sock.transport == "UDP" and not self._has_right_protocol(port):
                cast(Any, port).detach()
                protocol = self._make_protocol("UDP")
                self.ports[index] = self._listener.serve(sock, self._surroundings.reserve, protocol)
                if self.paused:
                    pause(self.ports[index])
        foreign: Any = self._foreign
        if foreign is not None and self.datagrams is not None and not self._has_right_protocol(foreign):
            before, foreign.protocol = foreign.protocol, self._make_protocol("UDP")
            before.doStop()
            foreign.protocol.makeConnection(foreign)

    def _has_right_protocol(self, port: Any) -> bool:
        """Whether the answer on the UDP *port* is the right one, under the faults if there are any."""
        protocol = port.protocol
        if isinstance(protocol, FaultyDatagrams):
            under_faults, protocol = True, protocol.wrapped
        else:
            under_faults = False
        any_faults = self.datagram_faults is not None and self.datagram_faults.any
        return under_faults is any_faults and isinstance(protocol, cast(Any, self._answer).datagrams)

    def _choose_transport(self, port: Any) -> None:
        """Let a TLS *port* misbehave, if anything may, and keep what clients offer, if it is asked for."""
        if self._factory is None:
            return
        wants_hello = getattr(self._factory.protocol, "wants_client_hello", False)
        if isinstance(port, TLSPort) and self.description.endpoint.gallery:
            port.transport = _gallery().GalleryTLS
        elif isinstance(port, TLSPort):
            port.transport = _TLS_TRANSPORTS[self._factory.decider is not None, wants_hello]
        elif self._listener.context_factory is not None:  # Twisted's own
            self._listener.context_factory.keeps_hello = wants_hello

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
            self._surroundings.own_ports.leave(_port_number(foreign))
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


def _gallery() -> ModuleType:
    """What endpoints of the gallery need, which no others shall wait for."""
    from suite.gallery import serving  # noqa: PLC0415

    return serving


def _serves(description: Description) -> tuple[bool, str, str]:
    """What has to stay for the factory of an endpoint to stay."""
    return description.proxied, description.transport, description.endpoint.gallery


def _port_number(port: Any) -> int:
    number: int = port.getHost().port
    return number


def is_alive(port: Any) -> bool:
    """Whether *port* listens: the reactor ends one whose descriptor has an error."""
    return bool(getattr(port, "connected", True))


def _is_datagram_port(port: Any) -> bool:
    return IUDPTransport.providedBy(port) and hasattr(port, "socket")


def pause(port: Any) -> None:
    """Stop accepting on *port*; what arrives waits in the kernel."""
    if isinstance(port, AcceptingPort):
        port.pause()
    elif hasattr(port, "stopReading"):  # missing on Windows' IOCP reactor
        port.stopReading()


def resume(port: Any) -> None:
    """Start accepting on *port* again."""
    if isinstance(port, AcceptingPort):
        port.resume()
    elif hasattr(port, "startReading"):
        port.startReading()


def accept_what_waits(port: Any) -> None:
    """Accept the connections that the kernel has already completed; closing the port would reset them."""
    if isinstance(port, AcceptingPort):
        port.accept_all()


def counted(what: Mapping[Any, int]) -> str:
    """Counts for people, in descending order."""
    pairs = sorted(what.items(), key=lambda pair: -pair[1])
    return f" ({', '.join(f'{name} {count:,}' for name, count in pairs)})" if pairs else ""
