"""What one endpoint answers, to whom, and how it misbehaves; nothing here opens or closes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from suite.answers.answer import Answer
from suite.answers.table import ANSWERS, ECHO
from suite.config.faults import Faults
from suite.echo import EchoFactory, Refused
from suite.endpoints.descriptions import DIRECT, Description
from suite.endpoints.listener import Listener
from suite.endpoints.sockets import ListeningSocket
from suite.engine.hello import HelloTLS
from suite.engine.listeners import with_listeners
from suite.engine.tls import TLSPort, TLSServer
from suite.faults.datagrams import DatagramFaults, FaultyDatagrams
from suite.faults.decide import Decider
from suite.faults.packets import strike_datagrams
from suite.faults.streams import FaultyStream
from suite.faults.tls import FaultyHelloTLS, FaultyTLS
from suite.guard.datagrams import DatagramPolicy
from suite.guard.streams import Guard
from suite.server.pauses import Turns
from suite.server.ports import pause
from suite.server.surroundings import Surroundings

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


class Answering:
    """What an endpoint has to answer with; `suite.server.endpoint.RunningEndpoint` is all of it.

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

    def _make_protocol(self, transport: str) -> DatagramProtocol | None:
        """The protocol of one port over *transport*; None for streams, whose connections have their own."""
        if transport != "UDP" or self.datagrams is None:
            return None
        protocol, faults = self.make_datagrams(self.datagrams), self.datagram_faults
        if faults is None or not faults.any:
            return protocol
        return FaultyDatagrams(protocol, self.datagrams, faults)

    # Answers.

    def _change_answer(self, name: str) -> None:
        """Give new connections, and the next datagram, the answer *name*; open connections keep theirs."""
        answer = ANSWERS[name]
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


def _gallery() -> ModuleType:
    """What endpoints of the gallery need, which no others shall wait for."""
    from suite.gallery import serving  # noqa: PLC0415

    return serving
