"""The engine: an epoll reactor with a lean loop, and this suite's ports behind its ``listen…`` methods.

Rules: a plain read or write event of a `Selectable` that needs no logging context costs one dictionary
look-up and one call; all other events (errors, hang-ups, transports of other programs) take Twisted's own
path; an exception ends its selectable, never the turn. The private names of `EPollReactor` used here are
listed in tests/engine/test_reactor.py, which fails if one of them disappears.
"""

from __future__ import annotations

import sys
from select import EPOLLIN, EPOLLOUT
from typing import Any, Final

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log
from typing_extensions import override

from suite.engine.listeners import ListenersMixin
from suite.engine.ring import EchoRing

#: Minimum number of events in a turn for the ring to be cheaper than one call for each read and each write.
MIN_EVENTS: Final = 8


#: Seconds from the failure of a ring to the next one; perhaps the kernel was short of memory.
RING_RETRY: Final = 60.0


class EngineReactor(ListenersMixin, EPollReactor):
    """`EPollReactor`, faster."""

    #: The ring, from the first busy turn on; None before, and after it has failed.
    _ring: EchoRing | None = None
    #: `MIN_EVENTS`; out of reach once no ring can be had.
    _min_events = MIN_EVENTS

    @override
    def doPoll(self, timeout: float | None) -> None:
        """Wait at most *timeout* seconds (None: indefinitely) for events, and handle them."""
        selectables = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except InterruptedError:
            return
        ring = self._ring_for(len(events))
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is None:
                continue  # an earlier event in this turn has closed it
            try:
                needs_log_context = selectable.needs_log_context
            except AttributeError:
                needs_log_context = True  # not a `Selectable`
            # Two comparisons, because a tuple of the two flags would be built for every event.
            reads = event == EPOLLIN
            if needs_log_context or not (reads or event == EPOLLOUT):
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)
                continue
            try:
                why = selectable.doRead() if reads else selectable.doWrite()
                if ring is not None and not why:
                    selectable.join_ring(ring)
            except BaseException as error:  # noqa: BLE001  # a bug ends its selectable, never the turn
                log.err()
                why = error
            if why:
                # Twisted's own wrapper, because a `connectionLost` that raises must not end the turn either.
                log.callWithLogger(selectable, self._disconnectSelectable, selectable, why, reads)

    doIteration: Any = doPoll

    def _ring_for(self, events: int) -> EchoRing | None:
        """The ring, if a turn with so many *events* is busy enough for it; otherwise None."""
        ring = self._ring
        if events < self._min_events and (ring is None or ring.batch < MIN_EVENTS):
            return None
        if ring is None:
            ring = self._make_ring()
        elif ring.fileno() < 0:  # it has failed
            self._removeInternalReader(ring)
            ring = self._ring = None
            self.callLater(RING_RETRY, self._allow_ring)
        if ring is None:
            self._min_events = sys.maxsize
        return ring

    def _allow_ring(self) -> None:
        del self._min_events  # so that the class's holds again

    def _make_ring(self) -> EchoRing | None:
        try:
            ring = self._ring = EchoRing(self._disconnectSelectable, self.callLater)
        except OSError:  # not supported here, or no free descriptors; it only serves speed
            return None
        self._addInternalReader(ring)
        self.addSystemEventTrigger("after", "shutdown", self._drop_ring)
        return ring

    def _drop_ring(self) -> None:
        ring, self._ring = self._ring, None
        if ring is not None:
            self._removeInternalReader(ring)
            ring.close()

    @override
    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *self._on_ring()]

    @override
    def removeAll(self) -> list[Any]:
        streams = self._on_ring()
        removed = super().removeAll()
        return [*removed, *(stream for stream in streams if stream not in removed)]

    @property
    def on_ring(self) -> int:
        """The number of connections on the ring."""
        return 0 if self._ring is None else len(self._ring.streams)

    def _on_ring(self) -> list[Any]:
        return [] if self._ring is None else [*self._ring.streams.values()]


def install() -> None:
    """Make an `EngineReactor` the reactor of this process."""
    installReactor(EngineReactor())
