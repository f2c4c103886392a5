"""The paths of the admin interface, and what answers each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from suite.admin.api.routes import API
from suite.admin.exchange import Problem
from suite.admin.health import HEALTH
from suite.admin.metrics.routes import METRICS
from suite.admin.page.page import ROUTES as PAGE
from suite.admin.route import Route

#: Each room of the interface has a tuple of its own; no two routes have the same method and path.
ROUTES: Final[tuple[Route, ...]] = (*PAGE, *API, *HEALTH, *METRICS)


def matching(routes: Iterable[Route], path: str) -> Iterator[tuple[Route, Mapping[str, str]]]:
    """Those of *routes* at *path*, whatever their methods, each with what stands for the names in it."""
    for route in routes:
        found = route.pattern.fullmatch(path)
        if found is not None:
            yield route, found.groupdict()


def find(routes: Iterable[Route], method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    """The one of *routes* that has *method* and *path*, and what stands for the names in it.

    :raises Problem: there is none.
    """
    found = [*matching(routes, path)]
    if not found:
        raise Problem(404, f"{path!r} is not here; see / or /api/v1/openapi.json")
    wanted = "GET" if method == "HEAD" else method
    for route, parameters in found:
        if route.method == wanted:
            return route, parameters
    methods = sorted(
        {route.method for route, _ in found}
        | ({"HEAD"} if any(r.method == "GET" for r, _ in found) else set())
    )
    raise Problem(
        405, f"{method} is not for {path}; expected {' or '.join(methods)}", {"Allow": ", ".join(methods)}
    )
