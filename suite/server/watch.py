"""Noticing that files have changed: certificates that have been renewed, UNIX sockets that have been removed.

Rules: looking happens in a thread, because a file system may hang; a change is acted on once it has lasted
for a look, so that a certificate and its key, written one after the other, are read together; what did not
help is not tried again until something changes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from suite.files import Stamp, stamp_of
from suite.server.threads import defer_to_daemon

log = Logger()

#: Seconds between two looks.
INTERVAL: Final = 2.0


class Watch:
    """Looks at files every `INTERVAL` seconds.

    :param expected: returns the files to look at, each with its stamp when it was read or made.
    :param act: called when a file has another stamp; its result is whether it did anything about it.
    """

    def __init__(
        self,
        reactor: Any,
        expected: Callable[[], Mapping[str, Stamp]],
        act: Callable[[], Coroutine[Deferred[Any], Any, bool]],
    ) -> None:
        self._reactor = reactor
        self._expected = expected
        self._act = act
        self._seen: dict[str, Stamp] | None = None
        self._tried: tuple[dict[str, Stamp], dict[str, Stamp]] | None = None

    def start(self) -> None:
        """Look from now on, until the reactor stops."""
        self._reactor.callLater(INTERVAL, self._look)

    def _look(self) -> None:
        looking = Deferred.fromCoroutine(self._compare())
        looking.addErrback(lambda why: log.failure("files could not be watched", why))
        looking.addBoth(lambda _: self.start())

    async def _compare(self) -> None:
        expected = self._expected()
        if not expected:
            return
        stamps = await defer_to_daemon(self._reactor, _stamps, [*expected])
        before, self._seen = self._seen, stamps
        expected = {**self._expected()}
        if stamps == expected:
            self._tried = None
        elif stamps == before and (stamps, expected) != self._tried:
            # What has helped changes what is expected: a socket may be removed again and again.
            tried = await self._act()
            self._tried = (stamps, expected) if tried else None


def _stamps(files: list[str]) -> dict[str, Stamp]:
    return {file: stamp_of(file) for file in files}
