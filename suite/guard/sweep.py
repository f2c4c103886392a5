"""The phases of a connection, how long each may last, and which connections have taken longer.

Rules: a connection is in one phase, which has a table of deadlines; every time of a connection except
`Watched.accepted_at` is shifted when a sweep comes late, because this process has seen nothing meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple, TypeVar

from suite.config.limits import PROXY_TIMEOUT, Limits
from suite.reasons import Reason

#: Seconds between sweeps. A limit takes effect at most two sweeps late.
SWEEP: Final = 0.25

#: Seconds between sweeps while draining, when somebody is waiting for the end.
DRAIN_SWEEP: Final = 0.1

#: Seconds. Before a sweep that comes later than this after it was due, the whole process has paused: SIGSTOP,
#: a suspended machine, a CPU that others had.
PAUSE: Final = SWEEP


#: `Watched.last_owed` while bytes are arriving, to ask the kernel only once they are not.
UNKNOWN: Final = -1


class Phase(Enum):
    """What a connection is doing; it never goes back to an earlier phase."""

    #: Nothing is known of it yet.
    ACCEPTED = auto()
    #: It has to send a PROXY header; until then, the client is not known.
    HEADER = auto()
    #: It has to complete a TLS handshake.
    HANDSHAKE = auto()
    #: It is served.
    ANSWERING = auto()
    #: One side has been closed, by the peer or by us.
    ENDING = auto()
    #: It is closed.
    GONE = auto()


class Watched:
    """What a sweep needs to know of a connection.

    :ivar phase: what the connection is doing.
    :ivar accepted_at: when it was accepted, by the guard's clock, as all times here; never shifted.
    :ivar since: when the time of its phase began to count.
    :ivar received: bytes received from the peer, counted where they are read.
    :ivar reason: why this side ended it; None if it did not.
    :ivar last_received: `received` at the last sweep that saw a change.
    :ivar last_owed: `owed` at the last sweep; `UNKNOWN` at one that saw more received.
    :ivar unchanged_since: when that sweep was.
    :cvar endless: whether it sends as long as the peer takes it, so that a drain need not wait for an end.
    """

    endless = False
    phase = Phase.ACCEPTED
    accepted_at = 0.0
    since = 0.0
    received = 0
    reason: Reason | None = None
    last_received = 0
    last_owed = 0
    unchanged_since = 0.0

    @property
    def owed(self) -> int:
        """Bytes that the peer has not taken yet, also those that the kernel holds: it costs a system call."""
        raise NotImplementedError


Connection = TypeVar("Connection", bound=Watched)


class Deadline(NamedTuple):
    """A limit on the time that a connection may spend in a phase.

    :ivar reason: why the connection is ended when the limit has passed.
    :ivar limit: the seconds that `Limits` allow; None for no limit.
    :ivar began: when they began for a connection; None if the deadline does not apply to it now.
    """

    reason: Reason
    limit: Callable[[Limits], float | None]
    began: Callable[[Watched], float | None]


STALL: Final = Deadline(
    Reason.STALL,
    lambda limits: limits.stall,
    lambda connection: connection.unchanged_since if connection.last_owed else None,
)

#: The deadlines of each phase; the first that has passed ends the connection. `lifetime` is not among them,
#: because it is about all phases.
DEADLINES: Final[Mapping[Phase, tuple[Deadline, ...]]] = {
    Phase.HEADER: (
        Deadline(Reason.PROXY, lambda _limits: PROXY_TIMEOUT, lambda connection: connection.since),
    ),
    Phase.HANDSHAKE: (
        Deadline(Reason.HANDSHAKE, lambda limits: limits.handshake, lambda connection: connection.since),
    ),
    Phase.ANSWERING: (
        STALL,
        Deadline(
            Reason.IDLE,
            lambda limits: limits.idle,
            lambda connection: None if connection.last_owed else connection.unchanged_since,
        ),
    ),
    Phase.ENDING: (
        STALL,
        # A peer that still takes what it is owed has begun anew.
        Deadline(
            Reason.HALF_CLOSE,
            lambda limits: limits.half_close,
            lambda connection: max(connection.since, connection.unchanged_since),
        ),
    ),
}


def expired(connection: Watched, limits: Limits, now: float) -> Reason | None:
    """Why *connection* has been in its phase for too long; None if it has not."""
    for reason, limit_of, began in DEADLINES[connection.phase]:
        limit, since = limit_of(limits), began(connection)
        if limit is not None and since is not None and now - since >= limit:
            return reason
    return None


def look_at(connection: Watched, now: float) -> None:
    """Note whether *connection* has made progress since the last sweep.

    `Watched.owed` costs a system call, so it is not asked for while bytes arrive, nor when nothing is owed.
    What arrives after we have ended our side is no progress: it is not answered.
    """
    more = connection.received != connection.last_received
    connection.last_received = connection.received
    if more and not (connection.phase is Phase.ENDING and connection.reason is not None):
        connection.last_owed = UNKNOWN
        connection.unchanged_since = now
    elif connection.last_owed:
        owed = connection.owed
        if owed != connection.last_owed:
            if connection.last_owed != UNKNOWN:
                connection.unchanged_since = now
            connection.last_owed = owed


def overdue(
    connections: Iterable[Connection], limits: Limits, now: float
) -> Iterator[tuple[Connection, Reason]]:
    """Look at all *connections*; give those whose time is up, and why."""
    idle = limits.idle if limits.idle is not None else float("inf")
    lifetime = limits.lifetime if limits.lifetime is not None else float("inf")
    answering = Phase.ANSWERING
    for connection in connections:
        if connection.received != connection.last_received or connection.last_owed:
            look_at(connection, now)
        if now - connection.accepted_at >= lifetime and connection.reason is None:
            yield connection, Reason.LIFETIME
        elif connection.phase is answering and not connection.last_owed:
            # The entry of `DEADLINES` for nearly all connections, without its calls.
            if now - connection.unchanged_since >= idle:
                yield connection, Reason.IDLE
        else:
            reason = expired(connection, limits, now)
            if reason is not None:
                yield connection, reason


def forgive(connections: Iterable[Watched], gap: float, now: float) -> None:
    """Shift the times of *connections* by *gap*, seconds in which nothing could be seen of them."""
    for connection in connections:
        # One that was accepted after the gap has lost nothing by it.
        connection.since = min(now, connection.since + gap)
        connection.unchanged_since = min(now, connection.unchanged_since + gap)
