"""Connections whose bytes are sent as they are, over TCP and UNIX: alone, or with others on a ring.

Rules: a write goes to the kernel in the same call; a read takes as much as the last one has shown to be worth
it; a connection is on the ring only while it needs nothing but an echo.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from os import read, write
from typing import Any, Final

from twisted.internet import main, tcp
from typing_extensions import override

from suite.engine.accept import AcceptingPort
from suite.engine.interfaces import EchoesTogether
from suite.engine.stream import Stream, require_bytes

#: Bytes to read at once while messages are small: a larger buffer would cost page faults on every read.
SMALL_READ: Final = 16 * 1024

#: Bytes to read at once after a read that filled its buffer.
LARGE_READ: Final = 256 * 1024


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
