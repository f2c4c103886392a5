"""One client of the control socket: a JSON object on a line is a request, and has one such line as answer.

Rules: whatever a client does is bounded: the length of a line, the requests of a turn, the answers that it
has not read, and the time between two requests; a client that ends its side after its last request gets all
of its answers; no request is begun while an earlier answer has not left.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.admin.objects import NotAnObjectError, read_object
from suite.text import one_line

#: Bytes of a request, without the end of its line.
LONGEST_REQUEST: Final = 64 * 1024

#: Requests of one client that are answered before everything else has its turn.
REQUESTS_PER_TURN: Final = 16

#: Seconds that a client may take for a request, and then for reading its last answers.
PATIENCE: Final = 60.0

#: What answers a request: its keys and values, to the keys and values of the answer.
Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class RefusedRequestError(Exception):
    """A request that cannot be followed; nothing has changed.

    :ivar problem: what is wrong with it, and what was expected, in one line.
    :ivar kind: ``"request"``: it is wrong; ``"busy"``: the same one may be followed later.
    """

    def __init__(self, problem: str, kind: str = "request") -> None:
        super().__init__(problem, kind)
        self.problem = one_line(problem)
        self.kind = kind


#: A line that never ends fills no memory.
TOO_LONG: Final = RefusedRequestError(
    f"a line is longer than {LONGEST_REQUEST:,} bytes; expected shorter ones"
)


def refusal(error: RefusedRequestError) -> dict[str, Any]:
    """The answer to a request that is refused."""
    return {"ok": False, "kind": error.kind, "error": error.problem}


def answered(line: bytes, answer: Answer) -> dict[str, Any]:
    """The answer to the request on *line*, whatever is on it."""
    try:
        request = _request(line)
    except RefusedRequestError as error:
        return refusal(error)
    return answer_to(request, answer)


def answer_to(request: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """The answer to *request*, as it is sent."""
    try:
        return {"ok": True, **answer(request)}
    except RefusedRequestError as error:
        return refusal(error)


def _request(line: bytes) -> dict[str, Any]:
    """The request on *line*.

    :raises RefusedRequestError: it is no JSON object (RFC 8259).
    """
    try:
        return read_object(line, 'an object on one line, such as {"do": "list"}')
    except NotAnObjectError as error:
        raise RefusedRequestError(str(error)) from None


@implementer(IHalfCloseableProtocol, IPushProducer)
class Conversation(TimeoutMixin, Protocol):
    """One client.

    Its transport pauses it while answers wait to be sent: it is the producer of what it writes.

    :param clock: schedules timeouts and turns.
    :param answer: answers a request.
    :param ended: called with this conversation once its connection is lost.
    :param settled: called once a request has been followed; its answer is sent when that has fired.
        None: what has been changed holds at once.
    :ivar full: whether there are too many clients, which this one is told instead of being heard.
    """

    def __init__(
        self,
        clock: IReactorTime,
        answer: Answer,
        ended: Callable[[Conversation], object],
        *,
        full: bool,
        settled: Callable[[], Deferred[Any]] | None = None,
    ) -> None:
        self.full = full
        self._clock = clock
        self._answer = answer
        self._ended = ended
        self._settled = settled
        self._lines: deque[bytes] = deque()
        self._partial = b""
        #: No more is read: the client has ended its side, or this side is about to end.
        self._finished = False
        self._closing = False
        self._paused = False
        #: An answer waits until what has been changed holds.
        self._settling = False
        self._turn: Any = None

    @override
    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        """`TimeoutMixin.callLater`."""
        return self._clock.callLater(period, func)

    @override
    def connectionMade(self) -> None:
        self.setTimeout(PATIENCE)
        cast(Any, self.transport).registerProducer(self, True)
        if self.full:
            problem = "there are too many connections to the control socket; expected some to end"
            self._give_up(RefusedRequestError(problem, "busy"))

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._finished:
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._lines += lines
        self._go_on()

    def readConnectionLost(self) -> None:
        """`IHalfCloseableProtocol.readConnectionLost`: the last line may lack its end."""
        if not self._finished:
            self._finished = True
            if self._partial:
                self._lines.append(self._partial)
        self._go_on()

    def writeConnectionLost(self) -> None:
        """`IHalfCloseableProtocol.writeConnectionLost`; this side is never ended alone."""

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self._cancel_turn()
        self._forget()
        self._closing = True
        self._ended(self)

    # Requests.

    def _go_on(self) -> None:
        """Answer what has come, up to a turn's share of it."""
        if self._turn is None:
            self._take_turn()

    def _take_turn(self) -> None:
        self._turn = None
        for _ in range(min(REQUESTS_PER_TURN, len(self._lines))):
            if self._is_held:
                return
            line = self._lines.popleft()
            if len(line) > LONGEST_REQUEST:
                self._give_up(TOO_LONG)
                return
            self.setTimeout(PATIENCE)
            self._follow(line)
        if self._is_held:
            return
        if self._lines:
            self._transport.pauseProducing()
            self._turn = self._clock.callLater(0, self._next_turn)
        elif self._finished:
            self._close()
        elif len(self._partial) > LONGEST_REQUEST:
            self._give_up(TOO_LONG)

    @property
    def _is_held(self) -> bool:
        """Whether no request is begun now."""
        return self._paused or self._closing or self._settling

    def _follow(self, line: bytes) -> None:
        answer = answered(line, self._answer)
        if self._settled is None:
            self._say(answer)
            return
        self._settling = True
        self._transport.pauseProducing()
        self._settled().addBoth(lambda _: self._clock.callLater(0, self._on_settled, answer))

    def _on_settled(self, answer: Mapping[str, Any]) -> None:
        self._settling = False
        if not self._closing:
            self._say(answer)
            self._next_turn()

    def _next_turn(self) -> None:
        self._take_turn()
        self._read_on()

    def _read_on(self) -> None:
        if self._turn is None and not self._paused and not self._finished and not self._settling:
            self._transport.resumeProducing()

    def _cancel_turn(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    @property
    def _transport(self) -> Any:
        return self.transport

    def _say(self, answer: Mapping[str, Any]) -> None:
        self._transport.write(json.dumps(answer).encode() + b"\n")

    def _give_up(self, error: RefusedRequestError) -> None:
        """Say what is wrong, and end the connection."""
        self._forget()
        self._say(refusal(error))
        self._close()

    # The end.

    def _close(self) -> None:
        """End the connection once all answers have been sent."""
        if not self._closing:
            self._closing = True
            self._cancel_turn()
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def close(self) -> None:
        """End the connection, after the answer that waits; no more requests are heard."""
        self._forget()
        if not self._settling:
            self._close()

    def _forget(self) -> None:
        self._finished = True
        self._lines.clear()
        self._partial = b""

    @override
    def timeoutConnection(self) -> None:
        """`TimeoutMixin.timeoutConnection`: say so; the second time, wait for nobody."""
        if self._closing or self._paused:
            self._transport.abortConnection()
            return
        self.setTimeout(PATIENCE)
        self._give_up(RefusedRequestError(f"no request within {PATIENCE:g} s", "busy"))

    # Flow: the transport calls these.

    def pauseProducing(self) -> None:
        """`IPushProducer.pauseProducing`: the client does not read its answers."""
        self._paused = True
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """`IPushProducer.resumeProducing`: it has read them."""
        self._paused = False
        self._go_on()
        self._read_on()

    def stopProducing(self) -> None:
        """`IProducer.stopProducing`: the connection is lost."""
