"""``/metrics``."""

from __future__ import annotations

from typing import Final

from suite.admin.exchange import Call, Response
from suite.admin.metrics.exposition import chosen, written
from suite.admin.metrics.observed import CountedTurns
from suite.admin.route import Route, Site


async def _metrics(site: Site, call: Call) -> Response:
    form = chosen(call.accept)
    observer = site.observer
    # One after the other: what thousands of endpoints take is taken once at a time.
    await observer.lock.acquire()
    turns = CountedTurns(site.suite.reactor)
    try:
        text = await written(await observer.observe(turns), form, turns)
    finally:
        observer.lock.release()
        site.factory.budget.charge(turns.worked)
    return Response(200, text, form.kind, {"Vary": "Accept"})


METRICS: Final = (Route("GET", "/metrics", _metrics, is_public=True),)
