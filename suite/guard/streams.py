"""Which connections a stream endpoint admits, how long they may last, and how they end.

Rules: a guard owns a connection from accept to its end, in whatever phase it is (`suite.guard.sweep.Phase`):
it counts towards `connections`, has a deadline, is drained and can be aborted. It is refused as soon as what
decides about it is known: the limit on connections, the source of a PROXY header and the user of a UNIX
socket at accept; the client's address at accept or, behind a PROXY header, with the header's last byte. A
refused connection gets no bytes. One sweep over all connections every `SWEEP` seconds enforces the time
limits, so that a message costs nothing; every end has one `Reason`, the first, which is counted and logged.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
)
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.config.limits import PROXY_TIMEOUT, Limits
from suite.engine.handshake import InvalidPreambleError, reason_of
from suite.engine.interfaces import IPreambleListener
from suite.guard.admission import Admission, level_of, shown_peer
from suite.guard.handshakes import HandshakeCounts
from suite.guard.keepalive import keep_alive
from suite.guard.sweep import DRAIN_SWEEP, PAUSE, SWEEP, Phase, Watched, forgive, overdue
from suite.reasons import REFUSALS, Reason

log = Logger()

#: Seconds. While draining, a connection silent this long, with nothing unsent, is finished.
QUIET: Final = 1.0

#: Reasons for a graceful close: unsent bytes are delivered first.
GRACEFUL: Final = frozenset({Reason.IDLE, Reason.LIFETIME, Reason.DRAIN, Reason.OPERATOR})


@implementer(IHandshakeListener, IPreambleListener)
class Guarded(Watched, Protocol):
    """A connection under the limits of a `Guard`.

    :ivar number: the number of this connection at its endpoint, counted from 1; all workers count together.
    :ivar peer: the peer's address, as shown in the log.
    :ivar source: what ``per_peer`` counts it under; None on a UNIX socket, and until a PROXY header has
        named the client.
    :ivar detail: what the log says beside the reason.
    :ivar faults: the declared faults that strike it, for people; empty if none do.
    :ivar written: bytes written to the transport.
    :ivar shaking: whether it has to complete a TLS handshake yet.
    :cvar wants_client_hello: whether a transport over TLS has to keep the ClientHello (`suite.engine.hello`).
    """

    wants_client_hello = False

    written = 0
    shaking = False

    number = 0
    peer = ""
    source: int | None = None
    detail = ""
    faults = ""

    def __init__(self, guard: Guard | None = None) -> None:
        self.guard = guard

    @override
    def connectionMade(self) -> None:
        if self.phase is Phase.ACCEPTED:  # otherwise it is known already, from its PROXY header
            self.accepted()

    def accepted(self) -> None:
        """The connection exists, at `transport`; its PROXY header may have to come yet."""
        if self.guard is not None:
            self.guard.accepted(self)

    def preamble_completed(self) -> bool:
        """`IPreambleListener.preamble_completed`: the PROXY header has named the client."""
        return self.guard is None or self.guard.header_completed(self)

    def preamble_invalid(self, problem: str) -> None:
        """The connection begins with something that is no PROXY header: abort it."""
        if self.guard is not None:
            self.guard.header_invalid(self, problem)
        else:
            cast(Any, self.transport).abortConnection()

    def handshakeCompleted(self) -> None:
        """`IHandshakeListener.handshakeCompleted`: the TLS handshake has completed."""
        if self.guard is not None:
            self.guard.handshake_completed(self)

    def begin(self) -> None:
        """Bytes may be sent from now on: for an answer that needs none from the peer."""

    def readConnectionLost(self) -> None:
        """The peer has closed its side."""
        if self.guard is not None:
            self.guard.ending(self)
            # A peer that sent nothing, such as a health check, lost nothing: its end is not truncated.
            if self.received and getattr(self.transport, "close_notify_received", True) is False:
                self.reason = self.reason or Reason.TRUNCATED

    def end(self, reason: Reason) -> None:
        """Half-close and keep reading; closing at once could reset the connection and lose our last bytes."""
        transport = cast(Any, self.transport)
        self.reason = self.reason or reason
        if self.guard is not None:
            self.guard.ending(self)
        if hasattr(transport, "owed"):  # a transport of the engine
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    @override
    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]  # Twisted's own default
        self.lost(reason)

    def lost(self, reason: Failure) -> None:
        """The connection has ended, whether or not it was ever served."""
        if self.guard is not None:
            self.guard.closed(self, reason)

    @property
    @override
    def owed(self) -> int:
        """Bytes that the peer has not taken yet, also those that the kernel holds: it costs a system call.

        On transports that cannot tell, 1 while writing is paused.
        """
        owed = getattr(self.transport, "owed", None)
        return int(getattr(self.transport, "producerPaused", False)) if owed is None else owed

    @property
    def sent(self) -> int:
        """Bytes of the answer that the kernel has accepted; over TLS, those that OpenSSL has.

        On transports that cannot tell what is unsent (a plugin's, Twisted's own), all that has been written.
        """
        transport = self.transport
        sent: int | None = getattr(transport, "sent", None)  # it may hold back what it is given
        return max(0, self.written - (getattr(transport, "unsent", 0) or 0)) if sent is None else sent

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not accepted yet; on transports that cannot tell, `owed`."""
        unsent = getattr(self.transport, "unsent", None)
        return self.owed if unsent is None else unsent


class Guard(Admission):
    """Owns the connections of one endpoint, and enforces its limits on them.

    :param clock: the source of time, which schedules the sweeps.
    :param name: the name of the endpoint.
    :param limits: the limits to enforce; they may be replaced at any time.
    :param handshakes: whether connections begin with a TLS handshake.
    :param proxied: whether connections begin with a PROXY header before their handshake. It is the default of
        the factory's ``proxied``; what a connection does, its transport knows (``preamble_complete``).
    :ivar open: the open connections, in the order in which they were accepted.
    :ivar accepted_count: the number of connections accepted.
    :ivar received: the number of bytes received on connections that have ended.
    :ivar sent: the number of bytes sent on them.
    :ivar handshake_counts: how TLS handshakes have ended.
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
        super().__init__(clock, name, limits)
        self.handshakes = handshakes
        self.proxied = proxied
        self.open: dict[Guarded, None] = {}
        self.accepted_count = 0
        self.received = self.sent = 0
        self.handshake_counts = HandshakeCounts()
        self._numbers = itertools.count(1)
        self._next_sweep: IDelayedCall | None = None
        self._sweep_due = 0.0
        self._draining_since: float | None = None
        self._deadline = float("inf")
        self._drained: list[Callable[[], None]] = []

    @override
    def _count_open(self) -> int:
        return len(self.open)

    # Open connections.

    def find(self, number: int) -> Guarded | None:
        """The open connection with this *number*; None: there is none."""
        return next((connection for connection in self.open if connection.number == number), None)

    def accepted(self, connection: Guarded) -> None:
        """*connection* has been accepted: number it, check its user, and watch it from now on."""
        transport = cast(Any, connection.transport)
        address = transport.getPeer()
        share = self.share
        connection.number = next(self._numbers) if share is None else share.numbers.next()
        connection.peer = shown_peer(address)
        connection.accepted_at = connection.since = connection.unchanged_since = self.clock.seconds()
        keep_alive(transport, self.limits)
        self.open[connection] = None
        self.accepted_count += 1
        if self.handshakes:  # else the default, which costs no memory
            connection.shaking = True
        if self._next_sweep is None:
            self._schedule_sweep()
        header = not getattr(transport, "preamble_complete", True)
        if header:
            connection.phase = Phase.HEADER
        else:
            connection.phase = Phase.HANDSHAKE if self.handshakes else Phase.ANSWERING
        host = getattr(address, "host", None)
        if host is None and not self.admits_user(transport):
            # Whatever a header says later: who connects to a UNIX socket is known now.
            self._abort(connection, Reason.DENIED)
        elif not header:
            connection.source = self.count(host)

    def header_completed(self, connection: Guarded) -> bool:
        """The PROXY header of *connection* has named the client; return whether that is admitted.

        If not, the connection is aborted.
        """
        if connection.reason is not None or connection.phase is Phase.GONE:
            return False
        address = cast(Any, connection.transport).getPeer()
        connection.peer = shown_peer(address)
        host = getattr(address, "host", None)
        reason = self.refusal_of(host)
        if reason is not None:
            self._abort(connection, reason)
            return False
        if connection.phase is Phase.HEADER:
            # `handshake` counts from accept; anything else begins now.
            shaken = getattr(connection.transport, "handshake_complete", True)
            connection.phase = Phase.ANSWERING if shaken else Phase.HANDSHAKE
            connection.unchanged_since = self.clock.seconds()
        connection.source = self.count(host)
        return True

    def header_invalid(self, connection: Guarded, problem: str) -> None:
        """*connection* begins with something that is no PROXY header: abort it."""
        connection.detail = connection.detail or problem
        self._abort(connection, Reason.PROXY)

    def handshake_completed(self, connection: Guarded) -> None:
        """*connection* has completed its TLS handshake."""
        connection.shaking = False
        self.handshake_counts.complete(connection.transport)
        if connection.phase is Phase.HANDSHAKE:
            connection.phase = Phase.ANSWERING
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

    def ending(self, connection: Guarded) -> None:
        """One side of *connection* has been closed."""
        if connection.phase not in (Phase.ENDING, Phase.GONE):
            connection.phase = Phase.ENDING
            connection.since = self.clock.seconds()

    def closed(self, connection: Guarded, failure: Failure) -> None:
        """*connection* has ended: count it, and log why."""
        if connection not in self.open:
            return
        del self.open[connection]
        self.uncount(connection.source)
        if self.share is not None:
            self.share.set_open(len(self.open))
        reason, detail = connection.reason, connection.detail
        if reason is None:
            reason, detail = self._reason_for(connection, failure)
        connection.phase = Phase.GONE
        self.ends[reason] += 1
        self.received += connection.received
        self.sent += connection.sent
        if connection.shaking:
            self.handshake_counts.fail(connection.transport, reason, cast(BaseException, failure.value))
        log.emit(
            level_of(reason),
            ("refused" if reason in REFUSALS else "closed")
            + (": {detail}" if detail else "")
            + ("; faults: {faults}" if connection.faults else ""),
            endpoint=self.name,
            connection=connection.number,
            peer=connection.peer,
            reason=reason.value,
            received=connection.received,
            duration=round(self.clock.seconds() - connection.accepted_at, 6),
            detail=detail,
            # What has struck is told of each connection, however many there are.
            **({"faults": connection.faults, "unlimited": True} if connection.faults else {}),
        )
        if not self.open:
            self._all_closed()

    @staticmethod
    def _reason_for(connection: Guarded, failure: Failure) -> tuple[Reason, str]:
        """Why a connection ended that this side did not end, and any detail for the log."""
        error = failure.value
        if isinstance(error, ConnectionDone):
            return Reason.CLOSED, ""
        if isinstance(error, ConnectionClosed):
            return Reason.RESET, ""
        if isinstance(error, InvalidPreambleError):
            return Reason.PROXY, str(error)
        # Or raised by a handshake callback.
        if isinstance(error, SSL.Error) or connection.phase is Phase.HANDSHAKE:
            return Reason.TLS, reason_of(cast(Exception, error))
        return Reason.ERROR, str(error) or "see the traceback"

    def _all_closed(self) -> None:
        """No connections left: stop sweeping, complete the drain."""
        if self._next_sweep is not None:
            self._next_sweep.cancel()
            self._next_sweep = None
        waiting, self._drained = self._drained, []
        for done in waiting:
            done()

    def close(self, connection: Guarded, *, abort: bool = False) -> None:
        """End *connection*, which is open, because an operator wants that.

        :param abort: reset it at once; otherwise what is unsent is sent first, as long as the peer takes it.
        """
        if abort:
            self._abort(connection, Reason.OPERATOR)
        elif connection.reason is None:
            self._end(connection, Reason.OPERATOR)

    # The sweep.

    def _schedule_sweep(self, delay: float | None = None) -> None:
        if delay is None:
            delay = SWEEP if self._draining_since is None else DRAIN_SWEEP
        self._sweep_due = self.clock.seconds() + delay
        self._next_sweep = self.clock.callLater(delay, self._sweep)

    def _sweep(self) -> None:
        now = self.clock.seconds()
        late = now - self._sweep_due
        self._schedule_sweep()
        if late > PAUSE:
            forgive(self.open, late, now)
        for connection, reason in [*overdue(self.open, self.limits, now)]:
            self._end(connection, reason)
        if self._draining_since is not None:
            self._drain_some(now)

    def _end(self, connection: Guarded, reason: Reason) -> None:
        transport = cast(Any, connection.transport)
        if reason in GRACEFUL and connection.reason is None:
            connection.reason = reason
            transport.loseConnection()  # once the unsent bytes are sent
            self.ending(connection)
            return
        # Or a graceful close has not completed in time: it keeps its reason.
        if reason is Reason.PROXY:
            connection.detail = connection.detail or f"no PROXY header within {PROXY_TIMEOUT:g} seconds"
        self._abort(connection, reason)

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
            self._schedule_sweep(0)

    def _drain_some(self, now: float) -> None:
        late = now >= self._deadline
        for connection in [*self.open]:
            # Bytes that the kernel holds already are delivered after a close, but not after an abort.
            if late and (connection.unsent or connection.reason is not None):
                self._abort(connection, Reason.DRAIN)
                continue
            silent = now - connection.unchanged_since >= QUIET
            over = late or connection.endless or (silent and not connection.last_owed)
            if over and connection.reason is None:
                self._end(connection, Reason.DRAIN)

    def abort(self) -> None:
        """Abort every connection now."""
        for connection in [*self.open]:
            self._abort(connection, Reason.DRAIN)

    @staticmethod
    def _abort(connection: Guarded, reason: Reason) -> None:
        connection.reason = connection.reason or reason
        cast(Any, connection.transport).abortConnection()
