"""A channel to a target: send bytes, receive bytes, and learn when the channel ends.

Rules: one interface for streams and datagrams, so that callers need not distinguish them; after `send`, a
caller waits until there is room for more; the end is reported once, as a `TargetError` unless orderly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet import main
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import TargetError
from suite.client.dial.waiting import with_timeout


class Channel(Protocol):
    """The interface of a channel.

    :ivar ended: fires when the other side has ended the channel; fails with a `TargetError`, or with the
        argument of `break_off`.
    """

    ended: Deferred[None]

    def send(self, data: bytes) -> Deferred[None]:
        """Send *data*; fires when there is room for more, which for a datagram is when its echo has arrived.

        Fails with `TargetError` if the echo does not arrive.
        """

    def end(self) -> None:
        """End our side."""

    def break_off(self, why: Failure | None) -> None:
        """Close the channel at once; `ended` fires with *why*."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class StreamChannel(TwistedProtocol):
    """A channel over TCP, TLS or a UNIX socket.

    :param received: called with bytes as they arrive.
    """

    transport: Any

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self.ended: Deferred[None] = Deferred()
        self._received = received
        self._room: Deferred[None] | None = None

    @override
    def connectionMade(self) -> None:
        cast(IConsumer, self.transport).registerProducer(cast(IPushProducer, self), True)

    def send(self, data: bytes) -> Deferred[None]:
        """`Channel.send`."""
        self.transport.write(data)
        return self._room or succeed(None)

    def pauseProducing(self) -> None:
        """`IPushProducer.pauseProducing`: the send buffer is full."""
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        """`IPushProducer.resumeProducing`."""
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)

    def stopProducing(self) -> None:
        """`IProducer.stopProducing`: the connection is lost; `connectionLost` follows."""

    def end(self) -> None:
        """`Channel.end`."""
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def break_off(self, why: Failure | None) -> None:
        """`Channel.break_off`."""
        self._report_end(why)
        self.transport.abortConnection()

    @override
    def dataReceived(self, data: bytes) -> None:
        self._received(data)

    def readConnectionLost(self) -> None:
        """The other side has ended."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._report_end(None)

    def writeConnectionLost(self) -> None:
        """Our side has ended; nothing to do until the other side ends too."""

    @override
    def connectionLost(self, reason: Failure = Failure(main.CONNECTION_DONE)) -> None:  # noqa: B008  # Twisted's
        self._report_end(reason if reason.check(TargetError) else None)

    def _report_end(self, why: Failure | None) -> None:
        if not self.ended.called:
            self.ended.callback(why)  # a Failure goes to the errbacks
        self.resumeProducing()  # release a caller that waits for room


class DatagramChannel:
    """A channel over UDP; see `Channel`."""

    def __init__(self, dialer: Dialer, received: Callable[[bytes], None]) -> None:
        self.ended: Deferred[None] = Deferred()
        self._dialer = dialer
        self._show = received
        self._waiting: Deferred[None] | None = None

    async def open(self) -> None:
        """Open the socket.

        :raises TargetError: the target cannot be reached.
        """
        self._datagrams = await self._dialer.datagrams(self._received, self._failed)

    def send(self, data: bytes) -> Deferred[None]:
        """`Channel.send`."""
        return Deferred.fromCoroutine(self._exchange(data))

    async def _exchange(self, data: bytes) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        self._datagrams.send(data)
        timeout = self._dialer.options.timeout
        late = TargetError("lost", f"nothing came back within {timeout:g} s")
        await with_timeout(self._dialer.reactor, timeout, late, waiting)

    def _received(self, data: bytes) -> None:
        self._show(data)
        self._settle(None)

    def _failed(self, error: TargetError) -> None:
        self._settle(Failure(error))

    def _settle(self, why: Failure | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(why)

    def end(self) -> None:
        """`Channel.end`: UDP has no half-close, so the channel ends at once."""
        self._end(None)

    def break_off(self, why: Failure | None) -> None:
        """`Channel.break_off`."""
        self._end(why)

    def _end(self, why: Failure | None) -> None:
        if not self.ended.called:
            self._datagrams.close()
            self.ended.callback(why)
            self._settle(why)


async def open_channel(dialer: Dialer, received: Callable[[bytes], None]) -> Channel:
    """Open a channel to the dialer's target.

    :param received: called with bytes as they arrive; each datagram is one call.
    :raises TargetError: the connection fails.
    """
    if dialer.target.transport == "udp":
        datagrams = DatagramChannel(dialer, received)
        await datagrams.open()
        return datagrams
    stream = StreamChannel(received)
    await dialer.stream(stream)
    return stream
