"""How handshakes ended, in a word."""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost

from suite.endpoints.tls import NoApplicationProtocolError
from suite.engine.handshake import LEFT_HANDSHAKE
from suite.engine.handshake_records import HandshakeTooLargeError
from suite.guard.handshakes import MOST_WORDS, OTHER, Handshake, HandshakeCounts, word_of
from suite.reasons import Reason


class Transport:
    """A transport on which a handshake has begun, or not."""

    def __init__(self, begun: bool = True) -> None:
        self.handshake_begun = begun


def error(text: str) -> SSL.Error:
    return SSL.Error([("SSL routines", "", "an earlier one"), ("SSL routines", "", text)])


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (error("tlsv1 alert unknown ca"), "tlsv1-alert-unknown-ca"),
        (error("no shared cipher"), "no-shared-cipher"),
        (error("Wrong  SSL/TLS version (number)"), "wrong-ssl-tls-version-number"),
        (error("x" * 100), "x" * 60),
        (error("…"), OTHER),
        (SSL.Error(), "no-reason-given"),
        (LEFT_HANDSHAKE, "left"),
        (SSL.ZeroReturnError(), "left"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "left"),
        (HandshakeTooLargeError(), "too-large"),
        # What a callback says may be the peer's words: only its name is taken.
        (NoApplicationProtocolError("the client offers [b'peer-chosen']"), "no-application-protocol"),
    ],
)
def test_words(failure: Exception, word: str) -> None:
    assert word_of(failure) == word
    counts = HandshakeCounts()
    counts.fail(Transport(), Reason.TLS, failure)
    assert counts.failed == {word: 1}


@pytest.mark.parametrize(
    ("reason", "begun", "words"),
    [
        (Reason.CLOSED, True, {"left": 1}),
        (Reason.CLOSED, False, {}),
        (Reason.RESET, True, {"reset": 1}),
        (Reason.RESET, False, {}),
        (Reason.HANDSHAKE, False, {"timeout": 1}),
        (Reason.DRAIN, True, {"drain": 1}),
        (Reason.FAULT, True, {"fault": 1}),
        (Reason.TLS, True, {"tls": 1}),
        (Reason.DENIED, True, {}),
        (Reason.PROXY, False, {}),
    ],
)
def test_connections_that_ended_before_their_handshake(
    reason: Reason, begun: bool, words: dict[str, int]
) -> None:
    counts = HandshakeCounts()
    failure = ConnectionLost() if reason is Reason.RESET else ConnectionDone()
    counts.fail(Transport(begun), reason, failure)
    assert counts.failed == words


def test_words_are_limited() -> None:
    """Whatever peers can have OpenSSL say, so that a scrape stays small."""
    counts = HandshakeCounts()
    for number in range(MOST_WORDS + 10):
        counts.fail(Transport(), Reason.TLS, error(f"reason {number}"))
        counts.fail(Transport(), Reason.TLS, error("reason 0"))
    assert len(counts.failed) == MOST_WORDS + 1
    assert counts.failed[OTHER] == 10
    assert counts.failed["reason-0"] == MOST_WORDS + 11
    assert sum(counts.failed.values()) == 2 * (MOST_WORDS + 10)


def test_a_transport_that_does_not_tell_is_not_counted() -> None:
    counts = HandshakeCounts()
    counts.complete(object())
    counts.complete(Transport())
    assert counts.completed == {}


def test_what_speaks_for_openssl_is_counted() -> None:
    """tlslite-ng's connections stand where OpenSSL's do, and never resume."""

    class Handle:
        def get_cipher_name(self) -> str:
            return "3des"

        def get_protocol_version_name(self) -> str:
            return "TLSv1.2"

    class Told(Transport):
        def getHandle(self) -> Any:
            return Handle()

    counts = HandshakeCounts()
    counts.complete(Told())
    assert counts.completed == {Handshake("TLSv1.2", "3des", resumed=False): 1}
