"""A TLS server that reads the ClientHello before OpenSSL does, and keeps it for a report.

Rules: only ports whose protocols want it (`Guarded.wants_client_hello`) or that misbehave use these classes;
on others, `suite.engine.tls` or Twisted's own TLS runs as it is. What is read is what OpenSSL is about to be
given, no more; it is kept as it came, at most `MAX_CLIENT_HELLO` bytes, and read when somebody asks.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, NamedTuple

from OpenSSL import SSL
from typing_extensions import override

from suite.client_hello import ClientHello, Message, find_client_hello, parse_client_hello
from suite.engine.handshake_records import HandshakeRecords, HandshakeTooLargeError
from suite.engine.linux.segments import data_segments
from suite.engine.tls import TLSServer

#: Reads whose sizes are noted; a client that sends single bytes needs no more memory than others.
MOST_READS: Final = 256

_CHANGE_CIPHER_SPEC, _HANDSHAKE, _CLIENT_HELLO = 20, 22, 1


class ReceivedHello(NamedTuple):
    """A ClientHello, and how it came.

    :ivar hello: what it says; None if it could not be read.
    :ivar reads: how many bytes each read from the socket has brought of its records; at most `MOST_READS`.
    :ivar read_count: the number of reads.
    :ivar segments: the number of TCP segments with data that had come when it was complete; None: not known.
    :ivar retried: whether the server has asked for another one (HelloRetryRequest); this is the first. None:
        not known.
    """

    hello: ClientHello | None
    reads: tuple[int, ...]
    read_count: int
    segments: int | None
    retried: bool | None


class HelloTLS(TLSServer):
    """The server side of one TLS connection, which knows what the client has offered."""

    #: Whether it is kept when it has been decided about.
    keeps_hello = True

    _hello_seen = False
    _message: Message | None = None
    _read_count = 0
    _noted = 0  # bytes in the reads so far
    _segments: int | None = None
    _retried = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._reads: list[int] = []

    @property
    def received_hello(self) -> ReceivedHello | None:
        """The ClientHello; None before it has come, and if what came is none."""
        if self._message is None:
            return None
        hello = _parsed(self._message)
        return ReceivedHello(hello, tuple(self._reads), self._read_count, self._segments, self._retried)

    @override
    def _handshake(self) -> Exception | None:
        why = super()._handshake()
        if not self._hello_seen:
            self._note_read()
        return why

    def _note_read(self) -> None:
        size = self._incoming.received - self._noted
        if size:
            self._noted += size
            self._read_count += 1
            if len(self._reads) < MOST_READS:
                self._reads.append(size)

    @override
    def _step(self) -> Exception | None:
        if not self._hello_seen:
            self._hello_seen = True
            self._see_hello()
        elif not self._retried and self._message is not None and self._is_version13():
            self._retried = _begins_with_hello(self._connection.peek_input())
        return self._go_on()

    def _go_on(self) -> Exception | None:
        """Let OpenSSL read what has been seen."""
        return super()._step()

    def _see_hello(self) -> None:
        """The first message is complete, and OpenSSL has not read it yet."""
        self._note_read()
        try:
            self._message = find_client_hello(self._connection.peek_input())
        except ValueError:
            return  # OpenSSL will say what it is
        if self._preamble is None:  # its segments would count, too
            self._segments = data_segments(self.socket)


class HelloConnection(SSL.Connection):
    """The connection in memory of Twisted's own TLS, which has seen the ClientHello before OpenSSL.

    :ivar received_hello: as `HelloTLS.received_hello`.
    """

    received_hello: ReceivedHello | None = None
    _incoming: HandshakeRecords | None = None  # None: the ClientHello has been seen

    def __init__(self, context: SSL.Context) -> None:
        super().__init__(context, None)
        self._incoming = HandshakeRecords()
        self._gathered = bytearray()
        self._reads: list[int] = []
        self._read_count = 0

    @override
    def bio_write(self, buf: Any) -> int:
        if self._incoming is not None and buf:
            self._gather(self._incoming, bytes(buf))
        return super().bio_write(buf)

    def _gather(self, incoming: HandshakeRecords, data: bytes) -> None:
        before = incoming.received
        try:
            for record in incoming.split(data, lambda: True):
                self._gathered += record
                if not incoming.incomplete:
                    self._incoming = None
                    break
        except HandshakeTooLargeError:  # OpenSSL has a limit of its own
            self._incoming = None
            self._gathered.clear()
        self._read_count += 1
        if len(self._reads) < MOST_READS:
            self._reads.append(incoming.received - before)
        if self._incoming is None:
            with suppress(ValueError):  # OpenSSL will say what it is
                message = find_client_hello(bytes(self._gathered))
                if message is not None:
                    reads = tuple(self._reads)
                    self.received_hello = ReceivedHello(
                        _parsed(message), reads, self._read_count, None, retried=None
                    )
            self._gathered.clear()


def _parsed(message: Message) -> ClientHello | None:
    try:
        return parse_client_hello(message)
    except ValueError:
        return None


def _begins_with_hello(data: bytes) -> bool:
    """Whether *data* begins with a ClientHello, perhaps after the empty change_cipher_spec of TLS 1.3."""
    if data[:1] == bytes((_CHANGE_CIPHER_SPEC,)):
        data = data[6:]
    return len(data) > 5 and data[0] == _HANDSHAKE and data[5] == _CLIENT_HELLO
