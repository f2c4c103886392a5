"""What became of the connections of endpoints with faults, for tests to assert on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

#: The most connections whose faults are kept for an endpoint: the last ones.
KEPT_CONNECTIONS: Final = 10_000


@implementer(ILogObserver)
class FaultLog:
    """A record of the connections that have got faults, or have ended, from the events of the log.

    Connections that never reach an answering protocol (refused, or without a TLS handshake) are there, too.
    """

    def __init__(self) -> None:
        self._found: dict[str, dict[int, list[str | None]]] = {}

    def __call__(self, event: LogEvent) -> None:
        """`ILogObserver`: note what *event* says of a connection."""
        endpoint, number = event.get("endpoint"), event.get("connection")
        if not isinstance(endpoint, str) or not isinstance(number, int):
            return
        closing = "reason" in event
        if not closing and "faults" not in event:
            return
        found = self._found.setdefault(endpoint, {})
        entry = found.setdefault(number, ["", None])
        if closing:
            entry[1] = str(event["reason"])
        else:
            faults, _, _ = str(event["faults"]).partition(" seed=")
            entry[0] = "" if faults == "none" else faults
        if len(found) > KEPT_CONNECTIONS:
            del found[next(iter(found))]

    def connections(self, endpoint: str, opened: Iterable[int]) -> list[tuple[int, str, str | None]]:
        """Number, faults and end of each connection of *endpoint*, by number.

        :param opened: the numbers of those that are open.
        """
        found = dict.fromkeys(opened, ("", None)) | self._found.get(endpoint, {})
        return [(number, faults or "", end) for number, (faults, end) in sorted(found.items())]

    def clear(self) -> None:
        """Forget everything."""
        self._found.clear()
