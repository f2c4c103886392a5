"""What answers requests to the admin interface of a suite with workers, where others have another answer.

Rules: a request is checked by the supervisor, which knows the configuration, before any worker is asked; a
change that it makes to an endpoint of its own holds in all workers before it is answered.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from suite.admin import health
from suite.admin.api import changing, reading
from suite.admin.api.asked import Query, charged, check_body, endpoint_named, whole_number
from suite.admin.api.documents import counts_document, instant
from suite.admin.exchange import Call, Problem, Response, as_json
from suite.admin.metrics.exposition import read
from suite.admin.metrics.routes import is_by_worker, scraped
from suite.admin.workers import merging
from suite.admin.workers.metrics import read_by_worker
from suite.admin.workers.site import Site, documents, reasons
from suite.server.counts import Counts
from suite.server.pauses import Turns
from suite.server.tally import Key
from suite.server.workers.asking import Answers, settled

Document = dict[str, Any]

_ENDPOINT: Final = "/api/v1/endpoints/{name}"
_CONNECTION: Final = f"{_ENDPOINT}/connections/{{number}}"


async def _own(handler: Callable[[Any, Call], Awaitable[Response]], site: Site, call: Call) -> Any:
    """The document that the supervisor's own *handler* answers with.

    :raises Problem: the request cannot be followed.
    """
    return json.loads((await handler(site, call)).body)


async def _past(site: Site, answers: Any, turns: Turns) -> Callable[[str, str], Document | None]:
    """What workers have counted that are gone, by name and transport of an endpoint."""
    past = await site.past(answers, turns)

    def of(name: str, transport: str) -> Document | None:
        counts = past.get(Key(name, transport))
        return counts_document(counts) if counts is not None else None

    return of


def _open_at_late(site: Site, answers: Answers) -> Callable[[str], int]:
    """How many connections to an endpoint, by its name, are open at workers that do not answer."""
    supervisor = site.supervisor

    def of(name: str) -> int:
        found = supervisor.endpoints.get(name)
        return 0 if found is None else supervisor.open_at(answers.late, found)

    return of


# The suite.


async def status(site: Site, call: Call) -> Response:
    """``GET /api/v1/status``."""
    own = await _own(reading.status, site, call)
    answers = await site.ask_route(call, ("GET", "/api/v1/status"))
    found = documents(answers)
    past = Counts()
    async with charged(site) as turns:
        async for counts in turns.between((await site.past(answers, turns)).values()):
            past += counts
    late = site.supervisor.open_at(answers.late) if answers.late else None
    whole = merging.status(found, own, counts_document(past), late)
    if whole["state"] == "serving":
        said = {number: each["reasons"] for number, each in found.items()}
        whole["reasons"] = merging.reasons(said, own["reasons"], answers.late)
        whole["ready"] = not whole["reasons"]
    whole["workers"] = [
        {
            "number": worker.number,
            "pid": worker.pid,
            "state": "silent" if worker.number in answers.late else worker.state,
            "restarts": worker.restarts,
            "since": instant(worker.since),
            "open": _open_at(worker.number, found, site.supervisor.open_at, answers.late),
        }
        for worker in site.supervisor.workers
    ]
    return as_json(whole)


def _open_at(
    number: int, found: Mapping[int, Document], open_at: Callable[[list[int]], int], late: Collection[int]
) -> int | None:
    """The connections that are open at worker *number*; None: it is about to serve, or has ended."""
    if number in found:
        opened: int = found[number]["connections"]["open"]
        return opened
    return open_at([number]) if number in late else None


async def readyz(site: Site, _call: Call) -> Response:
    """``/readyz``."""
    turns = Turns(site.suite.reactor)
    return health.verdict(await reasons(site.supervisor, turns))


async def metrics(site: Site, call: Call) -> Response:
    """``/metrics``; with ``?by=worker`` with a label more."""
    return await scraped(site, call, read_by_worker if is_by_worker(call) else read)


# Endpoints.


async def endpoints(site: Site, call: Call) -> Response:
    """``GET /api/v1/endpoints``."""
    own = await _own(reading.endpoints, site, call)
    answers = await site.ask_route(call, ("GET", "/api/v1/endpoints"))
    limit = Query(call, "after", "limit", "name").limit()
    pages = [own, *documents(answers).values()]
    async with charged(site) as turns:
        past = await _past(site, answers, turns)
        merged, following = merging.endpoints(pages, limit, past, _open_at_late(site, answers))
        shown = [each async for each in turns.between(merged)]
    return as_json({"endpoints": shown, "next": following})


async def endpoint(site: Site, call: Call) -> Response:
    """``GET /api/v1/endpoints/{name}``."""
    entries: list[Document] = []
    unknown: Problem | None = None
    try:
        entries.append(await _own(reading.endpoint, site, call))
    except Problem as problem:
        if problem.status != 404:
            raise
        unknown = problem
    answers = await site.ask_route(call, ("GET", _ENDPOINT))
    entries += documents(answers).values()
    if not entries:
        raise unknown or Problem(404, f"{call.parameters['name']!r} is not an endpoint")
    async with charged(site) as turns:
        past = await _past(site, answers, turns)
    first = entries[0]
    counted = past(first["name"], first["transport"])
    return as_json(merging.endpoint(entries, counted, _open_at_late(site, answers)(first["name"])))


async def pause(site: Site, call: Call) -> Response:
    """``POST /api/v1/endpoints/{name}/pause``."""
    return await _switch(changing.pause, site, call)


async def resume(site: Site, call: Call) -> Response:
    """``POST /api/v1/endpoints/{name}/resume``."""
    return await _switch(changing.resume, site, call)


async def _switch(handler: Callable[[Any, Call], Awaitable[Response]], site: Site, call: Call) -> Response:
    await handler(site, call)
    await settled(site.supervisor.crew)
    return await endpoint(site, replace(call, body=b""))


def in_all(handler: Callable[[Any, Call], Awaitable[Response]]) -> Callable[[Any, Call], Awaitable[Response]]:
    """*handler*, which changes something, and is answered when that holds in all workers."""

    async def changed(site: Site, call: Call) -> Response:
        response = await handler(site, call)
        await settled(site.supervisor.crew)
        return response

    return changed


# Connections.


async def connections(site: Site, call: Call) -> Response:
    """``GET /api/v1/connections``."""
    query = Query(call, "after", "endpoint", "limit")
    limit = query.limit()
    answers = await site.ask_route(call, ("GET", "/api/v1/connections"))
    pages = documents(answers)
    if pages:
        shown, following = merging.connections(pages, limit)
        whole: Document = {"connections": shown, "next": following}
    else:
        whole = await _own(reading.connections, site, call)
    if answers.late:
        whole["unanswered"] = answers.late
    return as_json(whole)


async def connection(site: Site, call: Call) -> Response:
    """``GET /api/v1/endpoints/{name}/connections/{number}``."""
    Query(call)
    return await _one_connection(site, call, "GET")


async def close(site: Site, call: Call) -> Response:
    """``DELETE /api/v1/endpoints/{name}/connections/{number}``."""
    Query(call, "abort").flag("abort")
    check_body(call)
    return await _one_connection(site, call, "DELETE")


async def _one_connection(site: Site, call: Call, method: str) -> Response:
    number = whole_number(call.parameters["number"], "connection")
    name = call.parameters["name"]
    answers = await site.ask_route(call, (method, _CONNECTION))
    for worker, response in answers.found.items():
        if response.status < 300:
            return as_json({**json.loads(response.body), "worker": worker})
    refused: list[Response] = [each for each in answers.found.values() if each.status != 404]
    if refused:
        return refused[0]
    endpoint_named(site.suite, name)
    if answers.late:
        silent = " and ".join(f"worker {worker}" for worker in answers.late)
        raise Problem(503, f"{silent} did not answer, and may have {name}/{number}; see /readyz")
    raise Problem(404, f"{name}/{number} is not open")
