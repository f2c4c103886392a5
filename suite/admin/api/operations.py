"""What each path of the interface takes and answers, for people and for programs.

The paths of the page, which are for browsers, are not described.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from suite.admin.api.asked import FEW, LARGEST, MOST
from suite.admin.api.schemas import FLAG, LEVEL, NAME, REASON, Schema, described, named
from suite.admin.api.watching import STREAM

JSON: Final = "application/json"
PLAIN: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Operation:
    """What can be done with one method at one path.

    :ivar summary: what it does, in one sentence.
    :ivar answer: the schema of a good answer; None: it is text.
    :ivar kind: its media type.
    :ivar status: its status.
    :ivar query: what the query may have.
    :ivar body: the schema of the body; None: there is none.
    :ivar problems: what else may happen than what always may, by status.
    """

    summary: str
    answer: Schema | None
    kind: str = JSON
    status: int = 200
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    problems: Mapping[int, str] = field(default_factory=dict)


_LIMIT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MOST, "default": FEW}
_WORD: Final[Schema] = {"type": "string", "minLength": 1}
_AFTER: Final = described(_WORD, "`next` of the page before.")
_EVENTS: Final[Mapping[str, Schema]] = {
    "level": described({**LEVEL, "default": "info"}, "Events at this level or above."),
    "endpoint": described(NAME, "Events of this endpoint."),
    "reason": described(REASON, "Events with this reason."),
}
_ID: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": LARGEST, "description": "An id."}
_NO_ENDPOINT: Final = "There is no such endpoint."
_SILENT: Final = "A worker does not answer, and may have it."
_NONE: Final = {404: _NO_ENDPOINT}
_GONE: Final = {404: _NO_ENDPOINT, 409: "It no longer listens, or its faults are those of an earlier run."}
_ELSEWHERE: Final = {501: "Another program runs this suite, and alone reloads and ends it."}

_HEALTH: Final[Mapping[str, Operation]] = {
    "/healthz": Operation("Whether the reactor turns.", None, kind=PLAIN),
    "/readyz": Operation(
        "Whether every endpoint listens and accepts.",
        None,
        kind=PLAIN,
        problems={503: "It is not ready; the reasons, one a line."},
    ),
    "/startupz": Operation(
        "Whether everything has been opened once.", None, kind=PLAIN, problems={503: "It has not."}
    ),
}

_ENDPOINT: Final = "/api/v1/endpoints/{name}"

#: By method and path.
OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/api/v1/status"): Operation("The suite as a whole.", named("Status")),
    ("GET", "/api/v1/endpoints"): Operation(
        "The endpoints, in the order of their names, in pages.",
        named("Endpoints"),
        query={
            "after": _AFTER,
            "limit": _LIMIT,
            "name": described(_WORD, "Only endpoints in whose names this is."),
        },
    ),
    ("GET", _ENDPOINT): Operation("One endpoint.", named("Endpoint"), problems=_NONE),
    ("POST", f"{_ENDPOINT}/pause"): Operation(
        "Accept nothing more there for now; open connections go on.",
        named("Endpoint"),
        problems={404: _NO_ENDPOINT, 409: "It no longer listens, or cannot be paused."},
    ),
    ("POST", f"{_ENDPOINT}/resume"): Operation(
        "Accept again; connections that have waited come first.",
        named("Endpoint"),
        problems={404: _NO_ENDPOINT, 409: "It no longer listens."},
    ),
    ("GET", "/api/v1/connections"): Operation(
        "The open connections, by endpoint and number, in pages.",
        named("Connections"),
        query={
            "endpoint": described(NAME, "Those of this endpoint."),
            "after": described(
                {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}/[0-9]{1,18}$"},
                "`next` of the page before.",
            ),
            "limit": _LIMIT,
        },
        problems=_NONE,
    ),
    ("GET", f"{_ENDPOINT}/connections/{{number}}"): Operation(
        "One connection.", named("Connection"), problems={404: "It is not open.", 503: _SILENT}
    ),
    ("DELETE", f"{_ENDPOINT}/connections/{{number}}"): Operation(
        "Close a connection: what is unsent is sent first.",
        named("Connection"),
        query={"abort": described({**FLAG, "default": False}, "Reset it at once.")},
        problems={404: "It is not open.", 503: _SILENT},
    ),
    ("GET", "/api/v1/faults"): Operation("The endpoints that have faults.", named("AllFaults")),
    ("DELETE", "/api/v1/faults"): Operation(
        "Remove all faults of all endpoints.",
        named("AllFaults"),
        problems={409: "The faults are those of an earlier run."},
    ),
    ("GET", f"{_ENDPOINT}/faults"): Operation("The faults of one endpoint.", named("Faults"), problems=_NONE),
    ("POST", f"{_ENDPOINT}/faults"): Operation(
        "Add faults, all of them or none.",
        named("AddedFaults"),
        status=201,
        body=named("NewFaults"),
        problems=_GONE,
    ),
    ("DELETE", f"{_ENDPOINT}/faults"): Operation(
        "Remove all faults of one endpoint.", named("Faults"), problems=_GONE
    ),
    ("DELETE", f"{_ENDPOINT}/faults/{{id}}"): Operation(
        "Remove one fault.",
        named("Faults"),
        problems={**_GONE, 404: "There is no such endpoint, or fault."},
    ),
    ("GET", "/api/v1/gallery"): Operation(
        "The manifest of the gallery of bad TLS.", named("Gallery"), problems={404: "There is no gallery."}
    ),
    ("GET", "/api/v1/events"): Operation(
        "The events to come, as server-sent events; behind the id in `Last-Event-ID`, or else `after`.",
        None,
        kind=STREAM,
        query={**_EVENTS, "after": _ID},
        problems={404: _NO_ENDPOINT, 503: "There are too many streams already."},
    ),
    ("GET", "/api/v1/events/recent"): Operation(
        "The last events, or the first ones behind an id.",
        named("Events"),
        query={
            **_EVENTS,
            "after": _ID,
            "limit": _LIMIT,
        },
        problems=_NONE,
    ),
    ("POST", "/api/v1/reload"): Operation(
        "Read the configuration again, and serve it: completely, or not at all.",
        named("Reloaded"),
        problems={409: "It cannot be served; nothing has changed.", **_ELSEWHERE},
    ),
    ("POST", "/api/v1/drain"): Operation(
        "Let echoes in progress finish, and end the suite, as SIGTERM does.",
        named("Draining"),
        status=202,
        problems=_ELSEWHERE,
    ),
    ("GET", "/api/v1/openapi.json"): Operation("This document.", {"type": "object"}),
    **{(method, path): operation for path, operation in _HEALTH.items() for method in ("GET", "OPTIONS")},
    ("GET", "/metrics"): Operation(
        "What has been counted, for Prometheus.",
        None,
        kind="text/plain; version=0.0.4; charset=utf-8",
        query={
            "by": described(
                {"type": "string", "enum": ["worker"]}, "With a label `worker`, if there are several."
            )
        },
    ),
}

#: What stands for the names in paths.
PARTS: Final[Mapping[str, Schema]] = {
    "name": {**NAME, "example": "tcp"},
    "number": {"type": "integer", "minimum": 1, "maximum": LARGEST, "example": 1},
    "id": {"type": "integer", "minimum": 1, "maximum": LARGEST, "example": 1},
}
