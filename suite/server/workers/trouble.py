"""What the log says of a worker that ends, or cannot be started.

Rules: each of a few times has its line; of a worker that ends again and again there is a line a minute, which
says how many it stands for, so that nothing can fill a disk; that it serves again is said when it has stayed.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.logger import Logger

log = Logger()

#: Lines in a row that are all written.
FEW: Final = 10

#: Seconds between two of those that follow.
INTERVAL: Final = 60.0


class Trouble:
    """That of one worker.

    :param clock: the reactor.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._count = 0
        self._unsaid = 0
        self._said = 0.0

    @property
    def is_new(self) -> bool:
        """Whether all lines are written yet."""
        return self._count <= FEW

    def say(self, form: str, **fields: object) -> None:
        """Log an error, in the format *form* of Twisted's logger, unless there have been too many."""
        self._count += 1
        now = self._clock.seconds()
        if not self.is_new and now - self._said < INTERVAL:
            self._unsaid += 1
            return
        more = "; {unsaid:,} lines about it have been left out" if self._unsaid else ""
        log.error(form + more, unsaid=self._unsaid, **fields)
        self._said, self._unsaid = now, 0

    def over(self) -> None:
        """It has served for a while."""
        self._count = 0
