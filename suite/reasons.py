"""Why a connection ended or was refused: the closed list of reasons that log entries use.

Rules: the list is closed, so that counters and rate limits by reason stay small whatever peers do;
docs/logs.md shows it as a table. Ordinary ends are logged at ``debug``, refusals and faults above that.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self


class Reason(StrEnum):
    """One word, its meaning, and the level that it is logged at.

    :ivar meaning: an explanation in one line, for people.
    :ivar level: the name of a level in ``twisted.logger.LogLevel``.
    """

    meaning: str
    level: str

    def __new__(cls, word: str, level: str, meaning: str) -> Self:
        """The member named *word*."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.level = level
        member.meaning = meaning
        return member

    # Ordinary ends.
    CLOSED = "closed", "debug", "the peer closed it properly, and all bytes were sent"
    ANSWERED = "answered", "debug", "the endpoint's answer was complete, so this side closed it"
    RESET = "reset", "debug", "the connection was lost: reset by the peer, or by the network"
    OPERATOR = "operator", "info", "closed by an operator"
    DRAIN = "drain", "debug", "the suite is shutting down, or a reload removed the endpoint"

    # Faults of the peer or of the network.
    TRUNCATED = (
        "truncated",
        "info",
        "TLS: it ended without close_notify, so data may have been cut off",
    )
    TLS = "tls", "info", "TLS: the handshake or a later record failed"
    HANDSHAKE = "handshake", "info", "TLS: the handshake took too long"
    PROXY = "proxy", "info", "the PROXY header was missing, invalid or late, or not from proxy_from"

    # Limits.
    IDLE = "idle", "debug", "no data in either direction for too long"
    STALL = "stall", "info", "the peer stopped reading its replies"
    HALF_CLOSE = "half-close", "info", "not finished in time after one side was closed"
    LIFETIME = "lifetime", "debug", "it reached the maximum duration of a connection"
    FAULT = "fault", "info", "ended on purpose: a declared fault"
    BYTES = "bytes", "debug", "it reached the maximum number of bytes for a connection"

    # Refusals: closed as soon as it was accepted.
    CONNECTIONS = "connections", "warn", "refused: the endpoint has its maximum number of connections"
    PER_PEER = "per-peer", "info", "refused: this peer has its maximum number of connections"
    DENIED = "denied", "info", "refused: this peer is not admitted (allow, deny, users, groups)"
    DESCRIPTORS = "descriptors", "warn", "refused: the process is out of file descriptors"
    SOURCE = "source", "info", "UDP, not answered: from a system port, this suite, or a non-unicast address"
    RATE = "rate", "info", "UDP, not answered: this source is over its rate"
    DESTINATION = "destination", "info", "UDP, not answered: sent to a broadcast or multicast address"
    LOOP = "loop", "warn", "UDP, not answered: it came again and again, as if from another echo server"
    SIZE = "size", "info", "UDP, not answered: the datagram was shorter than its answer"

    # Faults of the suite.
    ERROR = "error", "error", "a bug in the suite; a traceback is logged with it"


#: Reasons not to serve a connection, or answer a datagram, at all.
REFUSALS: Final = frozenset(
    {
        Reason.PROXY,
        Reason.CONNECTIONS,
        Reason.PER_PEER,
        Reason.DENIED,
        Reason.DESCRIPTORS,
        Reason.SOURCE,
        Reason.RATE,
        Reason.DESTINATION,
        Reason.LOOP,
        Reason.SIZE,
    }
)
