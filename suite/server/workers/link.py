"""The link between the supervisor and a worker: questions, answers, and open sockets, in either direction.

Rules: both ends are one program and one user, so what is sent is pickled; a question has one answer, or fails
when the other end is gone; descriptors come with the question that is about them, in its order, and one such
question is asked at a time: those that the other end has no room for leave no trace.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.errors import SuiteError

log = Logger()

#: What comes before each message: how many bytes it has, and how many descriptors come with it.
HEAD: Final = struct.Struct("!II")

#: The most descriptors of one message: each takes a byte of it with it, and it has some bytes more.
MOST_DESCRIPTORS: Final = 200

_PADDING: Final = bytes(MOST_DESCRIPTORS)


class GoneError(SuiteError):
    """The other end is gone, and does not answer any more."""

    def __str__(self) -> str:
        return "a worker has ended before it has answered"


class NoDescriptorsError(SuiteError):
    """There was no room for the descriptors that came with a question."""

    def __str__(self) -> str:
        return (
            "a worker has no file descriptors left for more sockets; expected fewer connections, or a higher"
            " hard limit (ulimit -Hn, or LimitNOFILE= of a systemd unit)"
        )


@implementer(IFileDescriptorReceiver)
class Link(Protocol):
    """One end.

    :ivar answers: what each question is answered by: called with its arguments, and with ``descriptors`` if
        it came with some; the result may be a `Deferred`, or a coroutine.
    :ivar ended: called, once, when the other end is gone.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Callable[..., Any]] = {}
        self.ended: Callable[[], object] = lambda: None
        self._waiting: dict[int, Deferred[Any]] = {}
        self._asked = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._descriptors: deque[int] = deque()
        self._gone = False

    def ask(self, what: str, *arguments: object, descriptors: Sequence[int] = ()) -> Deferred[Any]:
        """Ask the other end.

        :param descriptors: at most `MOST_DESCRIPTORS`, which the other end gets copies of.
        :returns: fires with the answer, or fails with the error that was the answer, or with `GoneError`.
        """
        answer: Deferred[Any] = Deferred()
        if self._gone:
            answer.errback(GoneError())
            return answer
        self._asked += 1
        self._waiting[self._asked] = answer
        self._send((self._asked, what, arguments), descriptors)
        return answer

    def tell(self, what: str, *arguments: object) -> None:
        """Tell the other end, which does not answer."""
        if not self._gone:
            self._send((0, what, arguments), ())

    def _send(self, message: tuple[Any, ...], descriptors: Sequence[int]) -> None:
        data = pickle.dumps(message) + (_PADDING if descriptors else b"")
        transport: Any = self.transport
        for descriptor in descriptors:
            transport.sendFileDescriptor(descriptor)
        transport.write(HEAD.pack(len(data), len(descriptors)) + data)

    # What has arrived.

    def fileDescriptorReceived(self, descriptor: int) -> None:  # noqa: N802  # Twisted's name
        """`IFileDescriptorReceiver.fileDescriptorReceived`."""
        self._descriptors.append(descriptor)

    @override
    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        while (message := self._next()) is not None:
            self._heard(*message)

    def _next(self) -> tuple[bytes, int] | None:
        """The next whole message, and how many descriptors belong to it; None: there is none yet."""
        if self._size < HEAD.size:
            return None
        if len(self._parts[0]) < HEAD.size:
            self._parts = [b"".join(self._parts)]
        length, count = HEAD.unpack_from(self._parts[0])
        end = HEAD.size + length
        if self._size < end:
            return None
        whole = b"".join(self._parts)
        self._parts = [whole[end:]] if len(whole) > end else []
        self._size = len(whole) - end
        return whole[HEAD.size : end], count

    def _heard(self, data: bytes, count: int) -> None:
        """Act on a message, with which *count* descriptors have been sent."""
        number, what, arguments = pickle.loads(data)  # noqa: S301  # from our own process, by nobody else
        if what is None:
            self._answered(number, *arguments)
            return
        if len(self._descriptors) < count:  # the kernel has dropped those that we had no room for
            self._drop_descriptors()
            self._fail(Failure(NoDescriptorsError()), number)
            return
        descriptors = [self._descriptors.popleft() for _ in range(count)]
        more = {"descriptors": descriptors} if count else {}
        answering = maybeDeferred(self.answers[what], *arguments, **more)
        if number:
            answering.addCallbacks(self._answer, self._fail, callbackArgs=(number,), errbackArgs=(number,))
        answering.addErrback(lambda why: log.failure("{what} could not be answered", why, what=what))

    def _drop_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _answer(self, value: object, number: int) -> None:
        if not self._gone:
            self._send((number, None, (True, value)), ())

    def _fail(self, failure: Failure, number: int) -> None:
        error = failure.value
        if not isinstance(error, SuiteError):
            log.failure("a question could not be answered", failure)
            error = UnansweredError(type(error).__name__, str(error))
        if not self._gone:
            self._send((number, None, (False, error)), ())

    def _answered(self, number: int, succeeded: bool, value: Any) -> None:
        answer = self._waiting.pop(number)
        if succeeded:
            answer.callback(value)
        else:
            answer.errback(value)

    @override
    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]  # Twisted's own default is one
        self._gone = True
        self._drop_descriptors()
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.errback(GoneError())
        self.ended()


class UnansweredError(SuiteError):
    """What a question has raised elsewhere; the log there has the traceback.

    :ivar kind: the name of the exception.
    :ivar problem: its text.
    """

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(kind, problem)
        self.kind = kind
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.kind}: {self.problem}"


class _Links(Factory):
    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    @override
    def buildProtocol(self, addr: object) -> Link:
        return self._link


def connect(reactor: Any, sock: socket.socket) -> Link:
    """Speak over *sock*, one of a pair, from now on; it is closed here."""
    link = Link()
    sock.setblocking(False)
    reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, _Links(link))
    sock.close()
    return link
