"""The paths of the admin interface of a suite with workers: the same, some of them answered otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from suite.admin import routes
from suite.admin.api import changing
from suite.admin.faults import FaultRequests
from suite.admin.route import Handler, Route
from suite.admin.workers import answers
from suite.admin.workers.answers import in_all
from suite.admin.workers.site import Site
from suite.admin.workers.told import Ledger
from suite.server.workers.supervisor import Supervisor

_ENDPOINT: Final = "/api/v1/endpoints/{name}"

#: What answers otherwise.
HANDLERS: Final[Mapping[tuple[str, str], Handler]] = {
    ("GET", "/api/v1/status"): answers.status,
    ("GET", "/api/v1/endpoints"): answers.endpoints,
    ("GET", _ENDPOINT): answers.endpoint,
    ("POST", f"{_ENDPOINT}/pause"): answers.pause,
    ("POST", f"{_ENDPOINT}/resume"): answers.resume,
    ("GET", "/api/v1/connections"): answers.connections,
    ("GET", f"{_ENDPOINT}/connections/{{number}}"): answers.connection,
    ("DELETE", f"{_ENDPOINT}/connections/{{number}}"): answers.close,
    ("DELETE", "/api/v1/faults"): in_all(changing.clear_all_faults),
    ("POST", f"{_ENDPOINT}/faults"): in_all(changing.add_faults),
    ("DELETE", f"{_ENDPOINT}/faults"): in_all(changing.clear_faults),
    ("DELETE", f"{_ENDPOINT}/faults/{{id}}"): in_all(changing.remove_fault),
    ("GET", "/readyz"): answers.readyz,
    ("OPTIONS", "/readyz"): answers.readyz,
    ("GET", "/metrics"): answers.metrics,
}

#: All of them.
ROUTES: Final[tuple[Route, ...]] = tuple(
    replace(route, handler=HANDLERS.get((route.method, route.path), route.handler)) for route in routes.ROUTES
)


def make_site(supervisor: Supervisor, faults: FaultRequests, ledger: Ledger) -> Site:
    """What answers on the admin interface of a suite with workers."""
    return Site(supervisor, faults, ledger, ROUTES)
