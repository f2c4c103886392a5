"""A channel to a target: send bytes, receive bytes, and learn when the channel ends.

Rules: one interface for streams and datagrams, so that callers need not distinguish them; after `send`, a
caller waits until there is room for more; the end is reported once, as a `TargetError` unless orderly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet import main
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IHalfCloseableProtocol, IPushProducer
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
    :ivar truncated: whether the other side has ended TLS without ``close_notify``.
    """

    ended: Deferred[None]
    truncated: bool

    def send(self, data: bytes) -> Deferred[None]:
        """Send *data*; fires when there is room for more, which for a datagram is when its echo has arrived.

        Fails with `TargetError` if the echo does not arrive.
        """

    def pause(self, paused: bool) -> None:
        """Receive nothing from now on, or resume."""

    def end(self, wait: float | None) -> None:
        """End our side; if the other side has not ended *wait* seconds after that, the channel ends."""

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
        self.truncated = False
        self._room: Deferred[None] | None = None
        self._wait: float | None = None
        self._waiting: IDelayedCall | None = None

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

    def pause(self, paused: bool) -> None:
        """`Channel.pause`."""
        if paused:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def end(self, wait: float | None) -> None:
        """`Channel.end`."""
        self._wait = wait
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
        self._other_side_ended()

    def writeConnectionLost(self) -> None:
        """Our side has ended, after its last byte."""
        if self._wait is not None and not self.ended.called:
            self._waiting = self.transport.reactor.callLater(self._wait, self._stop_waiting)

    def _stop_waiting(self) -> None:
        self._waiting = None
        self.transport.loseConnection()
        self._report_end(None)

    def _other_side_ended(self) -> None:
        if not self.ended.called:
            self.truncated = not getattr(self.transport, "close_notify_received", True)  # only TLS has it
        self._report_end(None)

    @override
    def connectionLost(self, reason: Failure = Failure(main.CONNECTION_DONE)) -> None:  # noqa: B008  # Twisted's
        if reason.check(TargetError):
            self._report_end(reason)
        else:
            self._other_side_ended()

    def _report_end(self, why: Failure | None) -> None:
        if not self.ended.called:
            self.ended.callback(why)  # a Failure goes to the errbacks
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self.resumeProducing()  # release a caller that waits for room


class DatagramChannel:
    """A channel over UDP; see `Channel`."""

    truncated = False

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
        self._datagrams.send(data)  # first: there is no reply to a datagram that cannot be sent
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
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

    def pause(self, paused: bool) -> None:
        """`Channel.pause`."""
        if self.ended.called:
            return
        if paused:
            self._dialer.reactor.removeReader(self._datagrams)
        else:
            self._dialer.reactor.addReader(self._datagrams)

    def end(self, wait: float | None) -> None:
        """`Channel.end`: UDP has no half-close, so without *wait* the channel ends at once."""
        if wait:
            self._dialer.reactor.callLater(wait, self._end, None)
        else:
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
