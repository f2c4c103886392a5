"""Echoing many connections at once: what has come goes back from where it lies, in one call for all of them.

Rules: on the ring is who echoes, owes nothing and is read from; everyone else is off it, where `PlainStream`
does what there is to do. A batch in which anything is out of the ordinary is taken apart, message by
message. A connection has left when the kernel has said so, and only then may its descriptor be another's;
what has been received for it until then is kept, which is never more than the buffers that all share.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import main
from twisted.internet.interfaces import IReadDescriptor
from twisted.python import log
from zope.interface import implementer

from suite.engine.interfaces import RingMember, Selectable
from suite.engine.linux.uring import BUFFER_SIZE, BUFFERS, MORE, RECEIVED, SENT, USED_BUFFER, Ring

#: Batches before every other descriptor has its turn.
BATCHES_PER_TURN: Final = 4

#: Fewer messages than this are cheaper one by one,
MIN_BATCH: Final = 4

#: and after so many turns in a row with no more than that, off the ring.
MAX_SMALL_TURNS: Final = 16

#: Why the kernel stops to receive where nothing is wrong with the connection: we asked for it, or it was
#: short of buffers or of room for completions.
RECEIVE_RESTARTS: Final = frozenset({errno.ECANCELED, errno.ENOBUFS, errno.EAGAIN, errno.EINTR})


@implementer(IReadDescriptor)
class EchoRing(Selectable):
    """The connections that one reactor echoes together.

    :param disconnect: is called with a connection, why nothing can be read from it any more, and True.
    :raises OSError: this system has no ``io_uring`` for us.
    :ivar streams: the connections, by descriptor.
    :ivar batch: how many messages the largest batch of the last turn had.
    """

    needs_log_context = False
    batch = 0
    _small_turns = 0

    def __init__(self, disconnect: Callable[[Any, Any, bool], object]) -> None:
        self.streams: dict[int, RingMember] = {}
        self._ring = Ring()
        self._disconnect = disconnect
        self._leaving: dict[int, Callable[[], object] | None] = {}
        self._next_buffer = 0

    def fileno(self) -> int:
        """What is readable when there is something to do."""
        return self._ring.wakeup

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "EchoRing"

    def connectionLost(self, reason: object) -> None:  # noqa: ARG002  # IFileDescriptor's
        """The ring has failed."""
        self.close()

    def close(self) -> None:
        """End every connection: what has become of its last bytes nobody knows."""
        self._ring.close()
        for fd in [*self.streams]:
            stream = self._left(fd)
            if stream.connected:
                self._disconnect(stream, main.CONNECTION_LOST, True)

    # Coming and going.

    def join(self, fd: int, stream: RingMember) -> None:
        """Echo *stream*, at *fd*, from now on; the reactor must not read from it any more.

        :raises OSError: the kernel will not have it.
        """
        self._ring.receive(fd)
        self.streams[fd] = stream

    def leave(self, fd: int, close: Callable[[], object] | None = None) -> None:
        """Have the stream at *fd* leave soon; then call *close*, if any: till then *fd* is in use."""
        if fd not in self._leaving:
            self._leaving[fd] = None
            self._ring.cancel(fd)
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

    # Echoing.

    def doRead(self) -> None:
        """Echo what has come."""
        ring = self._ring
        ring.begin()
        ring.enter(0)
        largest = 0
        for _ in range(BATCHES_PER_TURN):
            count = ring.completed()
            if not count:
                break
            largest = max(largest, count)
            view = ring.completions(count)
            if count < MIN_BATCH or not self._echo(view, count):
                self._take_apart(view)
                ring.take(count)
        ring.end()
        if largest:
            self.batch = largest
            self._small_turns = 0 if largest >= MIN_BATCH else self._small_turns + 1

    def _echo(self, view: memoryview, count: int) -> bool:
        """Send everything back, and see what has come meanwhile; False if anything is out of the ordinary."""
        ring = self._ring
        fds = view[::4].tolist()
        lengths = view[2::4].tolist()
        first = self._next_buffer
        if (
            self._leaving  # these owe something, or are no more
            or view[3::4] != ring.plain[first : first + count]  # each has its buffer, and goes on
            or view[1::4] != ring.received[:count]
            or max(lengths) >= BUFFER_SIZE
            or len({*fds}) != count  # if the first of two cannot be sent, the second one must not be
        ):
            return False
        ring.send_back(view[::4], view[2::4], first)
        streams = self.streams
        for fd, length in zip(fds, lengths):  # noqa: B905  # they are of one length, and to see to it takes time
            streams[fd].protocol.received += length  # as `writes_back` promises
        self._next_buffer = (first + count) % BUFFERS
        ring.take(count)
        ring.enter(count)
        more = ring.completed()
        if more:
            view = ring.completions(more)
            if view[1::4] != ring.received[:more]:
                self._keep_unsent(view, fds, lengths, first)
        ring.give(count)
        return True

    def _keep_unsent(self, view: memoryview, fds: list[int], lengths: list[int], first: int) -> None:
        """Some have not taken all of what was just sent to them."""
        for fd, what, result in zip(view[::4], view[1::4], view.cast("B").cast("i")[2::4], strict=True):
            if what == SENT:
                index = fds.index(fd)
                data = self._ring.buffer((first + index) % BUFFERS, lengths[index])
                # Also after an error: who writes next will meet it again, and can tell the reactor.
                self.streams[fd].keep_unsent(data[max(result, 0) :])

    def _take_apart(self, view: memoryview) -> None:
        """Deal with completions one by one."""
        results = view.cast("B").cast("i")[2::4]
        used = 0
        for fd, what, result, flags in zip(view[::4], view[1::4], results, view[3::4], strict=True):
            if what != RECEIVED:
                continue  # it has been dealt with, or there was nothing left to be cancelled
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
        except BaseException as error:  # noqa: BLE001  # a bug in a protocol ends its connection only
            log.err()
            self._disconnect(stream, error, True)
        if len(data) == BUFFER_SIZE and stream.connected:
            stream.wants_much()

    def _ended(self, fd: int, result: int) -> None:
        """The kernel receives no more at *fd*."""
        stream = self._left(fd)
        if stream.connected and result < 0 and -result not in RECEIVE_RESTARTS:
            self._disconnect(stream, main.CONNECTION_LOST, True)
        # An end of input is there to be read again, off the ring.
