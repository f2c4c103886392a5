"""Noticing that files have changed: certificates that have been renewed, UNIX sockets that have been removed.

Rules: looking happens in a thread, because a file system may hang; a change is acted on once it has lasted
for a look, so that a certificate and its key, written one after the other, are read together; what did not
help is not tried again until something changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Hashable, Iterable
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

log = Logger()

#: Seconds between two looks.
INTERVAL: Final = 2.0


def state_of(files: Iterable[Path]) -> Hashable:
    """What tells whether one of *files*, or what a link among them leads to, is another one than before."""
    found: list[Hashable] = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError as error:
            found.append(error.errno)
        else:
            found.append((status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns))
    return tuple(found)


class Watch:
    """Looks at files every `INTERVAL` seconds.

    :param files: the files to look at.
    :param act: called when they have changed.
    """

    def __init__(
        self,
        reactor: Any,
        files: Callable[[], Iterable[Path]],
        act: Callable[[], Coroutine[Deferred[Any], Any, None]],
    ) -> None:
        self._reactor = reactor
        self._files = files
        self._act = act
        self._known: tuple[tuple[Path, ...], Hashable] | None = None
        self._seen: Hashable = None

    def start(self) -> None:
        """Look from now on, until the reactor stops."""
        self._reactor.callLater(INTERVAL, self._look)

    def _look(self) -> None:
        looking = Deferred.fromCoroutine(self._compare())
        looking.addErrback(lambda why: log.failure("files could not be watched", why))
        looking.addBoth(lambda _: self.start())

    async def _compare(self) -> None:
        files = tuple(self._files())
        if not files:
            return
        state = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), state_of, files)
        before, self._seen = self._seen, state
        if self._known is None or self._known[0] != files:
            self._known = files, state  # others than before: a reload has just read them
        elif state != self._known[1] and state == before:
            await self._act()
            self._known = (
                files,
                await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), state_of, files),
            )
