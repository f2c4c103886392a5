"""The engine: an epoll reactor with a lean loop, and this suite's ports behind its ``listen…`` calls.

Rules: a plain read or write event of a quiet transport costs one dictionary look-up and one call;
everything else (errors, hang-ups, exceptions, transports of other programs) takes Twisted's own path.
What is private to `EPollReactor` and used here stands in `EngineReactor.doPoll` alone;
tests/test_engine_reactor.py fails loudly when it goes.
"""

from __future__ import annotations

from select import EPOLLIN, EPOLLOUT
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log
from typing_extensions import override

from suite.engine.listeners import ListenersMixin


class EngineReactor(ListenersMixin, EPollReactor):
    """`EPollReactor`, faster."""

    @override
    def doPoll(self, timeout: float | None) -> None:
        """Wait for events for *timeout* seconds at the most (None: for ever), and handle them."""
        selectables = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except InterruptedError:
            return
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is None:
                continue  # an earlier event in this turn has closed it
            try:
                quiet = selectable.quiet
            except AttributeError:
                quiet = False  # not one of the engine's
            # Compared one by one: a tuple of the two would be made anew for every event.
            reads = event == EPOLLIN
            if not quiet or not (reads or event == EPOLLOUT):
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)
                continue
            try:
                why = selectable.doRead() if reads else selectable.doWrite()
            except BaseException as error:  # noqa: BLE001  # a bug in a protocol ends its connection only
                log.err()
                why = error
            if why:
                self._disconnectSelectable(selectable, why, reads)

    doIteration: Any = doPoll


def install() -> None:
    """Make an `EngineReactor` the reactor of this process."""
    installReactor(EngineReactor())
