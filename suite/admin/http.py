"""HTTP/1.1 for the admin interface, on twisted.web: bounded in everything, and never at the cost of an echo.

Rules: a request has a time, a size and a place in one queue; what is answered there, read and accepted takes
part of the reactor's time at most, and waits when that is used up (`suite.admin.budget`); there are at most
`MOST_CONNECTIONS`, `MOST_PER_PEER` of one peer, and a new one takes the place of the one that has been idle
longest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory
from twisted.web.http import Request as WebRequest
from typing_extensions import override

from suite.admin.budget import Budget, Queue
from suite.admin.exchange import Problem, Response
from suite.config.limits import address_of, source_of

log = Logger()

#: The most connections at a time; more than Prometheus, probes and some people's pages need.
MOST_CONNECTIONS: Final = 128

#: The most of one address, or one IPv6 /64; a browser opens 6.
MOST_PER_PEER: Final = 64

#: Bytes of a body.
LONGEST_BODY: Final = 64 * 1024

#: Bytes of answers that clients have not taken, of all connections together; the metrics of 10,000 endpoints
#: are 12 MB.
MOST_UNSENT: Final = 64 * 2**20

#: Seconds from the first byte of a request to its last (nginx's client_header_timeout is 60).
REQUEST_TIME: Final = 10.0

#: Seconds between two requests on a connection, or for the client to take an answer; Prometheus asks every
#: 15 to 60.
IDLE_TIME: Final = 75.0


class Request(WebRequest):
    """One request. It is answered when its turn has come; see `Queue`."""

    _parsePOSTFormSubmission = False  # bodies are JSON
    _answering: Deferred[None] | None = None
    _refused = False

    @property
    def _factory(self) -> AdminFactory:
        factory: AdminFactory = cast(Any, self.channel).factory
        return factory

    @property
    def is_being_answered(self) -> bool:
        """Whether its answer is under way."""
        return self._answering is not None and not self._answering.called

    @override
    def gotLength(self, length: int | None) -> None:
        super().gotLength(min(length or 0, LONGEST_BODY))  # in memory
        if length is not None and length > LONGEST_BODY:
            self._refuse_body()

    @override
    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        if cast(Any, self.content).tell() + len(data) > LONGEST_BODY:
            self._refuse_body()
        else:
            super().handleContentChunk(data)

    def _refuse_body(self) -> None:
        self._refused = True
        self.requestHeaders.removeHeader(b"Expect")  # nothing is to be continued
        problem = f"the body is longer than {LONGEST_BODY:,} bytes; expected a shorter one"
        response = Problem(413, problem).response()
        head = [f"HTTP/1.1 {response.status} {response.phrase}"]
        head += [f"{name}: {value}" for name, value in response.all_headers()]
        head += [f"Content-Length: {len(response.body)}", "Connection: close", "", ""]
        channel: Any = self.channel
        channel.transport.write("\r\n".join(head).encode() + response.body)
        channel.loseConnection()

    @override
    def getHeader(self, key: Any) -> Any:
        """The header *key*: of a text as ISO 8859-1, which any bytes are (RFC 9110, section 5.5)."""
        if isinstance(key, bytes):
            return super().getHeader(key)
        value = super().getHeader(key.encode("ascii"))
        return value.decode("latin-1") if value is not None else None

    @override
    def process(self) -> None:
        channel = cast(Channel, self.channel)
        if self._refused:
            channel.wait()
        else:
            channel.when_taken(self._queue)

    def _queue(self) -> None:
        self._factory.queue.put(self._begin, urgent=self.path in self._factory.urgent)

    def _begin(self) -> None:
        if self._disconnected or self.finished:
            return
        self._answering = Deferred.fromCoroutine(self._answer())
        self._answering.addErrback(lambda why: log.failure("a request to the admin interface failed", why))

    async def _answer(self) -> None:
        try:
            response = await self._factory.answer(self)
        except Problem as problem:
            response = problem.response()
        except CancelledError:  # the client has gone
            return
        except Exception:  # noqa: BLE001  # a bug ends its request, with an answer
            log.failure("{method} {uri} failed", method=self.method, uri=self.uri)
            response = Problem(500, "a bug in the suite; its log has a traceback").response()
        if response is not None and not self._disconnected:
            self._send(response)

    def begin(self, response: Response) -> None:
        """Send the head of *response*, whose body follows piece by piece: with `write`, up to `finish`."""
        self._set_head(response)
        self.write(b"")

    def _set_head(self, response: Response) -> None:
        self.setResponseCode(response.status, response.phrase.encode())
        for name, value in response.all_headers():
            self.setHeader(name.encode(), value.encode())

    def _send(self, response: Response) -> None:
        if response.body and self._factory.unsent + len(response.body) > MOST_UNSENT:
            problem = "too much of other answers has not been taken yet; expected their clients to read"
            response = Problem(503, problem, {"Retry-After": "5"}).response()
        self._set_head(response)
        if response.status not in (204, 304):  # which have no body
            self.setHeader(b"Content-Length", b"%d" % len(response.body))
            if self.method != b"HEAD":
                self.write(response.body)
        self.finish()

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        if self._answering is not None:
            self._answering.cancel()


class Channel(HTTPChannel):
    """One connection, whose requests have a time each.

    :ivar since: when it began to wait for its client: for a request, or for it to take answers; None: it does
        not, because a request is being answered.
    """

    requestFactory = Request
    maxHeaders = 100
    abortTimeout = 5

    factory: Any
    peer: int | None = None
    since: float | None = None
    _reading = False  # some of a request has arrived, and some is still to come
    _held: Callable[[], object] | None = None  # done once the client has taken what it has been sent

    @override
    def connectionMade(self) -> None:
        super().connectionMade()
        self.wait()

    @override
    def dataReceived(self, data: bytes) -> None:
        if not self._reading and not self._handlingRequest:
            self._reading = True
            self.setTimeout(REQUEST_TIME)
        with self.factory.budget.charged():
            super().dataReceived(data)
        self.factory.check_budget()

    @property
    def may_read(self) -> bool:
        """Whether Twisted's flow control has not stopped reading: the end of a client is read, too."""
        if self._handlingRequest:
            return sum(map(len, self._dataBuffer)) <= self._optimisticEagerReadSize
        return not self._waitingForTransport

    @override
    def rawDataReceived(self, data: bytes) -> None:
        super().rawDataReceived(data)
        # Twisted's own takes in anything while the client takes nothing.
        if self._handlingRequest and not self.may_read:
            self._networkProducer.pauseProducing()

    def when_taken(self, action: Callable[[], object]) -> None:
        """Do *action* once the client has taken the answers before it: they must not pile up."""
        if self._waitingForTransport:
            self._held = action
            self.wait()
        else:
            action()

    @override
    def resumeProducing(self) -> None:
        super().resumeProducing()
        held, self._held = self._held, None
        if held is not None:
            self.since = None
            self.setTimeout(None)
            held()

    def end(self) -> None:
        """End the connection, once a request that is being answered has its answer."""
        request: Any = self.requests[0] if self.requests else None
        if request is not None and request.is_being_answered:
            self.persistent = False
        else:
            self.wait()
            self.loseConnection()

    def abort(self) -> None:
        """End the connection at once."""
        cast(Any, self.transport).abortConnection()

    @override
    def resetTimeout(self) -> None:
        """A request has a time, however many pieces it comes in."""

    @override
    def allContentReceived(self) -> None:
        self._reading = False
        self.since = None
        super().allContentReceived()

    @override
    def requestDone(self, request: WebRequest) -> None:
        self._savedTimeOut = None
        buffered = bool(self._dataBuffer)
        self.wait()  # at the end, too: for the client to take the answer
        if self.persistent and buffered:
            self._reading = True
            self.setTimeout(REQUEST_TIME)
        super().requestDone(request)

    def wait(self) -> None:
        """Wait for the client, for `IDLE_TIME`."""
        self.since = self.factory.reactor.seconds()
        self.setTimeout(IDLE_TIME)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.ended(self)


class AdminFactory(HTTPFactory):
    """The connections of the admin interface.

    :param clock: the source of time.
    :param answer: answers a request; the result is None if that has been seen to. It may raise `Problem`.
    :param urgent: paths whose requests are urgent (`Queue`).
    :ivar budget: the time that may be spent.
    :ivar queue: the requests that wait for it.
    :ivar open: the open connections.
    :ivar refused: how many have been refused, or had to make room.
    """

    noisy = False
    protocol = Channel  # type: ignore[assignment]  # HTTP/1.1 only, without the proxy for others

    def __init__(
        self,
        clock: Any,
        answer: Callable[[Request], Coroutine[Deferred[Any], Any, Response | None]],
        urgent: Collection[bytes] = (),
    ) -> None:
        super().__init__(timeout=IDLE_TIME, reactor=clock)
        self.answer = answer
        self.urgent = urgent
        self.budget = Budget(clock)
        self.queue = Queue(clock, self.budget)
        self.open: dict[Channel, None] = {}
        self.refused = 0
        self.ports: list[Any] = []
        self._resting: IDelayedCall | None = None

    @override
    def log(self, request: WebRequest) -> None:
        """There is no access log."""

    @override
    def startFactory(self) -> None:
        """Twisted's own would update the date of an access log every second."""

    @override
    def buildProtocol(self, addr: IAddress | None) -> Channel | None:  # type: ignore[override]  # no proxy
        with self.budget.charged():
            host = getattr(addr, "host", None)
            peer = None if host is None else source_of(address_of(host))
            if peer is not None and sum(each.peer == peer for each in self.open) >= MOST_PER_PEER:
                self._make_room(peer)
                if sum(each.peer == peer for each in self.open) >= MOST_PER_PEER:
                    self.refused += 1
                    return None
            if len(self.open) >= MOST_CONNECTIONS and not self._make_room():
                self.refused += 1
                return None
            channel = cast(Any, super().buildProtocol(addr))
            channel.peer = peer
            self.open[channel] = None
        self.check_budget()
        return cast(Channel, channel)

    def _make_room(self, peer: int | None = None) -> bool:
        """Close the connection that has waited longest for its client; return whether there was one.

        :param peer: of this peer only.
        """
        waiting = [each for each in self.open if each.since is not None and peer in (None, each.peer)]
        if not waiting:
            return False
        longest = min(waiting, key=lambda each: cast(float, each.since))
        self.refused += 1
        self.ended(longest)
        cast(Any, longest.transport).abortConnection()
        return True

    @property
    def unsent(self) -> int:
        """Bytes of answers that clients have not taken, as far as transports tell."""
        return sum(getattr(each.transport, "unsent", 0) for each in self.open)

    def ended(self, channel: Channel) -> None:
        """*channel* has ended."""
        self.open.pop(channel, None)

    # What too much costs.

    def check_budget(self) -> None:
        """Neither read nor accept while too much has been done."""
        wait = self.budget.wait()
        if wait and self._resting is None:
            self._resting = self.reactor.callLater(wait, self._go_on)
            for each in [*self.ports, *(channel.transport for channel in self.open)]:
                if hasattr(each, "stopReading"):
                    each.stopReading()

    def _go_on(self) -> None:
        self._resting = None
        for port in self.ports:
            port.startReading()
        for channel in self.open:
            if channel.may_read:
                cast(Any, channel.transport).startReading()

    def stop(self) -> None:
        """Answer no more; what has been answered, or is being answered, is still sent."""
        self.queue.clear()
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        for channel in [*self.open]:
            channel.end()
