"""The paths of the admin interface, and what answers each."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from suite.admin.exchange import Call, Problem, Response

#: Answers a request; the result is None if it has been seen to.
Handler = Callable[[Any, Call], Awaitable[Response | None]]


@dataclass(frozen=True)
class Route:
    """A path of the interface.

    :ivar method: ``GET``, which is ``HEAD``, too, ``POST``, or ``DELETE``.
    :ivar path: the path; ``{name}`` stands for a part of it.
    :ivar handler: answers, given the `suite.admin.site.Site` and the `Call`.
    :ivar changes: whether it changes anything, which takes the token or the UNIX socket.
    :ivar is_open: whether anybody may ask for it, by any name: health and metrics.
    """

    method: str
    path: str
    handler: Handler
    changes: bool = False
    is_open: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a path has to match."""
        parts = re.split(r"\{(\w+)\}", self.path)
        text = "".join(
            re.escape(part) if at % 2 == 0 else f"(?P<{part}>[^/]+)" for at, part in enumerate(parts)
        )
        return re.compile(text)


async def _page(_site: Any, _call: Call) -> Response:
    return Response(200, b"the echo suite\n")


#: Each room of the interface has its own; no two have the same method and path.
ROUTES: Final[tuple[Route, ...]] = (Route("GET", "/", _page),)


def matching(path: str) -> Iterator[tuple[Route, Mapping[str, str]]]:
    """The routes of *path*, whatever their methods, each with what stands for the names in it."""
    for route in ROUTES:
        found = route.pattern.fullmatch(path)
        if found is not None:
            yield route, found.groupdict()


def find(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    """The route of *method* and *path*, and what stands for the names in it.

    :raises Problem: there is none.
    """
    routes = [*matching(path)]
    if not routes:
        raise Problem(404, f"{path!r} is not here; see / or /api/v1/openapi.json")
    wanted = "GET" if method == "HEAD" else method
    for route, parameters in routes:
        if route.method == wanted:
            return route, parameters
    methods = sorted(
        {route.method for route, _ in routes}
        | ({"HEAD"} if any(r.method == "GET" for r, _ in routes) else set())
    )
    raise Problem(
        405, f"{method} is not for {path}; expected {' or '.join(methods)}", {"Allow": ", ".join(methods)}
    )
