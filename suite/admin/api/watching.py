"""What answers requests about events: those that have happened, and a stream of those to come.

Rules: a stream is a response without an end (server-sent events); what is sent on it waits in the queue of
the interface as requests do, and nothing is sent that the client does not take: it loses events, and is told.
There are at most `MOST_STREAMS`; one whose client takes nothing for `PATIENCE` seconds ends.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from suite.admin.api.asked import LARGEST, Query, endpoint_named
from suite.admin.events import LEVELS, MOST_WAITING, Events, Filter, event_lines, missed_lines
from suite.admin.exchange import Call, Problem, Response, as_json
from suite.admin.route import Site
from suite.reasons import Reason

#: Streams at a time; people's pages, and their scripts.
MOST_STREAMS: Final = 8

#: Of them, those that are left for who may change something: anybody on this machine may take the others.
RESERVED: Final = 2

#: Seconds after which a client may try again if there are too many.
RETRY_AFTER: Final = 5

#: Seconds between comments on a stream where nothing happens; proxies end what is silent for 60.
COMMENT_INTERVAL: Final = 15.0

#: Seconds in which a client that is owed something has to take some of it.
PATIENCE: Final = 60.0

#: Events that are sent before everything else has its turn.
EVENTS_PER_TURN: Final = 50

#: What a stream begins with: a client whose connection is lost comes back after 2 seconds.
BEGINNING: Final = b"retry: 2000\n\n"

#: A line that means nothing, but that the stream still lives.
COMMENT: Final = b": nothing new\n\n"

STREAM: Final = "text/event-stream; charset=utf-8"


def _filter(site: Site, query: Query) -> Filter:
    """Which events *query* asks for.

    :raises Problem: there is no such level, endpoint or reason.
    """
    level = query.word("level", LEVELS) or "info"
    endpoint, reason = query.text("endpoint"), query.word("reason", [each.value for each in Reason])
    if endpoint is not None:
        endpoint_named(site.suite, endpoint)
    return Filter(level, endpoint, reason)


async def recent(site: Site, call: Call) -> Response:
    """``GET /api/v1/events/recent``: the last ones, or the first ones behind an id."""
    query = Query(call, "after", "endpoint", "level", "limit", "reason")
    limit, wanted = query.limit(), _filter(site, query)
    after = query.number("after", -1, 0)
    events = site.events
    found, missing = events.since(max(after, 0), wanted)
    last = events.last
    if after < 0:
        entries, missing = [*deque(found, limit)], False
    else:
        entries = [entry for entry, _ in zip(found, range(limit), strict=False)]
        if len(entries) == limit:
            last = entries[-1].number
    documents = [entry.document for entry in entries]
    return as_json({"events": documents, "next": last, "missed": None if missing else 0})


async def stream(site: Site, call: Call) -> Response | None:
    """``GET /api/v1/events``: the events to come; behind the id in ``Last-Event-ID``, or else ``after``."""
    query = Query(call, "after", "endpoint", "level", "reason")
    wanted = _filter(site, query)
    after = _last_event_id(call.http.getHeader("last-event-id"))
    begins = query.number("after", -1, 0)
    if after is None and begins >= 0:  # a browser sends the header by itself, and then no other query
        after = begins
    most = MOST_STREAMS if call.may_change else MOST_STREAMS - RESERVED
    if len(site.events) >= most:
        problem = f"there are {len(site.events)} streams of events already; expected one to end"
        raise Problem(503, problem, {"Retry-After": str(RETRY_AFTER)})
    head = Response(200, kind=STREAM, headers={"X-Accel-Buffering": "no"})
    if call.method == "HEAD":
        return head
    call.http.begin(head)
    found = Stream(site, call.http, wanted, after)
    try:
        await found.ended  # cancelled when the client has gone
    finally:
        found.stop()
    return None


def _last_event_id(header: str | None) -> int | None:
    """The id in ``Last-Event-ID``.

    :raises Problem: it is none of ours.
    """
    if not header:
        return None
    text = header.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= LARGEST):
        raise Problem(400, f"Last-Event-ID: {header!r} is not an id; expected a number")
    return int(text)


@implementer(IPushProducer)
class Stream:
    """A response that is a stream of events.

    :param request: the request; its head has been sent.
    :param wanted: which events.
    :param after: the id behind which it begins; None: now.
    :ivar ended: fires when the suite has ended it.
    """

    def __init__(self, site: Site, request: Any, wanted: Filter, after: int | None) -> None:
        self.ended: Deferred[None] = Deferred()
        self._events: Events = site.events
        self._request = request
        self._queue = site.factory.queue
        self._clock = site.suite.reactor
        self._paused = False
        self._due = False  # it is in the queue
        self._stopped = False
        self._timer: IDelayedCall | None = None
        self._reader = site.events.open(wanted, after, self._schedule, self.end)
        request.registerProducer(self, True)
        request.write(BEGINNING)
        self._schedule()
        self._wait(COMMENT_INTERVAL)

    def _schedule(self) -> None:
        """Have what is waiting sent, when the turn of the stream has come."""
        if not (self._due or self._paused or self._stopped):
            self._due = True
            self._queue.put(self._send)

    def _send(self) -> None:
        """Send what is waiting, a turn's share of it."""
        self._due = False
        if self._paused or self._stopped:
            return
        text = self._next(EVENTS_PER_TURN)
        if text:
            self._wait(COMMENT_INTERVAL)
            self._request.write(text)
        if self._reader.waiting:
            self._schedule()

    def _next(self, most: int) -> bytes:
        """What is waiting, *most* events of it."""
        reader, parts = self._reader, []
        if reader.missed != 0:
            parts.append(missed_lines(reader.missed))
            reader.missed = 0
        while reader.waiting and len(parts) < most:
            parts.append(event_lines(reader.waiting.popleft()))
        return b"".join(parts)

    def _wait(self, seconds: float) -> None:
        """Wait for *seconds* in which nothing happens."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, self._on_silence)

    def _on_silence(self) -> None:
        self._timer = None
        if self._paused:
            self._request.channel.abort()
            return
        self._wait(COMMENT_INTERVAL)
        self._request.write(COMMENT)

    def end(self) -> None:
        """The suite ends it: what is waiting is the last that there is."""
        if not self._stopped:
            self.stop()
            self._request.unregisterProducer()
            if not self._paused:
                self._request.write(self._next(MOST_WAITING + 1))
            self._request.finish()
            self.ended.callback(None)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._events.close(self._reader)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Flow: the connection calls these.

    def pauseProducing(self) -> None:
        """`IPushProducer.pauseProducing`: the client does not take what it has been sent."""
        if not self._stopped:
            self._paused = True
            self._wait(PATIENCE)

    def resumeProducing(self) -> None:
        """`IPushProducer.resumeProducing`: it has taken it."""
        if not self._stopped:
            self._paused = False
            self._wait(COMMENT_INTERVAL)
            self._schedule()

    def stopProducing(self) -> None:
        """`IProducer.stopProducing`: the connection is lost; the request is told, too."""
