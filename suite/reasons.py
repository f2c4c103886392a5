"""Why a connection has ended, or never began: the short list that every log entry draws from.

Rules: the list is closed, so that what is counted and limited by reason stays small whatever peers do;
docs/logs.md has it as a table. Ordinary ends are for ``debug``; above it are only refusals and faults.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """One word, its meaning, and the level that it is logged at.

    :ivar meaning: one line, for people.
    :ivar level: the name of a level of ``twisted.logger.LogLevel``.
    """

    meaning: str
    level: str

    def __new__(cls, word: str, level: str, meaning: str) -> Self:
        """The member that is called *word*."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.level = level
        member.meaning = meaning
        return member

    # Ordinary ends.
    CLOSED = "closed", "debug", "the peer ended it properly, and had all its bytes"
    RESET = "reset", "debug", "the connection was lost: the peer reset it, or the network did"
    DRAIN = "drain", "debug", "we are shutting down, or its endpoint went with a reload"

    # Faults of the peer, or of what is between us.
    TRUNCATED = (
        "truncated",
        "info",
        "TLS: it ended without close_notify; somebody may have cut it off",
    )
    TLS = "tls", "info", "TLS: the handshake or a later record failed"
    HANDSHAKE = "handshake", "info", "TLS: the handshake took too long"
    PROXY = "proxy", "info", "no PROXY header, a bad one, one too late, or from somebody who may not send one"

    # Limits that ended it.
    IDLE = "idle", "debug", "nothing came or went for too long"
    STALL = "stall", "info", "the peer did not take the bytes that it was owed"
    HALF_CLOSE = "half-close", "info", "not finished in time after the peer had ended its side"
    LIFETIME = "lifetime", "debug", "it lasted as long as a connection may"
    BYTES = "bytes", "debug", "it brought as many bytes as a connection may"

    # Refusals: closed as soon as it was accepted.
    CONNECTIONS = "connections", "warn", "refused: the endpoint has as many connections as it may"
    PER_PEER = "per-peer", "info", "refused: this peer has as many connections as it may"
    DENIED = "denied", "info", "refused: this peer is not admitted (allow, deny, users, groups)"
    DESCRIPTORS = "descriptors", "warn", "refused: the process is out of file descriptors"
    SOURCE = "source", "info", "UDP, not answered: from a system port, from ourselves, or from no single host"
    RATE = "rate", "info", "UDP, not answered: this source has had all that its rate allows"

    # Ours.
    ERROR = "error", "error", "a bug in the suite; a traceback is logged with it"
