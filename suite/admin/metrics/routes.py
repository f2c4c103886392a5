"""``/metrics``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Any, Final

from suite.admin.exchange import Call, Problem, Response
from suite.admin.metrics.exposition import chosen, read, text_of
from suite.admin.metrics.observed import CountedTurns
from suite.admin.route import Route, Site

#: Reads a snapshot, in turns: families with their values.
Reader = Callable[[Any, CountedTurns], AsyncIterable[Any]]


def is_by_worker(call: Call) -> bool:
    """Whether *call* asks for values by worker, which one process alone has not.

    :raises Problem: it asks for them by something else.
    """
    by = call.query.get("by")
    if by not in (None, "worker"):
        raise Problem(400, f"the query: by={by!r} is unknown; expected worker")
    return by is not None


async def scraped(site: Site, call: Call, reader: Reader = read) -> Response:
    """The answer to a scrape.

    :param reader: reads what has been observed.
    """
    form = chosen(call.accept)
    observer = site.observer
    # One after the other: what thousands of endpoints take is taken once at a time.
    await observer.lock.acquire()
    turns = CountedTurns(site.suite.reactor)
    try:
        text = await text_of(reader(await observer.observe(turns), turns), form)
    finally:
        observer.lock.release()
        site.factory.budget.charge(turns.worked)
    return Response(200, text, form.kind, {"Vary": "Accept"})


async def _metrics(site: Site, call: Call) -> Response:
    is_by_worker(call)
    return await scraped(site, call)


METRICS: Final = (Route("GET", "/metrics", _metrics, is_public=True),)
