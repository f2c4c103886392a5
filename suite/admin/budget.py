"""How much of the reactor's time the admin interface may take, and what waits for it.

Rules: it is `SHARE` of it, whatever is asked, since the rest is for echoes; nobody waits longer than
`LONGEST_WAIT` for what somebody else has asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: The part of the reactor's time that all this may take, on average.
SHARE: Final = 0.1

#: Seconds of work that may be done at once after a quiet time.
BURST: Final = 0.25

#: Seconds that everybody waits at the most after an answer that has taken long: what thousands of endpoints
#: take must fail no probe (Kubernetes' ``timeoutSeconds`` is 1).
LONGEST_WAIT: Final = 0.5


class Budget:
    """The reactor's time that may be spent: `SHARE` of it, with a reserve of `BURST`.

    :param clock: the source of time.
    :ivar spent: seconds of work so far.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._left = BURST
        self._then = clock.seconds()
        self.spent = 0.0

    def left(self) -> float:
        """Seconds of work that may be done now; negative if too much has been done."""
        now = self._clock.seconds()
        self._left = min(BURST, self._left + (now - self._then) * SHARE)
        self._then = now
        return self._left

    def wait(self) -> float:
        """Seconds until more work may be done; 0: it may be done now."""
        return max(0.0, -self.left() / SHARE)

    @contextmanager
    def charged(self) -> Any:
        """Charge the block's time."""
        began = self._clock.seconds()
        try:
            yield
        finally:
            self.charge(self._clock.seconds() - began)

    def charge(self, seconds: float) -> None:
        """Charge *seconds* of work that has been done."""
        self.spent += seconds
        self._left = max(self.left() - seconds, -LONGEST_WAIT * SHARE)


class Queue:
    """Requests that wait to be answered, in their order, one in a turn of the reactor.

    Those that are urgent have every other turn, so that neither kind waits for all of the other.

    :param budget: is charged for the work; while it is used up, nothing is done.
    """

    def __init__(self, clock: IReactorTime, budget: Budget) -> None:
        self._clock = clock
        self._budget = budget
        # The kind whose turn is the next comes first.
        self._kinds: deque[deque[Callable[[], object]]] = deque((deque(), deque()))
        self._ordinary, self._urgent = self._kinds
        self._next: IDelayedCall | None = None

    def put(self, work: Callable[[], object], *, urgent: bool = False) -> None:
        """Do *work* when its turn has come."""
        (self._urgent if urgent else self._ordinary).append(work)
        self._schedule()

    def _schedule(self) -> None:
        if self._next is None and any(self._kinds):
            self._next = self._clock.callLater(self._budget.wait(), self._work)

    def _work(self) -> None:
        self._next = None
        self._kinds.rotate()
        work = next(filter(None, self._kinds)).popleft()
        try:
            with self._budget.charged():
                work()
        finally:
            self._schedule()

    def clear(self) -> None:
        """Forget everything that waits."""
        for waiting in self._kinds:
            waiting.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None
