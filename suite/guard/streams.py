"""Whom a stream endpoint admits, how long they may stay, and how they leave.

Rules: a refusal comes at accept, before anything is read; the limits in time are kept by one sweep over
all connections every `SWEEP` seconds, so that a message costs nothing; whatever ends a connection has a
`Reason`, which is counted and logged.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.config.limits import PROXY_TIMEOUT, Limits, address_of, within
from suite.engine.tls import InvalidPreambleError, reason_of
from suite.reasons import Reason
from suite.system import credentials, group_ids, user_ids
from suite.text import host_and_port

if sys.platform != "win32":
    pass

log = Logger()

#: Seconds between two looks at all connections; a limit is kept at most twice as late.
SWEEP: Final = 0.25

#: The same while draining, when somebody is waiting.
DRAIN_SWEEP: Final = 0.1

#: What has been quiet for so long, in seconds, is not under way.
QUIET: Final = 1.0


#: Ends of ours that leave a peer all that it is owed.
PEACEFUL: Final = frozenset({Reason.IDLE, Reason.LIFETIME, Reason.DRAIN})


@implementer(IHandshakeListener)
class Guarded(Protocol):
    """A connection that a `Guard` looks after.

    :ivar received: bytes that the peer has sent; whoever reads them counts them here.
    """

    received = 0
    number = 0  # of the connection, at its endpoint
    peer = ""
    host: str | None = None  # what the limit for each peer goes by
    accepted = 0.0
    established = True  # no handshake is under way
    ended: float | None = None  # when the peer has ended its side
    reason: Reason | None = None  # why we have ended it, if we have

    # What the last sweep has seen, and since when it has been so.
    seen = 0
    owing = 0
    since = 0.0

    def __init__(self, guard: Guard | None = None) -> None:
        self.guard = guard

    @override
    def connectionMade(self) -> None:
        if self.guard is not None:
            self.guard.opened(self)

    def handshakeCompleted(self) -> None:
        """TLS is established."""
        if self.guard is not None:
            self.guard.shaken_hands(self)

    def readConnectionLost(self) -> None:
        """The peer has ended its side."""
        if self.guard is not None:
            if self.ended is None:
                self.ended = self.guard.clock.seconds()
            # Who has said nothing, such as a health check, has not been cut off either.
            if self.received and getattr(self.transport, "close_notify_received", True) is False:
                self.reason = self.reason or Reason.TRUNCATED

    def end(self, reason: Reason) -> None:
        """Say that this was all, and take what still arrives: to close at once would undo the last bytes."""
        transport = cast(Any, self.transport)
        self.reason = reason
        if self.guard is not None:
            self.ended = self.guard.clock.seconds()
        if hasattr(transport, "owed"):  # one of the engine's
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    @override
    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]  # Twisted's own default is of this kind
        if self.guard is not None:
            self.guard.closed(self, reason)

    @property
    def owed(self) -> int:
        """Bytes that the peer has not taken yet; for transports that do not tell, 1 while it must wait."""
        owed = getattr(self.transport, "owed", None)
        return int(getattr(self.transport, "producerPaused", False)) if owed is None else owed


class Guard:
    """Looks after all connections of one endpoint.

    :param clock: tells the time, and when it is time to sweep.
    :param name: of the endpoint.
    :param limits: which it keeps; they may be replaced at any time.
    :param handshakes: whether connections begin with a TLS handshake.
    :param proxied: whether a connection begins with a PROXY header, which only then tells who the peer is.
    :ivar open: the connections there are.
    :ivar accepted: how many there have been.
    :ivar received: what those that have ended have sent, in bytes.
    :ivar ends: how many have ended, by reason; refusals too.
    """

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        limits: Limits,
        *,
        handshakes: bool = False,
        proxied: bool = False,
    ) -> None:
        self.clock = clock
        self.name = name
        self.limits = limits
        self.handshakes = handshakes
        self.proxied = proxied
        self.open: dict[Guarded, None] = {}  # in the order of their coming
        self.accepted = 0
        self.received = 0
        self.ends: Counter[Reason] = Counter()
        self._by_host: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._next_sweep: IDelayedCall | None = None
        self._silent_until = float("-inf")
        self._draining_since: float | None = None
        self._deadline = float("inf")
        self._drained: list[Callable[[], None]] = []

    # At the door.

    def refuses(self, address: IAddress | None) -> bool:
        """Whether a connection from *address* is refused; if so, that is counted and logged."""
        if self.proxied and not self.trusts(address):
            return True
        reason = self._objection(None if self.proxied else getattr(address, "host", None))
        if reason is not None:
            self._refuse(reason, shown_peer(address))
        return reason is not None

    def trusts(self, address: IAddress | None) -> bool:
        """Whether a PROXY header is believed that comes from *address*; if not, that is counted and logged.

        Where there is no address, on a UNIX socket, its mode says who may write to it.
        """
        host = getattr(address, "host", None)
        if host is None or within(address_of(host), self.limits.proxy_from):
            return True
        self.header_refused(cast(IAddress, address), "not from proxy_from")
        return False

    def header_refused(self, address: IAddress, problem: str) -> None:
        """A connection from *address* had no PROXY header that could be taken."""
        self._refuse(Reason.PROXY, shown_peer(address), problem)

    def _objection(self, host: str | None) -> Reason | None:
        limits = self.limits
        if len(self.open) >= limits.connections:
            return Reason.CONNECTIONS
        if host is None:
            return None
        if not limits.admits(host):
            return Reason.DENIED
        if self._by_host[canonical(host)] >= limits.per_peer:
            return Reason.PER_PEER
        return None

    def _refuse(self, reason: Reason, peer: str, detail: str = "") -> None:
        self.ends[reason] += 1
        log.emit(
            level_of(reason),
            "refused: {detail}" if detail else "refused",
            endpoint=self.name,
            peer=peer,
            reason=reason.value,
            detail=detail,
        )

    def out_of_descriptors(self, address: IAddress) -> None:
        """A connection from *address* was closed unseen: there was no descriptor for it.

        Of these, one a second is logged: whoever is short of descriptors is short of more.
        """
        self.ends[Reason.DESCRIPTORS] += 1
        now = self.clock.seconds()
        if now >= self._silent_until:
            self._silent_until = now + 1
            log.emit(
                level_of(Reason.DESCRIPTORS),
                "refused; {refused:,} until now",
                endpoint=self.name,
                peer=shown_peer(address),
                reason=Reason.DESCRIPTORS.value,
                refused=self.ends[Reason.DESCRIPTORS],
            )

    # Inside.

    def opened(self, connection: Guarded) -> None:
        """*connection* is there."""
        transport = cast(Any, connection.transport)
        address = transport.getPeer()
        connection.number = next(self._numbers)
        connection.peer = shown_peer(address)
        connection.accepted = connection.since = self.clock.seconds()
        connection.established = not self.handshakes
        self.open[connection] = None
        self.accepted += 1
        if ITCPTransport.providedBy(transport):
            transport.setTcpKeepAlive(True)
        if self._next_sweep is None:
            self._next_sweep = self.clock.callLater(SWEEP, self._sweep)
        if not self.proxied:
            self._recognise(connection, address)

    def _recognise(self, connection: Guarded, address: IAddress, *, late: bool = False) -> None:
        """Now it is known who the peer is."""
        host = getattr(address, "host", None)
        reason = self._objection(host) if late and host is not None else None
        if host is None and (self.limits.users or self.limits.groups) and not self._is_welcome(connection):
            reason = Reason.DENIED
        if reason is not None:
            connection.reason = reason
            cast(Any, connection.transport).abortConnection()
        elif host is not None:
            connection.host = canonical(host)
            self._by_host[connection.host] += 1

    def _is_welcome(self, connection: Guarded) -> bool:
        try:
            uid, groups = credentials(cast(Any, connection.transport).getHandle())
            return uid in user_ids(self.limits.users) or not groups.isdisjoint(group_ids(self.limits.groups))
        except (OSError, KeyError):  # who cannot be recognised is not welcome
            return False

    def shaken_hands(self, connection: Guarded) -> None:
        """*connection* has completed its TLS handshake."""
        connection.established = True
        connection.since = self.clock.seconds()
        if self.proxied:
            address = cast(Any, connection.transport).getPeer()
            connection.peer = shown_peer(address)
            self._recognise(connection, address, late=True)

    def closed(self, connection: Guarded, failure: Failure) -> None:
        """*connection* has ended."""
        if self.open.pop(connection, connection) is not None:
            return
        if connection.host is not None:
            self._by_host[connection.host] -= 1
            if not self._by_host[connection.host]:
                del self._by_host[connection.host]
        reason, detail = connection.reason, ""
        if reason is None:
            reason, detail = self._reason_for(connection, failure)
        self.ends[reason] += 1
        self.received += connection.received
        log.emit(
            level_of(reason),
            "closed: {detail}" if detail else "closed",
            endpoint=self.name,
            connection=connection.number,
            peer=connection.peer,
            reason=reason.value,
            received=connection.received,
            duration=round(self.clock.seconds() - connection.accepted, 6),
            detail=detail,
        )
        if not self.open:
            self._rest()

    def _reason_for(self, connection: Guarded, failure: Failure) -> tuple[Reason, str]:
        """Why a connection has ended that nobody here has ended, and what there is to say about it."""
        error = failure.value
        if isinstance(error, ConnectionDone):
            return Reason.CLOSED, ""
        if isinstance(error, ConnectionClosed):
            return Reason.RESET, ""
        if isinstance(error, InvalidPreambleError):
            return Reason.PROXY, str(error)
        if isinstance(error, SSL.Error) or not connection.established:  # a callback's own, in a handshake
            return Reason.TLS, reason_of(cast(Exception, error))
        return Reason.ERROR, f"{type(error).__name__}: {error}"

    def _rest(self) -> None:
        """There is nobody to look after."""
        if self._next_sweep is not None:
            self._next_sweep.cancel()
            self._next_sweep = None
        waiting, self._drained = self._drained, []
        for done in waiting:
            done()

    # The sweep.

    def _sweep(self) -> None:
        now = self.clock.seconds()
        draining = self._draining_since is not None
        self._next_sweep = self.clock.callLater(DRAIN_SWEEP if draining else SWEEP, self._sweep)
        limits = self.limits
        idle = limits.idle if limits.idle is not None else float("inf")
        lifetime = limits.lifetime if limits.lifetime is not None else float("inf")
        overdue = [*self._overdue(now, idle, lifetime)]
        for connection, reason in overdue:
            self._end(connection, reason)
        if draining:
            self._drain_some(now)

    def _overdue(self, now: float, idle: float, lifetime: float) -> Iterator[tuple[Guarded, Reason]]:
        for connection in self.open:
            received = connection.received
            if received != connection.seen or connection.owing:
                owed = connection.owed
                if received != connection.seen or owed != connection.owing:
                    connection.seen, connection.owing, connection.since = received, owed, now
            since = connection.since
            if now - connection.accepted >= lifetime and connection.reason is None:
                yield connection, Reason.LIFETIME
            elif connection.established and connection.ended is None and not connection.owing:
                if now - since >= idle:
                    yield connection, Reason.IDLE
            else:
                reason = self._stuck(connection, now)
                if reason is not None:
                    yield connection, reason

    def _stuck(self, connection: Guarded, now: float) -> Reason | None:
        """What a connection is late for that is not merely idle, if anything."""
        limits = self.limits
        if self.proxied and not cast(Any, connection.transport).preamble_complete:
            return Reason.PROXY if now - connection.accepted >= PROXY_TIMEOUT else None
        for reason, limit, since in (
            (Reason.HANDSHAKE, limits.handshake, None if connection.established else connection.accepted),
            (Reason.STALL, limits.stall, connection.since if connection.owing else None),
            (Reason.HALF_CLOSE, limits.half_close, connection.ended),
        ):
            if limit is not None and since is not None and now - since >= limit:
                return reason
        return None

    def _end(self, connection: Guarded, reason: Reason) -> None:
        transport = cast(Any, connection.transport)
        if reason in PEACEFUL and connection.reason is None:
            connection.reason = reason
            transport.loseConnection()  # with all that it is owed
            connection.ended = connection.ended or self.clock.seconds()
        else:
            # A connection that we have ended, and that does not end, has had its time too.
            if reason not in PEACEFUL:
                connection.reason = reason
            transport.abortConnection()

    # The end.

    def drain(self, seconds: float, done: Callable[[], None]) -> None:
        """Let echoes under way finish, close what is quiet, and what is left after *seconds*.

        :param done: is called when no connection is left.
        """
        if not self.open:
            done()
            return
        self._drained.append(done)
        now = self.clock.seconds()
        self._deadline = min(self._deadline, now + seconds)
        if self._draining_since is None:
            self._draining_since = now
            if self._next_sweep is not None:
                self._next_sweep.cancel()
            self._next_sweep = self.clock.callLater(0, self._sweep)

    def _drain_some(self, now: float) -> None:
        for connection in [*self.open]:
            if now >= self._deadline:
                self._abort(connection)
            elif now - connection.since >= QUIET and not connection.owed and connection.reason is None:
                self._end(connection, Reason.DRAIN)

    def abort(self) -> None:
        """End every connection now."""
        for connection in [*self.open]:
            self._abort(connection)

    def _abort(self, connection: Guarded) -> None:
        connection.reason = connection.reason or Reason.DRAIN
        cast(Any, connection.transport).abortConnection()


def level_of(reason: Reason) -> Any:
    """The level that *reason* is logged at."""
    return LogLevel.lookupByName(reason.level)


def canonical(host: str) -> str:
    """One name for one peer: the same address may come as IPv4 and mapped into IPv6."""
    return str(address_of(host)) if ":" in host else host


def shown_peer(address: object) -> str:
    """A peer, for people."""
    host = getattr(address, "host", None)
    return "local" if host is None else host_and_port(host, cast(Any, address).port)
