"""Events of a worker, on their way to the supervisor, where whoever watches has them all in one stream.

Rules: they leave together, a tenth of a second after the first; of more than `MOST` of a kind in that time,
the last are told, and that there were more. Nothing is done unless the supervisor has an admin interface.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from typing_extensions import override

from suite.admin.events import OwnEvents
from suite.logs.lines import fields_of

#: Seconds that an event waits at the most.
DELAY: Final = 0.1

#: Events of each kind that leave together at the most, which bounds what a flood of connections costs.
MOST: Final = 200


class _Waiting:
    """Events of one kind that wait; those that have been dropped are known by their number alone."""

    def __init__(self) -> None:
        self.events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=MOST)
        self.count = 0


class Forwarder(OwnEvents):
    """Tells of the events of this process, from `start` to `stop`.

    :param clock: the reactor.
    :param number: the number of the worker.
    :param tell: called with events, in order, as `suite.logs.lines.fields_of` has them, and with whether some
        before them are missing: at ``debug``, and above.
    """

    def __init__(
        self, clock: Any, number: int, tell: Callable[[list[dict[str, Any]], bool, bool], object]
    ) -> None:
        super().__init__(clock)
        self._number = number
        self._tell = tell
        self._debug, self._others = _Waiting(), _Waiting()
        self._noted = 0
        self._due: IDelayedCall | None = None
        self._started = False

    def start(self) -> None:
        """Take note of events."""
        if not self._started:
            self._started = True
            globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Tell what has been noted, and nothing more."""
        if self._started:
            self._started = False
            globalLogPublisher.removeObserver(self)
            if self._due is not None:
                self._due.cancel()
                self._send()

    @override
    def _note(self, event: LogEvent) -> None:
        waiting = self._debug if event.get("log_level") is LogLevel.debug else self._others
        waiting.count += 1
        self._noted += 1
        waiting.events.append((self._noted, event))
        if self._due is None:
            self._due = self._clock.callLater(DELAY, self._send)

    def _send(self) -> None:
        self._due = None
        kinds = (self._debug, self._others)
        # By the time that they were noted in.
        events = sorted((pair for kind in kinds for pair in kind.events), key=lambda pair: pair[0])
        missing = [kind.count > len(kind.events) for kind in kinds]
        self._debug, self._others = _Waiting(), _Waiting()
        self._tell([{"worker": self._number, **fields_of(event)} for _, event in events], *missing)
