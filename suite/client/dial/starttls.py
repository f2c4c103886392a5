"""STARTTLS: what eight protocols say in plain text before a TLS handshake.

Rules: pure, no sockets: a dialogue is fed bytes and returns bytes to send; one table, `PROTOCOLS`; no more is
said than it takes; nothing that arrived before the handshake is taken for a part of it (CVE-2011-0411).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

from suite.client.dial.failures import TargetError

#: The longest reply that is read, in bytes; the longest in use, lists of capabilities, have hundreds.
MAX_REPLY: Final = 2**16

#: How much of a reply is shown.
SHOWN: Final = 120


@dataclass(frozen=True)
class Exactly:
    """What a dialogue waits for: this many bytes."""

    size: int


@dataclass(frozen=True)
class Until:
    """What a dialogue waits for: bytes up to the end of the first match of *pattern*."""

    pattern: re.Pattern[bytes]


LINE: Final = Until(re.compile(rb"\n"))

#: Yields bytes to send, or what it waits for, and is then sent that.
Dialogue = Generator[bytes | Exactly | Until, bytes, None]


class StartTLS:
    """One dialogue.

    :param protocol: one of `PROTOCOLS`.
    :param name: the name of the server.
    :ivar complete: whether the handshake comes next.
    """

    def __init__(self, protocol: str, name: str) -> None:
        self.complete = False
        self._dialogue = PROTOCOLS[protocol](name)
        self._wanted: Exactly | Until | None = None
        self._unread = b""

    def feed(self, data: bytes = b"") -> bytes:
        """Go on with *data*, which has arrived; return what to send. The first call has none.

        :raises TargetError: the server does not agree, or says what it should not.
        """
        self._unread += data
        to_send = b""
        answer: bytes | None = None
        while not self.complete:
            if self._wanted is not None:
                answer = self._take(self._wanted)
                if answer is None:
                    return to_send
                self._wanted = None
            try:
                step = next(self._dialogue) if answer is None else self._dialogue.send(answer)
            except StopIteration:
                self.complete = True
                break
            answer = None
            if isinstance(step, bytes):
                to_send += step
            else:
                self._wanted = step
        if self._unread:
            raise TargetError("starttls", f"the server sent {len(self._unread)} bytes too many before TLS")
        return to_send

    def _take(self, wanted: Exactly | Until) -> bytes | None:
        end = 0
        if isinstance(wanted, Exactly):
            end = wanted.size if len(self._unread) >= wanted.size else 0
        elif found := wanted.pattern.search(self._unread):
            end = found.end()
        if not end:
            if len(self._unread) > MAX_REPLY:
                raise TargetError("starttls", f"the server's reply is longer than {MAX_REPLY} bytes")
            return None
        taken, self._unread = self._unread[:end], self._unread[end:]
        return taken


def _refusal(expected: str, reply: bytes) -> TargetError:
    text = reply.decode("ascii", "backslashreplace").strip()
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return TargetError("starttls", f"expected {expected}; the server said {shown!r}")


def _numbered(code: bytes) -> Generator[Until, bytes, bytes]:
    """A reply of SMTP or FTP, maybe of several lines (RFC 5321, section 4.2.1; RFC 959, section 4.2)."""
    reply = line = yield LINE
    first = line[:3]
    if not first.isdigit():
        raise _refusal(code.decode(), reply)
    while line[:4] != first + b" " and line.strip() != first and len(reply) <= MAX_REPLY:
        line = yield LINE
        reply += line
    if first != code:
        raise _refusal(code.decode(), reply)
    return reply


def _smtp(_name: str) -> Dialogue:
    """RFC 3207."""
    yield from _numbered(b"220")
    yield b"EHLO localhost\r\n"
    offers = yield from _numbered(b"250")
    if not re.search(rb"(?im)^250[ -]STARTTLS\s*$", offers):
        raise TargetError("starttls", "the server does not offer STARTTLS in its answer to EHLO")
    yield b"STARTTLS\r\n"
    yield from _numbered(b"220")


def _ftp(_name: str) -> Dialogue:
    """RFC 4217, section 4."""
    yield from _numbered(b"220")
    yield b"AUTH TLS\r\n"
    yield from _numbered(b"234")


def _imap(_name: str) -> Dialogue:
    """RFC 9051, section 6.2.1."""
    greeting = yield LINE
    if not greeting.upper().startswith(b"* OK"):
        raise _refusal("* OK", greeting)
    yield b"a STARTTLS\r\n"
    answer = yield LINE
    while answer.startswith(b"* "):  # such as capabilities
        answer = yield LINE
    if not answer.upper().startswith(b"A OK"):
        raise _refusal("a OK", answer)


def _pop3(_name: str) -> Dialogue:
    """RFC 2595, section 4."""
    for command in (b"", b"STLS\r\n"):
        if command:
            yield command
        answer = yield LINE
        if not answer.startswith(b"+OK"):
            raise _refusal("+OK", answer)


#: An extended request, number 1, for StartTLS (RFC 4511, sections 4.12 and 4.14.1), in BER.
_LDAP_REQUEST: Final = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"

#: The beginning of the answer: number 1, an extended response, its result code.
_LDAP_RESULT: Final = re.compile(rb"\x02\x01\x01\x78(?:[\x00-\x7f]|\x81.|\x82..)\x0a\x01(.)", re.DOTALL)


def _ldap(_name: str) -> Dialogue:
    yield _LDAP_REQUEST
    tag, length = yield Exactly(2)
    if tag != 0x30:
        raise _refusal("an LDAP message", bytes([tag, length]))
    if length & 0x80:
        rest = yield Exactly((length & 0x7F) or 1)
        length = int.from_bytes(rest, "big")
    if length > MAX_REPLY:
        raise TargetError("starttls", f"the server's reply is longer than {MAX_REPLY} bytes")
    answer = (yield Exactly(length)) if length else b""
    found = _LDAP_RESULT.match(answer)
    if found is None or found[1] != b"\0":
        raise _refusal("success (0)", answer)


#: "SSLRequest" (PostgreSQL's documentation, "Message Formats").
_POSTGRES_REQUEST: Final = bytes.fromhex("0000000804d2162f")


def _postgres(_name: str) -> Dialogue:
    yield _POSTGRES_REQUEST
    answer = yield Exactly(1)
    if answer == b"N":
        raise TargetError("starttls", "the server answers that it does not use TLS (N)")
    if answer != b"S":
        raise _refusal("S", answer)


#: MySQL's capabilities (its documentation, "Capabilities Flags"): TLS, and those that its request needs.
_MYSQL_TLS: Final = 0x0800
_MYSQL_CAPABILITIES: Final = _MYSQL_TLS | 0x0200 | 0x8000
_MYSQL_UTF8: Final = 45


def _mysql(_name: str) -> Dialogue:
    """The server greets, and a request, which is not answered, precedes the handshake."""
    header = yield Exactly(4)
    size = int.from_bytes(header[:3], "little")
    if size > MAX_REPLY:
        raise TargetError("starttls", f"the server's reply is longer than {MAX_REPLY} bytes")
    greeting = (yield Exactly(size)) if size else b""
    version, _, rest = greeting[1:].partition(b"\0")
    if greeting[:1] != b"\x0a" or len(rest) < 15:
        raise _refusal("MySQL's greeting, version 10", greeting)
    if not int.from_bytes(rest[13:15], "little") & _MYSQL_TLS:
        raise TargetError("starttls", f"the server ({version.decode('ascii', 'replace')}) does not offer TLS")
    capabilities = _MYSQL_CAPABILITIES.to_bytes(4, "little")
    request = capabilities + (2**24).to_bytes(4, "little") + bytes([_MYSQL_UTF8]) + bytes(23)
    yield len(request).to_bytes(3, "little") + bytes([header[3] + 1 & 0xFF]) + request


_XMPP_TLS: Final = "urn:ietf:params:xml:ns:xmpp-tls"


def _xmpp(name: str) -> Dialogue:
    """RFC 6120, section 5."""
    yield (
        f"<?xml version='1.0'?><stream:stream to={quoteattr(name)} xmlns='jabber:client'"
        " xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
    ).encode()
    offers = yield Until(re.compile(rb"</stream:features\s*>|<stream:features\s*/>|</stream:stream\s*>"))
    if b"<stream:error" in offers or _XMPP_TLS.encode() not in offers:
        raise _refusal("features with starttls", offers[offers.rfind(b"<stream:") :])
    yield f"<starttls xmlns='{_XMPP_TLS}'/>".encode()
    answer = yield Until(re.compile(rb"<(proceed|failure)[^>]*>|</stream:stream\s*>"))
    if b"<proceed" not in answer:
        raise _refusal("proceed", answer)
    if not answer.endswith(b"/>"):
        yield Until(re.compile(rb"</proceed\s*>"))


#: The dialogues by the name that a user gives them.
PROTOCOLS: Final[dict[str, Callable[[str], Dialogue]]] = {
    "smtp": _smtp,
    "imap": _imap,
    "pop3": _pop3,
    "ftp": _ftp,
    "ldap": _ldap,
    "postgres": _postgres,
    "mysql": _mysql,
    "xmpp": _xmpp,
}
