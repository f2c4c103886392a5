"""How the TLS handshakes of an endpoint ended: what was agreed on, or in a word why they failed.

Rules: a word is OpenSSL's reason, as a slug, or one of our own, or the `Reason` for which the connection has
ended. An endpoint has at most `MOST_WORDS` of them; what would be one more is `OTHER`. A connection on which
nothing has arrived, as a health check's, has begun no handshake.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final, NamedTuple

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed

from suite.engine.handshake import LEFT_HANDSHAKE, reason_of
from suite.engine.handshake_records import HandshakeTooLargeError
from suite.engine.openssl import has_resumed
from suite.reasons import REFUSALS, Reason

#: Words that an endpoint counts; OpenSSL has some 300 reasons, of which few are seen.
MOST_WORDS: Final = 64

#: Stands for all words beyond these.
OTHER: Final = "other"

#: Characters of a word.
_LONGEST: Final = 60

#: The handshake took longer than the limit `handshake` allows.
TIMEOUT: Final = "timeout"

#: The peer has sent more than a handshake may have.
TOO_LARGE: Final = "too-large"

#: The peer has closed the connection.
LEFT: Final = "left"


class Handshake(NamedTuple):
    """What a TLS handshake has agreed on, as far as it is counted.

    :ivar version: ``TLSv1.3``, as OpenSSL names it.
    :ivar cipher: the cipher suite, as OpenSSL names it.
    :ivar resumed: whether it has resumed an earlier session (RFC 8446, section 2.2).
    """

    version: str
    cipher: str
    resumed: bool


class HandshakeCounts:
    """The handshakes of one endpoint.

    :ivar completed: those that have completed, by what was agreed on.
    :ivar failed: those that have failed, by word.
    """

    def __init__(self) -> None:
        self.completed: Counter[Handshake] = Counter()
        self.failed: Counter[str] = Counter()

    def complete(self, transport: Any) -> None:
        """Count the handshake that has completed on *transport*, unless that does not tell of it."""
        handle: Any = getattr(transport, "getHandle", lambda: None)()
        cipher = getattr(handle, "get_cipher_name", lambda: None)()
        if cipher is not None:
            resumed = isinstance(handle, SSL.Connection) and has_resumed(handle)
            self.completed[Handshake(handle.get_protocol_version_name(), cipher, resumed)] += 1

    def fail(self, transport: Any, reason: Reason, error: BaseException) -> None:
        """Count a connection that has ended before its handshake had completed, if that had begun.

        :param reason: why the connection has ended.
        :param error: the same, as its transport says it.
        """
        word = self._word(transport, reason, error)
        if word:
            known = word in self.failed or len(self.failed) < MOST_WORDS
            self.failed[word if known else OTHER] += 1

    @staticmethod
    def _word(transport: Any, reason: Reason, error: BaseException) -> str:
        """The word for it; empty if no handshake had begun."""
        if reason in REFUSALS:
            return ""
        if reason is Reason.HANDSHAKE:
            return TIMEOUT
        if reason is Reason.TLS:
            return str(reason) if isinstance(error, ConnectionClosed) else word_of(error)
        if not getattr(transport, "handshake_begun", True):
            return ""
        return LEFT if reason is Reason.CLOSED else str(reason)


def word_of(error: BaseException) -> str:
    """The word for *error*, which has ended a handshake."""
    if isinstance(error, HandshakeTooLargeError):
        return TOO_LARGE
    if error is LEFT_HANDSHAKE or isinstance(error, SSL.ZeroReturnError | SSL.SysCallError):
        return LEFT
    if isinstance(error, SSL.Error):
        text = reason_of(error)
    else:  # a callback's: what it says may be the peer's words, what it is called is not
        text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error"))
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST] or OTHER
