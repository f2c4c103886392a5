"""Stream transports that write before they wait.

Rules: `Stream.write` sends at once and keeps only what the kernel refuses; while anything is kept,
the registered producer is paused, so that a connection never holds more than the chunk being
written; a connection ends only when everything has been handed to the kernel.
"""

from __future__ import annotations

import socket
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from twisted.internet import main, tcp
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from typing_extensions import override

#: Bytes handed to the kernel in one call (Twisted's own ``FileDescriptor.SEND_LIMIT``).
SEND_LIMIT: Final = 128 * 1024


class Stream(tcp.Server):
    """A server-side connection with its own write side; how bytes are sent is the subclass's.

    :ivar reading: whether the reactor watches for bytes to read.
    """

    def __init__(self, *args: Any) -> None:
        self._unsent = bytearray()
        self._peer_ended = False  # it has sent its last byte
        self._half_closing = False  # loseWriteConnection was called
        self._finished = False  # the peer knows that no more bytes follow
        self.reading = False
        super().__init__(*args)

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

    @override
    def write(self, data: bytes) -> None:
        if not self.connected or self._half_closing or not data:
            return
        if self._unsent:
            self._unsent += data
        else:
            sent = self.writeSomeData(data)
            if sent == len(data):
                return
            if isinstance(sent, Exception):
                sent = 0  # doWrite will meet it again, and can tell the reactor
            self._unsent += memoryview(data)[sent:]
        self.startWriting()
        self._pause_producer()

    @override
    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    @override
    def doWrite(self) -> Any:
        while self._unsent:
            with memoryview(self._unsent) as unsent, unsent[:SEND_LIMIT] as some:
                sent = self.writeSomeData(some)
            if isinstance(sent, Exception):
                return sent
            if not sent:
                return None
            del self._unsent[:sent]
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
        self.startWriting()

    @override
    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producerPaused = False
        super().registerProducer(producer, streaming)
        if self._unsent:
            self._pause_producer()

    def _pause_producer(self) -> None:
        if self.producer is not None and self.streamingProducer and not self.producerPaused:
            self.producerPaused = True
            self.producer.pauseProducing()  # type: ignore[attr-defined]  # a push producer
