"""The status of a running suite, written to the log when a signal asks for it.

Rules: however many endpoints there are, it is at most `MAX_LINES` lines and two more, and no echo waits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Final

from twisted.logger import Logger

from suite.server.counts import Counts
from suite.server.endpoint import counted
from suite.server.pauses import Turns
from suite.server.service import EchoSuite

log = Logger()

#: Endpoints with a line of their own: those with the most connections.
MAX_LINES: Final = 100

_COUNTS: Final = "{open:,} open, {accepted:,} accepted, {received:,} bytes, {refused:,} refused{by_reason}"


async def log_status(suite: EchoSuite) -> None:
    """Log the counts of *suite* as a whole, and of each endpoint; those that have left are "leaving"."""
    turns = Turns(suite.reactor)
    every = await suite.counts(turns)
    total = Counts()
    async for _, _, counts in turns.between(every):
        total += counts
    leaving = sum(leaves for _, leaves, _ in every)
    _log(
        "status: {endpoints:,} endpoints, {leaving:,} leaving; " + _COUNTS,
        total,
        endpoints=len(every) - leaving,
        leaving=leaving,
    )
    await turns.one_if_due()
    most = heapq.nlargest(MAX_LINES, every, key=lambda each: (each[2].open, each[2].accepted))
    async for name, leaves, counts in turns.between(most):
        _log(("status, leaving: " if leaves else "status: ") + _COUNTS, counts, endpoint=name)
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
