"""The status of a running suite, written to the log when a signal asks for it.

Rules: however many endpoints there are, it is at most `MAX_LINES` lines and two more, and no echo waits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Final

from twisted.logger import Logger

from suite.server.counts import Counts, counts_in_turns
from suite.server.endpoint import RunningEndpoint, counted
from suite.server.pauses import Turns
from suite.server.service import EchoSuite

log = Logger()

#: Endpoints with a line of their own: those with the most connections.
MAX_LINES: Final = 100

_COUNTS: Final = "{open:,} open, {accepted:,} accepted, {received:,} bytes, {refused:,} refused{by_reason}"


async def log_status(suite: EchoSuite) -> None:
    """Log the counts of *suite* as a whole, and of each endpoint; those that have left are "leaving"."""
    turns = Turns(suite.reactor)
    endpoints, leaving = [*suite.endpoints.values()], [*suite.leaving]
    every: list[tuple[RunningEndpoint, Counts]] = []
    total = Counts()
    async for endpoint in turns.between([*endpoints, *leaving]):
        counts = await counts_in_turns(endpoint, turns)
        every.append((endpoint, counts))
        total += counts
    _log(
        "status: {endpoints:,} endpoints, {leaving:,} leaving; " + _COUNTS,
        total,
        endpoints=len(endpoints),
        leaving=len(leaving),
    )
    gone = set(leaving)
    await turns.one_if_due()
    most = heapq.nlargest(MAX_LINES, every, key=lambda pair: (pair[1].open, pair[1].accepted))
    async for endpoint, counts in turns.between(most):
        form = "status, leaving: " if endpoint in gone else "status: "
        _log(form + _COUNTS, counts, endpoint=endpoint.description.endpoint.name)
    if len(every) > MAX_LINES:
        log.info("status: {more:,} more endpoints", more=len(every) - MAX_LINES, requested=True)


def _log(form: str, counts: Counts, **fields: object) -> None:
    refused = Counter(counts.refused)
    refused.update(counts.unanswered)
    log.info(
        form,
        open=counts.open,
        accepted=counts.accepted,
        received=counts.received,
        refused=sum(refused.values()),
        by_reason=counted(refused),
        requested=True,
        **fields,
    )
