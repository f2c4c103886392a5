"""The records of a TLS handshake, and what a handshake may make this side hold.

Rules: a client's messages are read here, and OpenSSL is asked only when they are complete: it allocates
memory for a message as soon as it has seen its header. So an unfinished message holds what its client has
sent, and one that is too long is refused at its header. Handshakes of more than `ORDINARY_HANDSHAKE` share a
budget for each port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from suite.client_hello import MAX_CLIENT_HELLO

#: The longest of the other messages, in bytes: a chain of certificates (OpenSSL's
#: ``SSL_MAX_CERT_LIST_DEFAULT``; in TLS 1.3, where it is encrypted, OpenSSL checks that itself).
MAX_MESSAGE: Final = 102_400

#: Bytes from a client that cost the budget nothing: OpenSSL allocates as many in any case, and most clients
#: send fewer (the largest message that BoringSSL accepts).
ORDINARY_HANDSHAKE: Final = 16_384

#: The most that the larger handshakes of one port may hold together, in bytes.
MAX_HELD: Final = 8 * 2**20

#: The most that a client may send in one handshake, in bytes: twice a ClientHello, and its certificates.
MAX_HANDSHAKE: Final = 256 * 1024

#: RFC 8446, section 5.1 and 5.2: the header of a record, and the longest record after it (in TLS 1.2, 2,048
#: bytes longer than its content, RFC 5246, section 6.2.3).
RECORD_HEADER: Final = 5
MAX_RECORD: Final = 2**14 + 2048

#: Bytes that are read at a time: the longest record fits.
READ_SIZE: Final = RECORD_HEADER + MAX_RECORD

#: RFC 8446, section 4: type and length of a handshake message.
MESSAGE_HEADER: Final = 4

_CHANGE_CIPHER_SPEC, _HANDSHAKE = 20, 22  # content types
_CLIENT_HELLO = 1  # a message type, in SSL 2 as well
_MAJOR_VERSION = 3

#: A fatal ``illegal_parameter`` (RFC 8446, section 6), which OpenSSL sends for a message that is too long.
ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x2f"


class HandshakeTooLargeError(Exception):
    """A handshake would make this side hold too much; the argument says how much."""


class HandshakeRecords:
    """Splits what arrives in one handshake into its records.

    :ivar taken: how many of the bytes last given are part of the records given back, or begin the next.
    :ivar received: the number of all bytes taken.
    :ivar incomplete: whether the last record ends within a message, so that OpenSSL need not be asked yet.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.received = 0
        self.incomplete = False
        self._begun = b""  # the beginning of a record
        self._message = b""  # the beginning of a message whose header is not complete
        self._rest = 0  # bytes missing of the present message
        self._encrypted = False  # in TLS 1.2, after change_cipher_spec

    def split(self, data: bytes, is_version13: Callable[[], bool]) -> Iterator[bytes]:
        """The records that are complete with *data*; what begins another one is kept.

        Who stops before the last record has not taken those after it.

        :param is_version13: whether the two sides have agreed on TLS 1.3, in which change_cipher_spec means
            nothing.
        :raises HandshakeTooLargeError: a record begins a message that is too long, or is one too many.
        """
        before, begun = self.received, len(self._begun)
        if begun:
            data = self._begun + data
            self._begun = b""
        start, size = 0, len(data)
        while (end := start + record_length(data, start)) <= size:
            self.taken = end - begun
            self.received = before + self.taken
            if self.received > MAX_HANDSHAKE:
                raise HandshakeTooLargeError(f"more than {MAX_HANDSHAKE:,} bytes in a handshake")
            kind = data[start]
            if kind == _CHANGE_CIPHER_SPEC:
                self._encrypted = self._encrypted or not is_version13()
                self.incomplete = True  # it is not the last one either, and TLS 1.3 ignores it
            elif kind == _HANDSHAKE and not self._encrypted:
                self._look_at(data[start + RECORD_HEADER : end])
                self.incomplete = bool(self._rest or self._message)
            else:
                self.incomplete = False
            yield data[start:end]
            start = end
        self._begun = data[start:]
        self.taken = size - begun
        self.received = before + self.taken

    def _look_at(self, content: bytes) -> None:
        """Find the headers of the messages that *content*, of a record in the clear, goes on with."""
        while content:
            if self._rest:
                taken = min(self._rest, len(content))
                self._rest -= taken
                content = content[taken:]
                continue
            self._message += content
            if len(self._message) < MESSAGE_HEADER:
                return
            length = int.from_bytes(self._message[1:MESSAGE_HEADER], "big")
            hello = self._message[0] == _CLIENT_HELLO
            limit = MAX_CLIENT_HELLO if hello else MAX_MESSAGE
            if length > limit:
                what = "ClientHello" if hello else "handshake message"
                raise HandshakeTooLargeError(f"a {what} of {length:,} bytes; expected {limit:,} at the most")
            content, self._message = self._message[MESSAGE_HEADER:], b""
            self._rest = length


def record_length(data: bytes, start: int = 0) -> int:
    """The length of the record that begins at *start* of *data*, as far as it is known.

    What cannot be the header of a record is a whole one, so that OpenSSL sees it and refuses it.
    """
    if len(data) - start < RECORD_HEADER:
        return RECORD_HEADER
    kind, major, minor, high, low = data[start : start + RECORD_HEADER]
    if kind & 0x80 and minor == _CLIENT_HELLO:  # RFC 5246, appendix E.2
        return 2 + ((kind & 0x7F) << 8 | major)
    length = high << 8 | low
    if major != _MAJOR_VERSION or length > MAX_RECORD:
        return RECORD_HEADER
    return RECORD_HEADER + length


class HandshakeBudget:
    """What the handshakes of one port hold, as far as they are larger than ordinary ones.

    :ivar held: bytes.
    """

    def __init__(self) -> None:
        self.held = 0

    def change(self, before: int, now: int) -> None:
        """A handshake that held *before* bytes holds *now*; 0 when it has ended.

        :raises HandshakeTooLargeError: there is no room for that.
        """
        more = _beyond_ordinary(now) - _beyond_ordinary(before)
        if more > 0 and self.held + more > MAX_HELD:
            raise HandshakeTooLargeError(
                f"a handshake of {now:,} bytes while other large ones hold {self.held:,};"
                f" expected {MAX_HELD:,} at the most together"
            )
        self.held += more


def _beyond_ordinary(size: int) -> int:
    return size if size > ORDINARY_HANDSHAKE else 0
