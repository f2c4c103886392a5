"""Stream transports that write at once, not in the next turn.

Rules: `Stream.write` sends at once and buffers only what the kernel refuses; while bytes are buffered, the
registered producer is paused, so that a connection never holds more than the chunk being written; a
connection closes only when all bytes have been handed to the kernel.

`Stream` is the base of every kind: of `suite.engine.plain`, for bytes as they are, and of TLS.
"""

from __future__ import annotations

import socket
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from twisted.internet import main, tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from typing_extensions import override

from suite.engine.interfaces import INeedsNoLogContext, Selectable, is_echo
from suite.engine.linux.queues import bound_unsent, queued

#: Bytes handed to the kernel in one call (Twisted's own ``FileDescriptor.SEND_LIMIT``).
SEND_LIMIT: Final = 128 * 1024


def require_bytes(data: object) -> None:
    """Check *data* as Twisted's transports do.

    :raises TypeError: *data* is not bytes.
    """
    if not isinstance(data, bytes):
        raise TypeError("Data must be bytes")


class Stream(tcp.Server, Selectable):
    """A server-side connection with its own write side; subclasses implement how bytes are sent.

    :ivar reading: whether the reactor, or a ring, watches for bytes to read.
    :ivar echoes: whether the protocol only writes back the bytes that it receives; see `writes_back`.
    """

    #: Whether `write` may go straight to the kernel: connected, nothing unsent, not half-closing; for TLS
    #: also: handshake completed, not lingering. Set by `_update_can_send_now`, except in `_keep` and
    #: `connectionLost` (always false), and in `doWrite` (to save the call). An attribute of each instance,
    #: because CPython finds these faster than those of a class.
    _can_send_now: bool

    # Most connections never change these, so that they cost no memory in the instance.
    _unsent: bytearray | None = None  # bytes that the kernel has refused; None if there are none
    _peer_ended = False  # the peer has closed its side: set by readConnectionLost
    _half_closing = False  # loseWriteConnection was called
    _finished = False  # finish_sending has succeeded: the peer knows that no more bytes follow
    reading = False

    #: The attributes of an instance that `PlainStream` must not leave behind in Twisted's own transport.
    _OWN_STATE: Final = (
        "_unsent",
        "_can_send_now",
        "_half_closing",
        "_peer_ended",
        "_finished",
        "_read_size",
        "reading",
        "needs_log_context",
        "echoes",
    )

    def __init__(
        self, sock: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        # tcp.Server's own __init__ builds two strings for every connection, which are seldom used.
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        self.client = client
        self.server = server
        self.sessionno = sessionno
        self.reactor = reactor
        self.connected = 1
        self.echoes = is_echo(protocol)
        self.needs_log_context = not INeedsNoLogContext.providedBy(protocol)
        self._update_can_send_now()
        sock.setblocking(False)
        # Urgent data would otherwise be left out of the stream (tcp(7), unix(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        bound_unsent(sock)
        self.startReading()

    @property
    def hostname(self) -> Any:  # type: ignore[override]
        """The peer's host, or path."""
        return self.client[0]

    @property
    def _addressType(self) -> Any:  # type: ignore[override]  # noqa: N802  # tcp.Server's
        return IPv4Address if len(self.client) == 2 else IPv6Address

    @property
    def logstr(self) -> str:  # type: ignore[override]
        """The prefix of this connection's log entries."""
        return f"{self._getLogPrefix(self.protocol)},{self.sessionno},{self.hostname}"

    @property
    def repstr(self) -> str:  # type: ignore[override]
        """The connection as `repr` shows it."""
        port = getattr(self.server, "_realPortNumber", None)
        return f"<{type(self.protocol).__name__} #{self.sessionno} on {port}>"

    # For subclasses to implement.

    @override
    @abstractmethod
    def writeSomeData(self, data: bytes | memoryview) -> Any:
        """Hand bytes to the kernel.

        :returns: the number of bytes sent (0: none until the socket is writable), or the reason for the loss
            of the connection.
        """

    @abstractmethod
    def finish_sending(self) -> bool | Exception:
        """Tell the peer that no more bytes follow.

        :returns: whether that was sent (False: not until the socket is writable), or the reason for the loss
            of the connection.
        """

    # Reading.

    @override
    def startReading(self) -> None:
        if not self._peer_ended:  # a socket at end of input stays readable
            self.reading = True
            super().startReading()

    @override
    def stopReading(self) -> None:
        self.reading = False
        super().stopReading()

    @override
    def readConnectionLost(self, reason: Failure) -> None:
        self._peer_ended = True
        self.reading = False
        if IHalfCloseableProtocol.providedBy(self.protocol):
            super().readConnectionLost(reason)
        else:
            self.unregisterProducer()
            self.loseConnection()

    # Writing.

    @property
    def unsent(self) -> int:
        """Number of bytes that the kernel has not accepted yet."""
        return len(self._unsent) if self._unsent is not None else 0

    @property
    def takes_bytes(self) -> bool:
        """Whether what is written now will be sent, rather than dropped."""
        return bool(self.connected) and not self._half_closing

    @property
    def owed(self) -> int:
        """Number of bytes that the peer has not taken yet, as far as its kernel tells: a system call.

        They are `unsent`, or in the kernel's queue: over TCP until the peer's kernel has acknowledged them,
        over a UNIX socket until the peer has read them, each with its overhead.
        """
        return self.unsent + (queued(self.fileno()) if self.connected else 0)

    @override
    def write(self, data: bytes) -> None:
        require_bytes(data)
        if not data or not self.connected or self._half_closing:
            return
        if self._unsent is None:
            sent = self.writeSomeData(data)
            if sent == len(data):
                return
            if isinstance(sent, Exception):
                sent = 0  # doWrite will fail again, where the reactor can be told
            self._keep(memoryview(data)[sent:])
        else:
            self._unsent += data

    @override
    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        for data in (chunks := list(iovec)):
            require_bytes(data)
        self.write(b"".join(chunks))

    def _keep(self, data: bytes | memoryview) -> None:
        """Buffer *data*, which the kernel has refused, and pause the producer until it is sent."""
        self._can_send_now = False
        self._unsent = bytearray(data)
        self.startWriting()
        self._pause_producer()

    @override
    def doWrite(self) -> Any:
        unsent = self._unsent
        if unsent is not None:
            while unsent:
                with memoryview(unsent) as view, view[:SEND_LIMIT] as some:
                    sent = self.writeSomeData(some)
                if isinstance(sent, Exception):
                    return sent
                if not sent:
                    return None
                del unsent[:sent]
            self._unsent = None
            self._can_send_now = not self._half_closing  # `_update_can_send_now`, without the call
        if self.producer is not None and (self.producerPaused or not self.streamingProducer):
            self.stopWriting()
            self.producerPaused = False
            self.producer.resumeProducing()  # type: ignore[attr-defined]  # of either kind
            return None
        if (self.disconnecting or self._half_closing) and not self._finished:
            finished = self.finish_sending()
            if isinstance(finished, Exception):
                return finished
            if not finished:
                return None
            self._finished = True
        self.stopWriting()
        if self.disconnecting:
            return main.CONNECTION_DONE
        if self._half_closing:
            with suppress(OSError):  # the peer is gone, which reading will report
                self.socket.shutdown(socket.SHUT_WR)
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
        return None

    @override
    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.stopReading()
            self.startWriting()

    @override
    def loseWriteConnection(self) -> None:
        self._half_closing = True
        self._update_can_send_now()
        self.startWriting()

    @override
    def connectionLost(self, reason: Failure) -> None:
        self._can_send_now = False
        super().connectionLost(reason)

    @override
    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producerPaused = False
        FileDescriptor.registerProducer(self, producer, streaming)
        if self._unsent is not None:
            self._pause_producer()

    @override
    def unregisterProducer(self) -> None:
        FileDescriptor.unregisterProducer(self)

    def _update_can_send_now(self) -> None:
        self._can_send_now = self._unsent is None and not self._half_closing

    def _pause_producer(self) -> None:
        if self.producer is not None and self.streamingProducer and not self.producerPaused:
            self.producerPaused = True
            self.producer.pauseProducing()  # type: ignore[attr-defined]  # a push producer
