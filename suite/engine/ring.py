"""Echoing many connections at once: one call sends all messages back from the buffers they arrived in.

Rules: a connection is on the ring while it only echoes, has nothing unsent, is being read and is not silent;
otherwise it is off the ring, and `PlainStream` reads and writes. A batch with anything unusual in it is
handled message by message. A connection has left when the kernel says so, and only then may its descriptor be
reused; bytes received until then are kept, never more than the buffers that all connections share. If the
kernel refuses a call, all connections leave, and lose nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet import main
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python import log
from zope.interface import implementer

from suite.engine.interfaces import RingMember, Selectable
from suite.engine.linux.uring import (
    BUFFER_SIZE,
    BUFFERS,
    MORE,
    RECEIVED,
    SENT,
    USED_BUFFER,
    NotAcceptedError,
    Ring,
)

logger = Logger()

#: Maximum number of batches before every other descriptor has its turn.
BATCHES_PER_TURN: Final = 4

#: Minimum number of messages for a batch; fewer are cheaper one by one.
MIN_BATCH: Final = 4

#: After this many turns in a row whose largest batch had fewer than `MIN_BATCH` messages, connections leave
#: the ring.
MAX_SMALL_TURNS: Final = 16

#: Seconds between two looks for silent connections, which leave: after 0.5 s of silence at the earliest, and
#: after 1 s at the latest. Linux 6.18 can lose the end of a UNIX connection that comes together with data.
LOOK: Final = 0.5

#: Number of times to ask a kernel that refuses for the completions that it still has.
LAST_CALLS: Final = 16

#: Errors with which the kernel stops receiving although the connection is intact: the receive was cancelled,
#: or ran out of buffers or of room for completions.
RECEIVE_RESTARTS: Final = frozenset({errno.ECANCELED, errno.ENOBUFS, errno.EAGAIN, errno.EINTR})


@implementer(IReadDescriptor)
class EchoRing(Selectable):
    """The connections that one reactor echoes together.

    :param disconnect: called with a connection that is lost, the reason, and True (it was reading).
    :param call_later: `IReactorTime.callLater`.
    :raises OSError: ``io_uring`` is not available.
    :ivar streams: the connections on the ring, by descriptor.
    :ivar batch: the number of messages in the largest batch of the last turn.
    """

    needs_log_context = False
    batch = 0
    _small_turns = 0
    _failure: OSError | None = None  # a call that the kernel has refused: the ring ends at its next turn
    _next_look: IDelayedCall | None = None  # while there are connections

    def __init__(
        self, disconnect: Callable[[Any, Any, bool], object], call_later: Callable[..., IDelayedCall]
    ) -> None:
        self.streams: dict[int, RingMember] = {}
        self._ring = Ring()
        self._disconnect = disconnect
        self._call_later = call_later
        self._received: dict[int, int] = {}  # at the last look, by descriptor
        self._leaving: dict[int, Callable[[], object] | None] = {}
        self._next_buffer = 0

    def fileno(self) -> int:
        """A descriptor that is readable when the ring has completions; -1 once it has failed."""
        return self._ring.wakeup

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "EchoRing"

    def connectionLost(self, reason: object) -> None:  # noqa: ARG002  # IFileDescriptor's
        """The ring has failed."""
        self.close()

    def close(self) -> None:
        """Disconnect every connection, because the fate of its last bytes is unknown."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        self._ring.close()
        for fd in [*self.streams]:
            stream = self._left(fd)
            if stream.connected:
                self._disconnect(stream, main.CONNECTION_LOST, True)

    # Coming and going.

    def join(self, fd: int, stream: RingMember) -> None:
        """Echo *stream*, at *fd*, from now on; the reactor must not read from it any more.

        :raises OSError: the kernel refuses it.
        """
        self._ring.receive(fd)
        self.streams[fd] = stream
        if self._next_look is None:
            self._next_look = self._call_later(LOOK, self._look)

    def leave(self, fd: int, close: Callable[[], object] | None = None) -> None:
        """Make the stream at *fd* leave soon, then call *close*, if any; until then *fd* is in use."""
        if fd not in self._leaving:
            self._leaving[fd] = None
            try:
                self._ring.cancel(fd)
            except NotAcceptedError as error:
                self._failure = error
                self._ring.wake()
        if close is not None:
            self._leaving[fd] = close

    def _left(self, fd: int) -> RingMember:
        stream = self.streams.pop(fd)
        close = self._leaving.pop(fd, None)
        if close is None:
            stream.left_ring()
        else:
            close()
        return stream

    def _look(self) -> None:
        """Make those leave that have been silent since the last look."""
        self._next_look = self._call_later(LOOK, self._look) if self.streams else None
        before = self._received
        self._received = {fd: stream.protocol.received for fd, stream in self.streams.items()}
        for fd, received in self._received.items():
            if before.get(fd) == received:
                self.leave(fd)

    def _give_up(self, failure: OSError) -> Exception:
        """The kernel has refused a call: make all connections leave, with every byte that was received."""
        logger.warn(
            "io_uring: {problem}; {count} connections continue without it",
            problem=failure.strerror,
            count=len(self.streams),
        )
        ring = self._ring
        ring.cancel_all()
        self._take_all()
        for _ in range(LAST_CALLS):
            if not self.streams:
                break
            with suppress(NotAcceptedError):  # as before; the next call may succeed
                ring.enter(0)
            self._take_all()
        # The others only wait to be told of their cancellation, unless there was no room for completions.
        unknown = ring.has_lost_some()
        for fd in [*self.streams]:
            stream = self._left(fd)
            if unknown and stream.connected:
                self._disconnect(stream, main.CONNECTION_LOST, True)
        return main.CONNECTION_LOST

    def _take_all(self) -> None:
        while count := self._ring.completed():
            self._take_apart(self._ring.completions(count))
            self._ring.take(count)

    # Echoing.

    def doRead(self) -> Any:
        """Echo the messages that have arrived; the result is the reason for the end of the ring."""
        ring = self._ring
        ring.begin()
        largest = 0
        try:
            ring.enter(0)
        except NotAcceptedError as error:
            self._failure = error
        else:
            for _ in range(BATCHES_PER_TURN):
                count = ring.completed()
                if not count:
                    break
                largest = max(largest, count)
                view = ring.completions(count)
                if count < MIN_BATCH or not self._echo(view, count):
                    self._take_apart(view)
                    ring.take(count)
        if self._failure is not None:
            return self._give_up(self._failure)
        ring.end()
        if largest:
            self.batch = largest
            self._small_turns = 0 if largest >= MIN_BATCH else self._small_turns + 1
        return None

    def _echo(self, view: memoryview, count: int) -> bool:
        """Send a whole batch back and collect new completions; False if anything in it is unusual."""
        ring = self._ring
        fds = view[::4].tolist()
        lengths = view[2::4].tolist()
        first = self._next_buffer
        if (
            self._leaving  # those have bytes unsent, or are lost
            or view[3::4] != ring.plain[first : first + count]  # one that has no buffer, or was the last
            or view[1::4] != ring.received[:count]
            or max(lengths) >= BUFFER_SIZE
            or len({*fds}) != count  # of two for one connection, the second must wait for the first
        ):
            return False
        ring.send_back(view[::4], view[2::4], first)
        streams = self.streams
        for fd, length in zip(fds, lengths):  # noqa: B905  # the lengths are equal, and checking that takes time
            streams[fd].protocol.received += length  # as `writes_back` promises
        self._next_buffer = (first + count) % BUFFERS
        ring.take(count)
        try:
            ring.enter(count)
        except NotAcceptedError as error:
            self._failure = error
            for index in range(error.accepted, count):
                data = ring.buffer((first + index) % BUFFERS, lengths[index])
                streams[fds[index]].keep_unsent(data)
        more = ring.completed()
        if more:
            view = ring.completions(more)
            if view[1::4] != ring.received[:more]:
                self._keep_unsent(view, fds, lengths, first)
        ring.give(count)
        return True

    def _keep_unsent(self, view: memoryview, fds: list[int], lengths: list[int], first: int) -> None:
        """Hand over the bytes that could not be sent to the streams that they belong to."""
        for fd, what, result in zip(view[::4], view[1::4], view.cast("B").cast("i")[2::4], strict=True):
            if what == SENT:
                index = fds.index(fd)
                data = self._ring.buffer((first + index) % BUFFERS, lengths[index])
                # After an error, too: the next write will fail again, where the reactor can be told.
                self.streams[fd].keep_unsent(data[max(result, 0) :])

    def _take_apart(self, view: memoryview) -> None:
        """Handle completions one by one."""
        results = view.cast("B").cast("i")[2::4]
        used = 0
        for fd, what, result, flags in zip(view[::4], view[1::4], results, view[3::4], strict=True):
            if what != RECEIVED:
                continue  # a send, already handled, or a cancellation that found nothing to cancel
            stream = self.streams[fd]
            if flags & USED_BUFFER:
                buffer = flags >> 16
                if buffer != self._next_buffer:
                    raise RuntimeError(f"io_uring: buffer {buffer} before {self._next_buffer}")
                self._next_buffer = (buffer + 1) % BUFFERS
                used += 1
                if result > 0 and stream.connected:
                    self._deliver(stream, self._ring.buffer(buffer, result))
            if not flags & MORE:
                self._ended(fd, result)
            elif self._small_turns >= MAX_SMALL_TURNS:
                self.leave(fd)
        self._ring.give(used)

    def _deliver(self, stream: RingMember, data: bytes) -> None:
        try:
            stream.protocol.dataReceived(data)
        except BaseException as error:  # noqa: BLE001  # a bug in a protocol ends only its own connection
            log.err()
            self._disconnect(stream, error, True)
        if len(data) == BUFFER_SIZE and stream.connected:
            stream.wants_much()

    def _ended(self, fd: int, result: int) -> None:
        """The kernel has stopped receiving at *fd*, with *result*."""
        stream = self._left(fd)
        if stream.connected and result < 0 and -result not in RECEIVE_RESTARTS:
            self._disconnect(stream, main.CONNECTION_LOST, True)
        # An end of input will be read again, off the ring.
