"""What can go wrong on the way to a target and back, each with one word.

Rules: the words are an interface (scripts compare them, docs/probe.md lists them); what the operating
system, OpenSSL or a certificate has to say goes behind the word, for people.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Final

from suite.errors import SuiteError
from suite.text import one_line

#: Every word, and what it means.
WORDS: Final = {
    "dns": "the name has no address (of the family asked for), or nobody could say in time",
    "refused": "nothing listens there, or a firewall says so",
    "unreachable": "no way leads there",
    "timeout": "no connection, no handshake or no echo in time",
    "reset": "the connection was cut off",
    "closed": "the other side ended before all bytes were back",
    "mismatch": "other bytes came back than were sent",
    "lost": "a datagram did not come back in time",
    "too-long": "the datagram is longer than the way there allows",
    "denied": "the operating system does not let us: permissions of a socket, or a firewall",
    "missing": "there is no such UNIX socket",
    "tls-alert": "the other side ended TLS by an alert",
    "tls-error": "what came is not TLS, or not TLS as we speak it",
    "cert-expired": "a certificate is not valid any more",
    "cert-not-yet-valid": "a certificate is not valid yet",
    "cert-untrusted": "nobody we trust vouches for the certificate",
    "cert-name": "the certificate is somebody else's",
    "system": "anything else that the operating system says",
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

Fact = str | int | list[str]


class TargetError(SuiteError):
    """Something is wrong with a target, or on the way to it.

    :ivar word: which of `WORDS`.
    :ivar detail: what it is in this case, for people.
    :ivar facts: what it is in this case, for programs: ``offset`` of a mismatch, ``alert``,
        ``expected`` and ``found`` names.
    :ivar target: the text of the target, where it is not clear from elsewhere.
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
    """What the operating system's error *number* means for a target."""
    return TargetError(_BY_ERRNO.get(number, "system"), os.strerror(number))
