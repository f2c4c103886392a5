"""Stream transports that write before they wait.

Rules: `Stream.write` sends at once and keeps only what the kernel refuses; while anything is kept,
the registered producer is paused, so that a connection never holds more than the chunk being
written; a connection ends only when everything has been handed to the kernel.

`Stream` is what all kinds share; `PlainStream`, TCP and UNIX, sends bytes as they are.
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

#: Bytes handed to the kernel in one call (Twisted's own ``FileDescriptor.SEND_LIMIT``).
SEND_LIMIT: Final = 128 * 1024

#: What is asked for where messages are small: more would cost page faults on every read.
SMALL_READ: Final = 16 * 1024

#: What is asked for after a read that was full.
LARGE_READ: Final = 256 * 1024


def require_bytes(data: object) -> None:
    """Refuse what cannot be sent, as Twisted's transports do.

    :raises TypeError: *data* is not bytes.
    """
    if not isinstance(data, bytes):
        raise TypeError("Data must be bytes")


class Stream(tcp.Server, Selectable):
    """A server-side connection with its own write side; how bytes are sent is the subclass's.

    :ivar reading: whether the reactor watches for bytes to read.
    :ivar echoes: whether the protocol does nothing with what is read but write it back.
    """

    #: Whether `write` may go straight to the kernel: connected, nothing kept, not half-closing. An
    #: attribute of each instance: CPython finds these faster than those of a class.
    _can_send_now: bool

    # For most connections these never change; what does not differ from its class costs no memory.
    _unsent: bytearray | None = None
    _peer_ended = False  # it has sent its last byte
    _half_closing = False  # loseWriteConnection was called
    _finished = False  # the peer knows that no more bytes follow
    reading = False

    def __init__(
        self, sock: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        # tcp.Server's own __init__ composes two strings for every connection, which nobody may ever read.
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
        self._can_send_now = True
        sock.setblocking(False)
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
        """What log entries of this connection begin with."""
        return f"{self._getLogPrefix(self.protocol)},{self.sessionno},{self.hostname}"

    @property
    def repstr(self) -> str:  # type: ignore[override]
        """What this connection looks like."""
        port = getattr(self.server, "_realPortNumber", None)
        return f"<{type(self.protocol).__name__} #{self.sessionno} on {port}>"

    # What a subclass says.

    @override
    @abstractmethod
    def writeSomeData(self, data: bytes | memoryview) -> Any:
        """Hand bytes to the kernel.

        :returns: how many it took (0: none until the socket is writable), or why the connection is
            lost.
        """

    @abstractmethod
    def finish_sending(self) -> bool | Exception:
        """Tell the peer that no more bytes follow.

        :returns: whether it has been told (False: not until the socket is writable), or why the
            connection is lost.
        """

    # Reading.

    @override
    def startReading(self) -> None:
        if not self._peer_ended:  # a socket at its end is readable for ever
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
    def owed(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return len(self._unsent) if self._unsent is not None else 0

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
                sent = 0  # doWrite will meet it again, and can tell the reactor
            self._keep(memoryview(data)[sent:])
        else:
            self._unsent += data

    @override
    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        for data in (chunks := list(iovec)):
            require_bytes(data)
        self.write(b"".join(chunks))

    def _keep(self, data: bytes | memoryview) -> None:
        """Keep what the kernel refuses, and have the producer wait until that has gone."""
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
            self._can_send_now = not self._half_closing
        if self.producer is not None and (self.producerPaused or not self.streamingProducer):
            self.stopWriting()
            self.producerPaused = False
            self.producer.resumeProducing()  # type: ignore[attr-defined]  # whichever it is
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
            with suppress(OSError):  # the peer has gone; reading will tell
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
        self._can_send_now = False
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

    def _pause_producer(self) -> None:
        if self.producer is not None and self.streamingProducer and not self.producerPaused:
            self.producerPaused = True
            self.producer.pauseProducing()  # type: ignore[attr-defined]  # a push producer


class PlainStream(Stream):
    """A connection whose bytes are sent as they are."""

    _ring: EchoesTogether | None = None  # which reads and writes for us

    def __init__(self, *args: Any) -> None:
        self._read_size = SMALL_READ
        self._fd = args[0].fileno()
        super().__init__(*args)

    # On the ring, and off it.

    @override
    def join_ring(self, ring: EchoesTogether) -> None:
        """Be echoed together with others by *ring*, if there is nothing to do but that."""
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
            except OSError:  # out of memory, perhaps
                self.left_ring()

    def left_ring(self) -> None:
        """The ring does not read any more."""
        self._ring = None
        if self.reading:
            self.startReading()

    def keep_unsent(self, data: bytes) -> None:
        """The kernel has refused *data*, which the ring was to send."""
        self._keep(data)

    def wants_much(self) -> None:
        """More has come at once than the ring is good for."""
        self._read_size = LARGE_READ
        self._leave_ring()

    def _leave_ring(self) -> None:
        if self._ring is not None:
            self._ring.leave(self._fd)

    @override
    def startReading(self) -> None:
        if self._ring is None:
            super().startReading()
        else:  # when it has left
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
        # What Twisted's does; but the descriptor must not be another's before the ring has let go of it.
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
            data = read(self._fd, size)  # as recv and send do it, for a little less
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
        # What `dataReceived` would do, without the calls: this is where the time goes.
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
        # `Stream.write`, with the calls in it written out.
        if not self._can_send_now:
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except OSError:
            sent = 0  # full, or broken: doWrite will meet it again, and can tell the reactor
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
        return True  # FIN says it

    @override
    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        # From here on it is Twisted's own transport, TLS in memory and all.
        self._become(tcp.Server)
        self.startTLS(ctx, normal)

    def _become(self, stock: type[tcp.Server]) -> None:
        """Turn into Twisted's own kind of transport, with all that waits to be sent."""
        unsent, half_closing = self._unsent, self._half_closing
        hostname, logstr, repstr, address_type = self.hostname, self.logstr, self.repstr, self._addressType
        for name in (
            "_unsent",
            "_can_send_now",
            "_half_closing",
            "_peer_ended",
            "_finished",
            "_read_size",
            "reading",
            "needs_log_context",
            "echoes",
        ):
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
    """A TCP port whose connections write before they wait."""

    transport: Any = PlainStream
