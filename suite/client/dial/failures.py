"""The failures of clients, with one word for each kind.

Rules: the words are a public interface (scripts compare them, docs/probe.md lists them); details from the
operating system, OpenSSL or a certificate follow the word, for people.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Final

from suite.errors import SuiteError
from suite.text import one_line

#: Every word and its meaning.
WORDS: Final = {
    "dns": "the name has no address (of the requested family), or no resolver answered in time",
    "refused": "nothing listens there, or a firewall rejects the connection",
    "unreachable": "no route to the host",
    "timeout": "no connection, no handshake or no echo in time",
    "reset": "the connection was cut off",
    "closed": "the other side ended before all bytes were back",
    "mismatch": "the bytes that came back are not those that were sent",
    "lost": "a datagram did not come back in time",
    "too-long": "the datagram is larger than the path allows",
    "denied": "the operating system forbids it: permissions of a socket, or a firewall",
    "missing": "there is no such UNIX socket",
    "starttls": "the other side did not agree to STARTTLS, or not as its protocol demands",
    "tls-alert": "the other side ended TLS with an alert",
    "tls-error": "what came back is not TLS, or not a version or variant we speak",
    "cert-expired": "a certificate is no longer valid",
    "cert-not-yet-valid": "a certificate is not valid yet",
    "cert-untrusted": "no trusted CA vouches for the certificate",
    "cert-name": "the certificate names another host",
    "cert-expires": "a certificate expires sooner than --min-days allows",
    "system": "any other error of the operating system",
}

_BY_ERRNO: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",  # ::1 where IPv6 is off
    errno.EAFNOSUPPORT: "unreachable",
    errno.ETIMEDOUT: "timeout",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
    errno.EMSGSIZE: "too-long",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
}

Fact = str | int | float | list[str] | None


class TargetError(SuiteError):
    """Something is wrong with a target, or with the connection to it.

    :ivar word: the kind of failure, one of `WORDS`.
    :ivar detail: the details, for people.
    :ivar facts: the details, for programs: ``offset`` of a mismatch, ``alert``, ``expected`` and ``found``
        names, ``address`` and ``connect_ms`` of a failed handshake.
    :ivar target: the target as the user wrote it, where the context does not show it.
    """

    def __init__(self, word: str, detail: str, facts: Mapping[str, Fact] | None = None) -> None:
        super().__init__(word, detail)
        self.word = word
        self.detail = detail
        self.facts = dict(facts or {})
        self.target = ""

    def __str__(self) -> str:
        return one_line(": ".join(part for part in (self.target, self.word, self.detail) if part))


def from_errno(number: int) -> TargetError:
    """The `TargetError` for *number*, an errno."""
    return TargetError(_BY_ERRNO.get(number, "system"), os.strerror(number))
