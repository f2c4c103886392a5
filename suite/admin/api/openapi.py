"""The OpenAPI document (3.1), made from the table of routes and from what is known of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from suite import __version__
from suite.admin.api.asked import Query
from suite.admin.api.operations import JSON, OPERATIONS, PARTS, PLAIN, Operation
from suite.admin.api.schemas import SCHEMAS, named
from suite.admin.exchange import Call, Response, as_json
from suite.admin.route import Route, Site

#: What may happen to every request, by status.
_ALWAYS: Final = {
    400: "The request is not understood.",
    413: "The body is too long.",
}
#: What may happen to those that are not for everybody.
_ADMITTED: Final = {
    401: "The token is missing, or another.",
    403: "It is for others: no token is valid here, or a page of another site has asked.",
    421: "The name that was asked for is not served here.",
}

_ABOUT: Final = (
    "What a running suite does, and how it is changed. Over the UNIX socket nothing is asked for; over TCP a"
    " change takes the token in `admin.token_file`, and from another machine everything does but health and"
    " metrics. An unknown name in a query or a body is an error."
)


async def openapi(site: Site, call: Call) -> Response:
    """``GET /api/v1/openapi.json``."""
    Query(call)
    return as_json(document(tuple(site.routes)))


def described_routes(routes: Iterable[Route]) -> Iterator[tuple[Route, Operation]]:
    """Those of *routes* that are described, and how."""
    for route in routes:
        operation = OPERATIONS.get((route.method, route.path))
        if operation is not None:
            yield route, operation


@lru_cache(maxsize=1)  # it is always the same
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """The document about *routes*."""
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in described_routes(routes):
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "The echo suite", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, operation: Operation) -> dict[str, Any]:
    parts = re.findall(r"\{(\w+)\}", route.path)
    parameters = [{"name": name, "in": "path", "required": True, **_parameter(PARTS[name])} for name in parts]
    parameters += [
        {"name": name, "in": "query", "required": False, **_parameter(schema)}
        for name, schema in operation.query.items()
    ]
    described: dict[str, Any] = {
        "operationId": _identity(route),
        "summary": operation.summary,
        "tags": ["health" if route.is_open else "api"],
        "parameters": parameters,
        "responses": _responses(route, operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.body}}}
    if route.changes:
        described["security"] = [{"token": []}]
    return described


def _identity(route: Route) -> str:
    words = re.findall(r"\w+", route.path.removeprefix("/api/v1"))
    return "_".join([route.method.lower(), *words])


def _parameter(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter, whose description and example stand beside its schema."""
    found = dict(schema)
    beside: dict[str, Any] = {key: found.pop(key) for key in ("description", "example") if key in found}
    return {"schema": found, **beside}


def _responses(route: Route, operation: Operation) -> dict[str, Any]:
    good: dict[str, Any] = {
        "schema": operation.answer if operation.answer is not None else {"type": "string"}
    }
    found: dict[str, Any] = {
        str(operation.status): {"description": "As asked.", "content": {operation.kind: good}}
    }
    problems = _ALWAYS | (_ADMITTED if not route.is_open else {}) | dict(operation.problems)
    for status, description in sorted(problems.items()):
        kind, schema = "application/problem+json", named("Problem")
        if operation.kind == PLAIN and status == 503:  # reasons, one a line
            kind, schema = PLAIN, {"type": "string"}
        found[str(status)] = {"description": description, "content": {kind: {"schema": schema}}}
    return found
