"""Which connections a stream endpoint admits, how long they may last, and how they end.

Rules: a connection is refused at accept, before anything is read; one sweep over all connections every
`SWEEP` seconds enforces the time limits, so that a message costs nothing; every end has a `Reason`, which
is counted and logged.
"""

from __future__ import annotations

import itertools
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

log = Logger()

#: Seconds between sweeps. A limit takes effect at most two sweeps late.
SWEEP: Final = 0.25

#: Seconds between sweeps while draining, when somebody is waiting for the end.
DRAIN_SWEEP: Final = 0.1

#: Seconds. While draining, a connection silent this long, with nothing unsent, is finished.
QUIET: Final = 1.0

#: `Guarded.last_owed` while bytes are arriving, to ask the kernel only once they are not.
UNKNOWN: Final = -1

#: Reasons for a graceful close: unsent bytes are delivered first.
GRACEFUL: Final = frozenset({Reason.IDLE, Reason.LIFETIME, Reason.DRAIN})


@implementer(IHandshakeListener)
class Guarded(Protocol):
    """A connection under the limits of a `Guard`.

    :ivar received: bytes received from the peer, counted where they are read.
    :ivar number: the number of this connection at its endpoint, counted from 1.
    :ivar peer: the peer's address, as shown in the log.
    :ivar host: the peer's address, canonical, which ``per_peer`` counts; None on a UNIX socket, and until a
        PROXY header has named it.
    :ivar accepted_at: when it was accepted, by the guard's clock, as all times here.
    :ivar established: whether it has no handshake, or has completed it.
    :ivar half_closed_at: when the first of the two sides was closed, the peer's or ours; None: both are open.
    :ivar reason: why this side ended it; None if it did not.
    :ivar last_received: `received` at the last sweep that saw a change.
    :ivar last_owed: `owed` at the last sweep; `UNKNOWN` at one that saw more received.
    :ivar unchanged_since: when that sweep was.
    """

    received = 0
    number = 0
    peer = ""
    host: str | None = None
    accepted_at = 0.0
    established = True
    half_closed_at: float | None = None
    reason: Reason | None = None

    # Set by `Guard` only.
    last_received = 0
    last_owed = 0
    unchanged_since = 0.0

    def __init__(self, guard: Guard | None = None) -> None:
        self.guard = guard

    @override
    def connectionMade(self) -> None:
        if self.guard is not None:
            self.guard.opened(self)

    def handshakeCompleted(self) -> None:
        """`IHandshakeListener.handshakeCompleted`: the TLS handshake has completed."""
        if self.guard is not None:
            self.guard.handshake_completed(self)

    def readConnectionLost(self) -> None:
        """The peer has closed its side."""
        if self.guard is not None:
            if self.half_closed_at is None:
                self.half_closed_at = self.guard.clock.seconds()
            # A peer that sent nothing, such as a health check, lost nothing: its end is not truncated.
            if self.received and getattr(self.transport, "close_notify_received", True) is False:
                self.reason = self.reason or Reason.TRUNCATED

    def end(self, reason: Reason) -> None:
        """Half-close and keep reading; closing at once could reset the connection and lose our last bytes."""
        transport = cast(Any, self.transport)
        self.reason = reason
        if self.guard is not None:
            self.half_closed_at = self.guard.clock.seconds()
        if hasattr(transport, "owed"):  # a transport of the engine
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    @override
    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]  # Twisted's own default
        if self.guard is not None:
            self.guard.closed(self, reason)

    @property
    def owed(self) -> int:
        """Bytes that the peer has not taken yet, also those that the kernel holds: it costs a system call.

        On transports that cannot tell, 1 while writing is paused.
        """
        owed = getattr(self.transport, "owed", None)
        return int(getattr(self.transport, "producerPaused", False)) if owed is None else owed

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not accepted yet; on transports that cannot tell, `owed`."""
        unsent = getattr(self.transport, "unsent", None)
        return self.owed if unsent is None else unsent


class Guard:
    """Admits the connections of one endpoint, and enforces its limits on them.

    :param clock: the source of time, which schedules the sweeps.
    :param name: the name of the endpoint.
    :param limits: the limits to enforce; they may be replaced at any time.
    :param handshakes: whether connections begin with a TLS handshake.
    :param proxied: whether connections begin with a PROXY header, so that the client's address is not known
        before it.
    :ivar open: the open connections, in the order in which they were accepted.
    :ivar accepted_count: the number of connections accepted.
    :ivar received: the number of bytes received on connections that have ended.
    :ivar ends: the number of connections ended or refused, by reason.
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
        self.open: dict[Guarded, None] = {}
        self.accepted_count = 0
        self.received = 0
        self.ends: Counter[Reason] = Counter()
        self._by_host: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._next_sweep: IDelayedCall | None = None
        self._silent_until = float("-inf")
        self._draining_since: float | None = None
        self._deadline = float("inf")
        self._drained: list[Callable[[], None]] = []

    # Accepting.

    def refuses(self, address: IAddress | None) -> bool:
        """Whether a connection from *address* is refused; a refusal is counted and logged."""
        if self.proxied and not self.trusts(address):
            return True
        reason = self._reason_to_refuse(None if self.proxied else getattr(address, "host", None))
        if reason is not None:
            self._refuse(reason, shown_peer(address))
        return reason is not None

    def trusts(self, address: IAddress | None) -> bool:
        """Whether PROXY headers are accepted from *address*; a refusal is counted and logged.

        On a UNIX socket there is no address to check: the socket's mode decides who may connect.
        """
        host = getattr(address, "host", None)
        if host is None or within(address_of(host), self.limits.proxy_from):
            return True
        self.header_refused(cast(IAddress, address), "not from proxy_from")
        return False

    def header_refused(self, address: IAddress, problem: str) -> None:
        """Count and log a connection from *address* without an acceptable PROXY header."""
        self._refuse(Reason.PROXY, shown_peer(address), problem)

    def _reason_to_refuse(self, host: str | None) -> Reason | None:
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
        """Count a connection from *address* that was closed at once, for want of a file descriptor.

        One a second is logged at most: a process short of descriptors is short of other things, too.
        """
        self.ends[Reason.DESCRIPTORS] += 1
        now = self.clock.seconds()
        if now >= self._silent_until:
            self._silent_until = now + 1
            log.emit(
                level_of(Reason.DESCRIPTORS),
                "refused; {refused:,} so far",
                endpoint=self.name,
                peer=shown_peer(address),
                reason=Reason.DESCRIPTORS.value,
                refused=self.ends[Reason.DESCRIPTORS],
            )

    # Open connections.

    def opened(self, connection: Guarded) -> None:
        """*connection* has been made: number it, and watch its limits."""
        transport = cast(Any, connection.transport)
        address = transport.getPeer()
        connection.number = next(self._numbers)
        connection.peer = shown_peer(address)
        connection.accepted_at = connection.unchanged_since = self.clock.seconds()
        connection.established = not self.handshakes
        self.open[connection] = None
        self.accepted_count += 1
        if ITCPTransport.providedBy(transport):
            transport.setTcpKeepAlive(True)
        if self._next_sweep is None:
            self._next_sweep = self.clock.callLater(SWEEP, self._sweep)
        if not self.proxied:
            self._identify(connection, address)

    def _identify(self, connection: Guarded, address: IAddress, *, late: bool = False) -> None:
        """The peer's *address* is known: abort the connection if it is not admitted, or count it.

        :param late: whether `refuses` could not check the address yet.
        """
        host = getattr(address, "host", None)
        reason = self._reason_to_refuse(host) if late and host is not None else None
        if host is None and (self.limits.users or self.limits.groups) and not self._admits_user(connection):
            reason = Reason.DENIED
        if reason is not None:
            connection.reason = reason
            cast(Any, connection.transport).abortConnection()
        elif host is not None:
            connection.host = canonical(host)
            self._by_host[connection.host] += 1

    def _admits_user(self, connection: Guarded) -> bool:
        try:
            uid, groups = credentials(cast(Any, connection.transport).getHandle())
            return uid in user_ids(self.limits.users) or not groups.isdisjoint(group_ids(self.limits.groups))
        except (OSError, KeyError):  # an unknown user is not admitted
            return False

    def handshake_completed(self, connection: Guarded) -> None:
        """*connection* has completed its TLS handshake."""
        connection.established = True
        connection.unchanged_since = self.clock.seconds()
        certificate = getattr(connection.transport, "client_certificate", "")
        if certificate:
            log.info(
                "client certificate: {certificate}",
                endpoint=self.name,
                connection=connection.number,
                peer=connection.peer,
                certificate=certificate,
            )
        if self.proxied:
            address = cast(Any, connection.transport).getPeer()
            connection.peer = shown_peer(address)
            self._identify(connection, address, late=True)

    def closed(self, connection: Guarded, failure: Failure) -> None:
        """*connection* has ended: count it, and log why."""
        if connection not in self.open:
            return
        del self.open[connection]
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
            duration=round(self.clock.seconds() - connection.accepted_at, 6),
            detail=detail,
        )
        if not self.open:
            self._all_closed()

    def _reason_for(self, connection: Guarded, failure: Failure) -> tuple[Reason, str]:
        """Why a connection ended that this side did not end, and any detail for the log."""
        error = failure.value
        if isinstance(error, ConnectionDone):
            return Reason.CLOSED, ""
        if isinstance(error, ConnectionClosed):
            return Reason.RESET, ""
        if isinstance(error, InvalidPreambleError):
            return Reason.PROXY, str(error)
        if isinstance(error, SSL.Error) or not connection.established:  # or raised by a handshake callback
            return Reason.TLS, reason_of(cast(Exception, error))
        return Reason.ERROR, f"{type(error).__name__}: {error}"

    def _all_closed(self) -> None:
        """No connections left: stop sweeping, complete the drain."""
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
            if received != connection.last_received:
                connection.last_received, connection.last_owed = received, UNKNOWN
                connection.unchanged_since = now
            elif connection.last_owed:
                owed = connection.owed
                if owed != connection.last_owed:
                    if connection.last_owed != UNKNOWN:
                        connection.unchanged_since = now
                    connection.last_owed = owed
            since = connection.unchanged_since
            if now - connection.accepted_at >= lifetime and connection.reason is None:
                yield connection, Reason.LIFETIME
            elif connection.established and connection.half_closed_at is None and not connection.last_owed:
                if now - since >= idle:
                    yield connection, Reason.IDLE
            else:
                reason = self._stuck(connection, now)
                if reason is not None:
                    yield connection, reason

    def _stuck(self, connection: Guarded, now: float) -> Reason | None:
        """Which limit has expired, if any, of a connection that is not merely waiting for its peer."""
        limits = self.limits
        if self.proxied and not cast(Any, connection.transport).preamble_complete:
            return Reason.PROXY if now - connection.accepted_at >= PROXY_TIMEOUT else None
        for reason, limit, since in (
            (Reason.HANDSHAKE, limits.handshake, None if connection.established else connection.accepted_at),
            (Reason.STALL, limits.stall, connection.unchanged_since if connection.last_owed else None),
            (Reason.HALF_CLOSE, limits.half_close, connection.half_closed_at),
        ):
            if limit is not None and since is not None and now - since >= limit:
                return reason
        return None

    def _end(self, connection: Guarded, reason: Reason) -> None:
        transport = cast(Any, connection.transport)
        if reason in GRACEFUL and connection.reason is None:
            connection.reason = reason
            transport.loseConnection()  # once the unsent bytes are sent
            connection.half_closed_at = connection.half_closed_at or self.clock.seconds()
        else:
            # A second limit has expired, or a graceful close has not completed in time.
            if reason not in GRACEFUL:
                connection.reason = reason
            transport.abortConnection()

    # Draining.

    def drain(self, seconds: float, done: Callable[[], None]) -> None:
        """Let pending echoes finish, close silent connections, and abort the rest after *seconds*.

        :param done: called when no connection is left.
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
        late = now >= self._deadline
        for connection in [*self.open]:
            # Bytes that the kernel holds already are delivered after a close, but not after an abort.
            if late and (connection.unsent or connection.reason is not None):
                self._abort(connection)
                continue
            silent = now - connection.unchanged_since >= QUIET
            if (late or (silent and not connection.owed)) and connection.reason is None:
                self._end(connection, Reason.DRAIN)

    def abort(self) -> None:
        """Abort every connection now."""
        for connection in [*self.open]:
            self._abort(connection)

    def _abort(self, connection: Guarded) -> None:
        connection.reason = connection.reason or Reason.DRAIN
        cast(Any, connection.transport).abortConnection()


def level_of(reason: Reason) -> Any:
    """The log level of *reason*."""
    return LogLevel.lookupByName(reason.level)


def canonical(host: str) -> str:
    """One spelling for one peer: an IPv4 address may also arrive mapped into IPv6."""
    return str(address_of(host)) if ":" in host else host


def shown_peer(address: object) -> str:
    """The address of a peer, for people."""
    host = getattr(address, "host", None)
    return "local" if host is None else host_and_port(host, cast(Any, address).port)
