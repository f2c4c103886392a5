"""Is it well? Plain text for probes of Kubernetes, HAProxy, systemd and people.

Rules: whoever can connect may ask, under any name, in HTTP/1.0, too; an answer is ``ok``, or 503 with the
reasons, one a line. ``/healthz``: the reactor turns, or nobody would answer. ``/readyz``: every endpoint
listens, none is paused, and the suite does not end. ``/startupz``: everything has been opened once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from suite.admin.exchange import Call, Response
from suite.admin.route import Route, Site
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns
from suite.server.service import EchoSuite

#: Reasons that are told; for more, there is a line that says how many more there are.
MOST_REASONS: Final = 20


def state_of(suite: EchoSuite) -> str:
    """What *suite* is doing: ``starting``, ``serving`` or ``draining``."""
    if suite.draining:
        return "draining"
    return "serving" if suite.opened.called else "starting"


def leaving(suite: EchoSuite) -> int:
    """How many endpoints of *suite* no longer listen, and may still have connections."""
    return len(suite.every_endpoint) - len(suite.endpoints)


async def reasons_against(suite: EchoSuite, turns: Turns) -> list[str]:
    """Why *suite* is not ready, one line each; none if it is.

    An optional endpoint that could not be opened is no reason.
    """
    state = state_of(suite)
    if state != "serving":
        return [state]
    found: list[str] = []
    async for endpoint in turns.between([*suite.endpoints.values()]):
        found += reasons_of(endpoint)
    return [*shortened(found)]


def reasons_of(endpoint: RunningEndpoint) -> Iterator[str]:
    """Why *endpoint* is not ready."""
    name = endpoint.description.endpoint.name
    if endpoint.paused:
        yield f"{name}: paused"
    if not endpoint.listens:
        address = endpoint.description.address
        yield f"{name}: does not listen on {address} any more; a reload opens it again"


def shortened(reasons: list[str]) -> Iterable[str]:
    """*reasons*, no more than are told, and how many more there are."""
    yield from reasons[:MOST_REASONS]
    if len(reasons) > MOST_REASONS:
        yield f"and {len(reasons) - MOST_REASONS:,} more"


def verdict(reasons: Iterable[str]) -> Response:
    """The answer of a suite that is not well for these *reasons*; without any, it is."""
    lines = [*reasons]
    if not lines:
        return Response(200, b"ok\n")
    return Response(503, "".join(f"{line}\n" for line in lines).encode())


async def _healthz(_site: Site, _call: Call) -> Response:
    return verdict([])


async def _readyz(site: Site, _call: Call) -> Response:
    return verdict(await reasons_against(site.suite, Turns(site.suite.reactor)))


async def _startupz(site: Site, _call: Call) -> Response:
    return verdict([] if site.suite.opened.called else ["starting"])


#: HAProxy's ``option httpchk /readyz`` asks with OPTIONS.
HEALTH: Final = tuple(
    Route(method, path, handler, is_open=True)
    for path, handler in (("/healthz", _healthz), ("/readyz", _readyz), ("/startupz", _startupz))
    for method in ("GET", "OPTIONS")
)
