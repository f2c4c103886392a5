"""What would make echoes wait while something is done to thousands of endpoints, and how it does not.

- Work on a long list is done in turns, between which everything else has its own.
- A full garbage collection looks at every object: a tenth of a second for 10,000 endpoints.
- A thread at work keeps the interpreter for 5 ms after each system call of another's, and each of its own
  begins these anew, so that one that often asks the system can keep it for long: a plan asks seldom.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from twisted.internet.task import deferLater

T = TypeVar("T")

#: Seconds of work on a long list before everything else has its turn.
SLICE: Final = 0.005

#: Objects made in one go after which they are left out of later collections. Looking at fewer takes some
#: milliseconds.
MANY: Final = 50_000

#: Seconds that a thread at work keeps the interpreter from the reactor's: some times what changing costs.
SHORT_INTERVAL: Final = 0.0002


class Turns:
    """Divides long work into turns of `SLICE` seconds."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._until = reactor.seconds() + SLICE

    @property
    def is_due(self) -> bool:
        """Whether everything else has waited long enough for its turn."""
        return bool(self._reactor.seconds() > self._until)

    async def one_if_due(self) -> None:
        """Let everything else have its turn, unless it has just had one."""
        if self.is_due:
            await deferLater(self._reactor, 0, lambda: None)
            self._until = self._reactor.seconds() + SLICE

    async def between(self, items: Iterable[T]) -> AsyncIterator[T]:
        """*items*, with a turn for everything else where it is due."""
        for item in items:
            await self.one_if_due()
            yield item


@contextmanager
def without_collections() -> Iterator[None]:
    """No automatic garbage collection in the block, which makes many objects that stay.

    Reference counts free what is dropped, also later; only cycles among what there is at the end would stay
    for good. There are none in what a reload makes, and of connections only those of its time.
    """
    enabled = gc.isenabled()
    gc.collect(1)  # the younger generations: what connections have left behind is not to stay
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > MANY:
            gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def short_intervals() -> Iterator[None]:
    """Threads change more often than usual in the block, so that the reactor's waits less for another's."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(usual, SHORT_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
