"""What answers requests that only read.

Rules: a long list is made in turns, so that no echo waits for it, and sent in pages, in the order of names
and numbers; a page begins behind what the page before ended with, whatever has come or gone meanwhile.
"""

from __future__ import annotations

import re
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from suite.admin.api.asked import Query, charged, endpoint_named, whole_number
from suite.admin.api.documents import Document, connection_document, endpoint_document, faults_document
from suite.admin.api.status import status_document
from suite.admin.exchange import Call, Problem, Response, as_json, as_json_in_turns
from suite.admin.route import Site
from suite.guard.streams import Guarded
from suite.server.counts import SOME
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns
from suite.server.service import EchoSuite

#: The id of a connection.
_ID: Final = re.compile(r"([A-Za-z0-9_-]{1,64})/([0-9]{1,18})")


async def status(site: Site, call: Call) -> Response:
    """``GET /api/v1/status``."""
    Query(call)
    async with charged(site) as turns:
        return as_json(await status_document(site, turns))


# Endpoints.


async def endpoints(site: Site, call: Call) -> Response:
    """``GET /api/v1/endpoints``."""
    query = Query(call, "after", "limit", "name")
    limit, after, part = query.limit(), query.text("after") or "", query.text("name") or ""
    suite = site.suite
    rest = sorted(
        (
            (endpoint.description.endpoint.name, endpoint)
            for endpoint in suite.every_endpoint
            if endpoint.description.endpoint.name > after and part in endpoint.description.endpoint.name
        ),
        key=itemgetter(0),
    )
    page, further = _page(rest, limit)
    shown: list[Document] = []
    async with charged(site) as turns:
        async for _, endpoint in turns.between(page):
            shown.append(await endpoint_document(suite, site.faults, endpoint, turns))
        return await as_json_in_turns({"endpoints": shown, "next": page[-1][0] if further else None}, turns)


def _page(rest: list[tuple[Any, Any]], limit: int) -> tuple[list[tuple[Any, Any]], bool]:
    """The first *limit* of *rest*, with all that have the key of the last one; and whether there are more.

    Those that are about to leave may have the name of one that has come.
    """
    end = min(limit, len(rest))
    while 0 < end < len(rest) and rest[end][0] == rest[end - 1][0]:
        end += 1
    return rest[:end], end < len(rest)


async def endpoint(site: Site, call: Call) -> Response:
    """``GET /api/v1/endpoints/{name}``."""
    Query(call)
    found = endpoint_named(site.suite, call.parameters["name"])
    async with charged(site) as turns:
        return as_json(await endpoint_document(site.suite, site.faults, found, turns))


# Faults.


async def endpoint_faults(site: Site, call: Call) -> Response:
    """``GET /api/v1/endpoints/{name}/faults``."""
    Query(call)
    return as_json(faults_document(site.faults, endpoint_named(site.suite, call.parameters["name"])))


async def faults(site: Site, call: Call) -> Response:
    """``GET /api/v1/faults``."""
    Query(call)
    async with charged(site) as turns:
        return await all_faults(site, turns)


async def all_faults(site: Site, turns: Turns) -> Response:
    """The faults of all endpoints that have some."""
    shown = {}
    async for name, each in turns.between([*site.suite.endpoints.items()]):
        if each.decider.faults:
            shown[name] = faults_document(site.faults, each)
    return await as_json_in_turns({"endpoints": shown}, turns)


# Connections.


async def connections(site: Site, call: Call) -> Response:
    """``GET /api/v1/connections``."""
    query = Query(call, "after", "endpoint", "limit")
    limit, name = query.limit(), query.text("endpoint")
    after = _connection_id(query.text("after"))
    if name is not None:
        endpoint_named(site.suite, name)  # to say that there is none
    async with charged(site) as turns:
        shown, last = await _connections(site.suite, turns, name, after, limit)
        return await as_json_in_turns({"connections": shown, "next": last}, turns)


async def _connections(
    suite: EchoSuite, turns: Turns, name: str | None, after: tuple[str, int], limit: int
) -> tuple[list[Document], str | None]:
    """*limit* open connections behind the id *after*, and the last id if there may be more.

    :param name: of this endpoint; None: of all.
    """
    chosen = sorted(
        (
            (found, each)
            for each in suite.every_endpoint
            if (found := each.description.endpoint.name) >= after[0] and name in (None, found)
        ),
        key=itemgetter(0),
    )
    shown: list[Document] = []
    last = ""
    async for _, same_name in turns.between(groupby(chosen, key=itemgetter(0))):
        behind = await _open_after(after, [each for _, each in same_name], turns)
        page, further = _page(behind, limit - len(shown))
        async for key, (each, connection) in turns.between(page):
            if connection in each.guard.open:  # still
                shown.append(connection_document(each, connection))
            last = f"{key[0]}/{key[1]}"
        if further or len(shown) >= limit:
            return shown, last
    return shown, None


async def _open_after(
    after: tuple[str, int], endpoints: list[RunningEndpoint], turns: Turns
) -> list[tuple[tuple[str, int], tuple[RunningEndpoint, Guarded]]]:
    """The open connections of *endpoints*, which have one name, behind the one with the id *after*."""
    found: list[tuple[tuple[str, int], tuple[RunningEndpoint, Guarded]]] = []
    for each in endpoints:
        name = each.description.endpoint.name
        connections = [*each.guard.open] if each.guard is not None else []
        async for first in turns.between(range(0, len(connections), SOME)):
            found += [
                (key, (each, connection))
                for connection in connections[first : first + SOME]
                if (key := (name, connection.number)) > after
            ]
    return found if len(endpoints) == 1 else sorted(found, key=itemgetter(0))


def _connection_id(text: str | None) -> tuple[str, int]:
    """The name and the number in the id of a connection; before all of them if it is None.

    :raises Problem: it is no such id.
    """
    if text is None:
        return "", 0
    found = _ID.fullmatch(text)
    if found is None:
        raise Problem(400, f"the query: after={text!r} cannot be used; expected an id such as tcp/17")
    return found[1], int(found[2])


async def connection(site: Site, call: Call) -> Response:
    """``GET /api/v1/endpoints/{name}/connections/{number}``."""
    Query(call)
    return as_json(connection_document(*connection_named(site.suite, call)))


def connection_named(suite: EchoSuite, call: Call) -> tuple[RunningEndpoint, Guarded]:
    """The open connection that the path of *call* names, and its endpoint.

    :raises Problem: there is none.
    """
    name = call.parameters["name"]
    number = whole_number(call.parameters["number"], "connection")
    found = endpoint_named(suite, name)
    same_name = [each for each in suite.every_endpoint if each.description.endpoint.name == name]
    for each in dict.fromkeys([found, *same_name]):
        if each.guard is not None and (connection := each.guard.find(number)) is not None:
            return each, connection
    raise Problem(404, f"{name}/{number} is not open")


# The gallery.


async def gallery(site: Site, call: Call) -> Response:
    """``GET /api/v1/gallery``."""
    Query(call)
    found, ports = site.suite.exhibition()
    if found is None:
        raise Problem(404, "there is no gallery; expected [gallery] in the configuration")
    return as_json(found.manifest(ports))
