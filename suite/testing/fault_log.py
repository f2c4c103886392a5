"""What became of the connections, and the datagrams, of endpoints with faults, for tests to assert on."""

from __future__ import annotations

import select
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any, Final

from twisted.internet.protocol import Protocol
from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from suite.faults.streams import FaultyStream

#: The most connections, or datagrams, whose faults are kept for an endpoint: the last ones.
KEPT_CONNECTIONS: Final = 10_000


@implementer(ILogObserver)
class FaultLog:
    """A record of the connections that have got faults, or have ended, from the events of the log.

    Of datagrams, it has those that a fault has struck. Connections that never reach an answering protocol
    (refused, or without a TLS handshake) are there, too.
    """

    def __init__(self) -> None:
        self._found: dict[str, dict[int, list[str | None]]] = {}
        self._datagrams: defaultdict[str, deque[tuple[int, str, None]]] = defaultdict(
            lambda: deque(maxlen=KEPT_CONNECTIONS)
        )
        self._left: set[tuple[str, int]] = set()  # connections whose end is nobody's concern

    def __call__(self, event: LogEvent) -> None:
        """`ILogObserver`: note what *event* says of a connection."""
        endpoint, number = event.get("endpoint"), event.get("connection")
        if "verdict" in event and isinstance(endpoint, str):
            self._datagrams[endpoint].append((event["number"], str(event["verdict"]), None))
            return
        if not isinstance(endpoint, str) or not isinstance(number, int):
            return
        closing = "reason" in event
        if (endpoint, number) in self._left:
            if closing:
                self._left.remove((endpoint, number))
            return
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

    def datagrams(self, endpoint: str) -> list[tuple[int, str, None]]:
        """Number and faults of each datagram of *endpoint* that was struck, in their order."""
        return [*self._datagrams[endpoint]]

    def leave(self, endpoint: str, number: int) -> None:
        """Forget a connection that is open, and its end."""
        self._found.get(endpoint, {}).pop(number, None)
        self._left.add((endpoint, number))

    def clear(self) -> None:
        """Forget everything except what has struck the open connections."""
        self._datagrams.clear()
        for found in self._found.values():
            for number in [number for number, (_, end) in found.items() if end is not None]:
                del found[number]


def only_a_fault_holds(connection: Protocol) -> bool:
    """Whether the client of *connection* has ended it, and a fault keeps this side from doing so.

    A client cannot do more than that, so it has forgotten nothing.
    """
    stream: Any = connection.transport
    if not isinstance(stream, FaultyStream) or not stream.decision:
        return False
    poll = select.poll()
    hang_up = getattr(select, "POLLRDHUP", select.POLLHUP)  # also if what came before it has not been read
    poll.register(stream.transport.fileno(), hang_up)
    return bool(poll.poll(0))
