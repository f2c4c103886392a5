"""What each document of the API looks like, as JSON Schema (2020-12), which OpenAPI 3.1 uses.

Rules: an object has the keys that are named here and no others; all of them, unless the schema says so. Tests
hold every answer to these, and the server holds nothing to them: it costs a request nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from suite.admin.api.asked import LARGEST
from suite.admin.events import LEVELS
from suite.config.faults import Kind
from suite.config.limits import Limits
from suite.logs.lines import FIELDS, as_number
from suite.reasons import Reason

Schema = Mapping[str, Any]

TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "integer"}
FLAG: Final[Schema] = {"type": "boolean"}
SECONDS: Final[Schema] = {"type": "number", "minimum": 0, "description": "Seconds."}
INSTANT: Final[Schema] = {"type": "string", "format": "date-time", "description": "In UTC (RFC 3339)."}
#: The name of an endpoint.
NAME: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
LEVEL: Final[Schema] = {"type": "string", "enum": [*LEVELS]}
REASON: Final[Schema] = {"type": "string", "enum": [reason.value for reason in Reason]}


def named(name: str) -> Schema:
    """The schema called *name* in the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def described(schema: Schema, description: str) -> Schema:
    """*schema*, with what it means here."""
    return {**schema, "description": description}


def or_null(schema: Schema) -> Schema:
    """*schema*, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"oneOf": [schema, {"type": "null"}]}


def array(items: Schema, most: int | None = None) -> Schema:
    """An array of *items*, *most* of them at the most."""
    return {"type": "array", "items": items} | ({} if most is None else {"maxItems": most})


def table(**keys: Schema) -> Schema:
    """An object with these *keys*."""
    return {"type": "object", "properties": keys, "required": [*keys], "additionalProperties": False}


def optional(schema: Schema, *names: str) -> Schema:
    """The object *schema*, in which the keys *names* may be missing."""
    return {**schema, "required": [name for name in schema["required"] if name not in names]}


def counts(words: Schema = TEXT) -> Schema:
    """How often, by word."""
    return {"type": "object", "propertyNames": words, "additionalProperties": COUNT}


_LIMIT: Final[Mapping[str, Schema]] = {
    "float | None": or_null(SECONDS),
    "int | None": or_null(COUNT),
    "int": COUNT,
    "bool": FLAG,
}

#: The limits of an endpoint: those that apply to its transport.
_LIMITS: Final[Schema] = optional(
    table(
        **{
            name: _LIMIT.get(str(each.type), array(TEXT))
            for name, each in Limits.__dataclass_fields__.items()
        }
    ),
    *Limits.__dataclass_fields__,
)

_COUNTS: Final[Mapping[str, Schema]] = {
    "connections": table(open=COUNT, accepted=COUNT, ended=counts(REASON), refused=counts(REASON)),
    "bytes": table(received=COUNT, sent=COUNT),
    "datagrams": table(
        received=COUNT,
        answered=COUNT,
        bytes_received=COUNT,
        bytes_sent=COUNT,
        unanswered=counts(REASON),
    ),
    "handshakes": table(
        completed=COUNT,
        resumed=COUNT,
        by=array(table(version=TEXT, cipher=TEXT, resumed=FLAG, count=COUNT)),
        failed=counts(),
    ),
    "struck": described(
        counts({"enum": [kind.value for kind in Kind]}), "Connections and datagrams struck, by kind of fault."
    ),
}

_FAULTS: Final[Mapping[str, Schema]] = {
    "seed": COUNT,
    "requested": described(FLAG, "Clients choose their faults themselves."),
    "replayed": described(FLAG, "Those of an earlier run count, and these do not."),
    "faults": array(table(id=COUNT, fault=TEXT)),
}

#: The fields that an event may have; see docs/logs.md.
_EVENT_FIELDS: Final[Mapping[str, Schema]] = {
    "namespace": TEXT,
    **{name: {"type": "number"} if convert is as_number else TEXT for name, convert in FIELDS.items()},
    "failure": described(TEXT, "A traceback."),
}

#: The suite; of one process alone, there are no workers.
_STATUS: Final = table(
    version=TEXT,
    pid=COUNT,
    started=INSTANT,
    uptime=SECONDS,
    state={"type": "string", "enum": ["starting", "serving", "draining"]},
    ready=FLAG,
    reasons=described(array(TEXT), "Why it is not ready."),
    config=described(TEXT, "The path of the configuration."),
    endpoints=COUNT,
    leaving=described(COUNT, "Endpoints that no longer listen and still have connections."),
    paused=array(NAME),
    not_served=described(
        array(table(endpoint=NAME, problem=TEXT)), "Optional endpoints that could not be opened."
    ),
    **_COUNTS,
    reloads=table(good=COUNT, bad=COUNT, last=or_null(INSTANT), problem=or_null(TEXT)),
    descriptors=table(open=or_null(COUNT), limit=or_null(COUNT)),
    reactor=table(
        name=TEXT,
        timers=or_null(COUNT),
        lag=described(
            or_null(table(p50=SECONDS, p99=SECONDS, max=SECONDS)),
            "How late timers came in the last minute: half, all but one in a hundred, and all.",
        ),
    ),
    log=table(suppressed=or_null(COUNT), lost=or_null(COUNT)),
    certificates=described(
        array(table(endpoint=NAME, subject=TEXT, not_after=INSTANT, days=NUMBER), 100),
        "Those that end first; not those of the gallery.",
    ),
    workers=array(
        table(
            number=COUNT,
            pid=COUNT,
            state={"type": "string", "enum": ["starting", "serving", "silent", "ending", "gone"]},
            restarts=described(COUNT, "How often another process has taken its place."),
            since=described(INSTANT, "When its process was started."),
            open=described(or_null(COUNT), "Open connections; null: it does not serve."),
        )
    ),
)

#: A connection; of one process alone, there are no workers.
_CONNECTION: Final = table(
    id=described(TEXT, "As in the log: the endpoint's name, and a number."),
    endpoint=NAME,
    number=COUNT,
    peer=TEXT,
    state={"type": "string", "enum": ["header", "handshake", "answering", "ending"]},
    received=described(COUNT, "Bytes."),
    owed=described(COUNT, "Bytes that the peer has not taken yet."),
    age=SECONDS,
    quiet=described(SECONDS, "Seconds since it last made progress."),
    tls=or_null(named("Agreement")),
    faults=described(TEXT, "The declared faults that strike it."),
    worker=described(COUNT, "The number of the worker that has it."),
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Problem": {
        "type": "object",
        "description": "What is wrong, what was expected, and the way out (RFC 9457).",
        "properties": {
            "type": {"type": "string", "const": "about:blank"},
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": described(TEXT, "One line, for people."),
            "errors": described(array(TEXT), "The lines of the log, where a reload has failed."),
        },
        "required": ["type", "title", "status", "detail"],
        "additionalProperties": False,
    },
    "Status": optional(_STATUS, "workers"),
    "Endpoint": table(
        name=NAME,
        transport=TEXT,
        listen=described(TEXT, "As in the configuration."),
        addresses=array(TEXT),
        answer=TEXT,
        state={"type": "string", "enum": ["serving", "paused", "leaving"]},
        proxied=described(FLAG, "Connections begin with a PROXY header."),
        gallery=or_null(TEXT),
        limits=described(_LIMITS, "Those that apply. Durations are in seconds; null: there is no limit."),
        certificate=or_null(named("Certificate")),
        faults=named("Faults"),
        **{"try": or_null(described(TEXT, "A command line that reaches it."))},
        **_COUNTS,
    ),
    "Endpoints": table(
        endpoints=array(named("Endpoint")),
        next=described(or_null(TEXT), "The page that follows begins after this; null: there is none."),
    ),
    "Certificate": table(subject=TEXT, names=array(TEXT), not_before=INSTANT, not_after=INSTANT, days=NUMBER),
    "Connection": optional(_CONNECTION, "worker"),
    "Agreement": table(
        version=TEXT,
        cipher=TEXT,
        resumed=FLAG,
        server_name=or_null(TEXT),
        alpn=or_null(TEXT),
        client_certificate=or_null(TEXT),
    ),
    "Connections": optional(
        table(
            connections=array(named("Connection")),
            next=described(or_null(TEXT), "The page that follows begins after this; null: there is none."),
            unanswered=described(
                array(COUNT), "Workers that do not answer, whose connections are not in the list."
            ),
        ),
        "unanswered",
    ),
    "Faults": table(**_FAULTS),
    "AddedFaults": table(ids=array(COUNT), **_FAULTS),
    "AllFaults": table(
        endpoints={"type": "object", "propertyNames": NAME, "additionalProperties": named("Faults")}
    ),
    "NewFaults": {
        **optional(
            table(
                faults={
                    **array({"type": ["string", "object"]}, 100),
                    "minItems": 1,
                    "description": "As on the command line, or as in the configuration: see docs/faults.md.",
                },
                seed={"type": "integer", "minimum": 0, "maximum": LARGEST},
            ),
            "seed",
        ),
        "example": {"faults": ["latency=200ms"], "seed": 1},
    },
    "Gallery": {"type": "object", "description": "The manifest of the gallery: see docs/gallery.md."},
    "Event": optional(
        table(
            id=COUNT,
            time=INSTANT,
            level=LEVEL,
            message=TEXT,
            **_EVENT_FIELDS,
        ),
        *_EVENT_FIELDS,
    ),
    "Events": table(
        events=array(named("Event")),
        next=described(COUNT, "What follows is behind this id."),
        missed={
            "type": ["integer", "null"],
            "enum": [0, None],
            "description": "Null: some events behind the id that was asked for are no longer kept.",
        },
    ),
    "Reloaded": table(reloaded=described(TEXT, "A summary of the changes.")),
    "Draining": table(state={"type": "string", "const": "draining"}),
}
