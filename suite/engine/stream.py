"""Stream transports that write at once, not in the next turn.

Rules: `Stream.write` sends at once and buffers only what the kernel refuses; while bytes are buffered, the
registered producer is paused, so that a connection never holds more than the chunk being written; a
connection closes only when all bytes have been handed to the kernel.

`Stream` is the base of every kind; `PlainStream`, for TCP and UNIX, sends bytes as they are.
"""

from __future__ import annotations

import socket
import struct
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from os import read, write
from typing import Any, Final

from twisted.internet import main, tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from typing_extensions import override

from suite.engine.accept import AcceptingPort
from suite.engine.interfaces import EchoesTogether, INeedsNoLogContext, Selectable, is_echo
from suite.engine.linux.queues import bound_unsent, queued

#: Bytes handed to the kernel in one call (Twisted's own ``FileDescriptor.SEND_LIMIT``).
SEND_LIMIT: Final = 128 * 1024

#: Bytes to read at once while messages are small: a larger buffer would cost page faults on every read.
SMALL_READ: Final = 16 * 1024

#: Bytes to read at once after a read that filled its buffer.
LARGE_READ: Final = 256 * 1024


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


class PlainStream(Stream):
    """A connection whose bytes are sent as they are."""

    #: The ring that reads and writes for this connection; None while it is off the ring.
    _ring: EchoesTogether | None = None

    def __init__(self, *args: Any) -> None:
        self._read_size = SMALL_READ
        self._fd = args[0].fileno()
        super().__init__(*args)

    # Joining and leaving the ring.

    @override
    def join_ring(self, ring: EchoesTogether) -> None:
        """Let *ring* echo this connection together with others, if it needs nothing else."""
        if (
            self.echoes
            and self._can_send_now
            and self.reading
            and self._ring is None
            and self._read_size == SMALL_READ
        ):
            super().stopReading()
            self._ring = ring
            self.reading = True
            try:
                ring.join(self._fd, self)
            except OSError:  # such as out of memory
                self.left_ring()

    def left_ring(self) -> None:
        """The ring has stopped reading: read here again."""
        self._ring = None
        if self.reading:
            self.startReading()

    def keep_unsent(self, data: bytes) -> None:
        """Buffer *data*, which the ring could not send."""
        self._keep(data)

    def wants_much(self) -> None:
        """A message filled a ring buffer: leave the ring, use large reads."""
        self._read_size = LARGE_READ
        self._leave_ring()

    def _leave_ring(self) -> None:
        if self._ring is not None:
            self._ring.leave(self._fd)

    @override
    def startReading(self) -> None:
        if self._ring is None:
            super().startReading()
        else:  # `left_ring` will start it
            self.reading = not self._peer_ended

    @override
    def stopReading(self) -> None:
        super().stopReading()
        self._leave_ring()

    @override
    def loseWriteConnection(self) -> None:
        super().loseWriteConnection()
        self._leave_ring()

    @override
    def _keep(self, data: bytes | memoryview) -> None:
        super()._keep(data)
        self._leave_ring()

    @override
    def _closeSocket(self, orderly: bool) -> None:
        if self._ring is None:
            super()._closeSocket(orderly)
            return
        # As in Twisted, except that the descriptor must not be reused before the ring has released it.
        sock = self.socket
        with suppress(OSError):
            if orderly:
                sock.shutdown(socket.SHUT_RDWR)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._ring.leave(self._fd, sock.close)

    @override
    def doRead(self) -> Any:
        size = self._read_size
        try:
            data = read(self._fd, size)  # as recv, but a little cheaper
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        count = len(data)
        if count == size:
            self._read_size = LARGE_READ
        if not (self.echoes and self._can_send_now):
            self.protocol.dataReceived(data)
            return None
        # The effect of `dataReceived`, without the calls: most of the time is spent here.
        self.protocol.received += count  # type: ignore[attr-defined]  # as `writes_back` promises
        try:
            sent = write(self._fd, data)
        except OSError:
            sent = 0
        if sent != count:
            self._keep(memoryview(data)[sent:])
        return None

    @override
    def write(self, data: bytes) -> None:
        # `Stream.write`, with its calls inlined.
        if not self._can_send_now:
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except OSError:
            sent = 0  # full or broken: doWrite will fail again, where the reactor can be told
        except TypeError:
            require_bytes(data)
            raise
        if sent != len(data):
            self._keep(memoryview(data)[sent:])

    @override
    def writeSomeData(self, data: bytes | memoryview) -> Any:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return main.CONNECTION_LOST

    @override
    def finish_sending(self) -> bool | Exception:
        return True  # the FIN tells the peer

    @override
    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        # From here on this is Twisted's own transport, with its TLS in memory.
        self._become(tcp.Server)
        self.startTLS(ctx, normal)

    def _become(self, stock: type[tcp.Server]) -> None:
        """Turn into Twisted's own kind of transport, and take the unsent bytes along."""
        unsent, half_closing = self._unsent, self._half_closing
        hostname, logstr, repstr, address_type = self.hostname, self.logstr, self.repstr, self._addressType
        for name in self._OWN_STATE:
            self.__dict__.pop(name, None)
        self.__class__ = stock  # type: ignore[assignment]
        self.__dict__.update(
            hostname=hostname,
            logstr=logstr,
            repstr=repstr,
            _addressType=address_type,
            _tempDataBuffer=[],
            _tempDataLen=0,
            _writeDisconnecting=half_closing,
            dataBuffer=bytes(unsent or b""),
        )


class TCPPort(AcceptingPort):
    """A TCP port whose connections write at once."""

    transport: Any = PlainStream
