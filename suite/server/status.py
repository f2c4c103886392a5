"""The status of a running suite, written to the log when a signal asks for it.

Rules: however many endpoints there are, it is at most `MAX_LINES` lines and two more, and no echo waits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from twisted.logger import Logger

from suite.reasons import REFUSALS
from suite.server.endpoint import RunningEndpoint, counted
from suite.server.pauses import Turns
from suite.server.service import EchoSuite

log = Logger()

#: Endpoints with a line of their own: those with the most connections.
MAX_LINES: Final = 100

COUNTS: Final = "{open:,} open, {accepted:,} accepted, {received:,} bytes, {refused:,} refused{by_reason}"


@dataclass(frozen=True)
class Status:
    """The counts of one endpoint, or of all.

    :ivar open: connections that are open.
    :ivar accepted: connections accepted since the endpoint was opened.
    :ivar received: bytes received on them.
    :ivar refusals: connections or datagrams refused, by reason.
    """

    open: int
    accepted: int
    received: int
    refusals: Mapping[str, int]


def status_of(endpoint: RunningEndpoint) -> Status:
    """The counts of *endpoint*; of datagrams, only refusals are counted."""
    guard, datagrams = endpoint.guard, endpoint.datagrams
    counts = [*(guard.ends.items() if guard else ()), *(datagrams.refusals.items() if datagrams else ())]
    refusals: dict[str, int] = {}
    for reason, count in counts:
        if reason in REFUSALS:
            refusals[str(reason)] = refusals.get(str(reason), 0) + count
    if guard is None:
        return Status(0, 0, 0, refusals)
    received = guard.received + sum(connection.received for connection in guard.open)
    return Status(len(guard.open), guard.accepted_count, received, refusals)


async def log_status(suite: EchoSuite) -> None:
    """Log the counts of *suite* as a whole, and of each endpoint; those that have left are "leaving"."""
    turns = Turns(suite.reactor)
    endpoints, leaving = [*suite.endpoints.values()], [*suite.leaving]
    every: list[tuple[RunningEndpoint, Status]] = []
    opened = accepted = received = 0
    refusals: Counter[str] = Counter()
    async for endpoint in turns.between([*endpoints, *leaving]):
        status = status_of(endpoint)
        every.append((endpoint, status))
        opened += status.open
        accepted += status.accepted
        received += status.received
        if status.refusals:
            refusals.update(status.refusals)
    _log(
        "status: {endpoints:,} endpoints, {leaving:,} leaving; " + COUNTS,
        Status(opened, accepted, received, refusals),
        endpoints=len(endpoints),
        leaving=len(leaving),
    )
    gone = set(leaving)
    await turns.one_if_due()
    most = heapq.nlargest(MAX_LINES, every, key=lambda pair: (pair[1].open, pair[1].accepted))
    async for endpoint, status in turns.between(most):
        form = "status, leaving: " if endpoint in gone else "status: "
        _log(form + COUNTS, status, endpoint=endpoint.description.endpoint.name)
    if len(every) > MAX_LINES:
        log.info("status: {more:,} more endpoints", more=len(every) - MAX_LINES, requested=True)


def _log(form: str, status: Status, **fields: object) -> None:
    log.info(
        form,
        open=status.open,
        accepted=status.accepted,
        received=status.received,
        refused=sum(status.refusals.values()),
        by_reason=counted(status.refusals),
        requested=True,
        **fields,
    )
