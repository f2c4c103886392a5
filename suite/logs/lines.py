"""From an event to a line, as text or as JSON.

Rules: text from a peer is escaped and shortened before it is written; a line is one line, whatever is in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from suite.text import one_line

#: The namespace of the suite's own events.
NAMESPACE: Final = "suite"

#: Characters shown of a field, of a message and of a traceback; a longer one is cut in the middle.
FIELD_LENGTH: Final = 200
MESSAGE_LENGTH: Final = 2000
FAILURE_LENGTH: Final = 8000


def cut(text: str, length: int) -> str:
    """*text*, cut in the middle if it is longer than *length* characters."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]} [{len(text) - 2 * half:,} characters cut] {text[-half:]}"


def as_text(value: object, length: int = FIELD_LENGTH) -> str:
    """Any *value* as text that can be encoded in UTF-8."""
    return cut(safe_str(value), length).encode("utf-8", "backslashreplace").decode()


def as_number(value: object) -> int | float | str:
    """*value* as a number that any JSON parser can read (at most 64 bits); otherwise as text."""
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 6)
    return as_text(value)


#: The fields that an event may have besides its message, and how each is converted.
FIELDS: Final[dict[str, Callable[[object], int | float | str]]] = {
    "endpoint": as_text,
    "connection": as_number,
    "peer": as_text,
    "faults": lambda value: as_text(value, MESSAGE_LENGTH),
    "reason": as_text,
    "received": as_number,
    "duration": as_number,
    "open": as_number,
    "accepted": as_number,
    "refused": as_number,
    "suppressed": as_number,
    "worker": as_number,
}


def message_of(event: LogEvent) -> str:
    """The message of *event*, without a traceback."""
    # `twisted.python.log.err` makes the traceback part of the message.
    if "log_failure" not in event and isinstance(event.get("failure"), Failure):
        return as_text(event.get("why") or "Unhandled Error", MESSAGE_LENGTH)
    return as_text(formatEvent(event), MESSAGE_LENGTH)


def fields_of(event: LogEvent) -> dict[str, Any]:
    """The fields of *event* as plain values, in the order in which they are shown."""
    when = datetime.fromtimestamp(event["log_time"], UTC)
    fields: dict[str, Any] = {
        "time": when.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z",
        "level": event["log_level"].name,
    }
    namespace = as_text(event["log_namespace"])
    if namespace.partition(".")[0] != NAMESPACE:
        fields["namespace"] = namespace
    for name, convert in FIELDS.items():
        value = event.get(name)
        if value is not None:
            fields[name] = convert(value)
    fields["message"] = message_of(event)
    failure = event.get("log_failure", event.get("failure"))
    if isinstance(failure, Failure):
        fields["failure"] = as_text(failure.getTraceback().rstrip("\n"), FAILURE_LENGTH)
    return fields


def json_line(event: LogEvent) -> str:
    """*event* as a JSON object (RFC 8259) on one line of printable ASCII."""
    return json.dumps(fields_of(event))


def text_line(event: LogEvent) -> str:
    """*event* as one line for people, followed by indented lines for a traceback.

    Fields that the message already contains are not repeated.
    """
    fields = fields_of(event)
    template = str(event.get("log_format"))
    for name in FIELDS:
        if any("{" + name + after in template for after in "}!:"):
            fields.pop(name, None)
    words = [fields["time"], fields["level"]]
    if "endpoint" in fields or "connection" in fields:
        number = f"#{fields['connection']}" if "connection" in fields else ""
        words.append(f"{fields.get('endpoint', '')}{number}")
    if "peer" in fields:
        words.append(fields["peer"])
    if "namespace" in fields:
        words.append(f"[{fields['namespace']}]")
    words.append(fields["message"])
    details = [fields["reason"]] if "reason" in fields else []
    if "received" in fields:
        details.append(with_unit(fields["received"], "byte" if fields["received"] == 1 else "bytes"))
    if "duration" in fields:
        details.append(with_unit(fields["duration"], "s"))
    if details:
        words.append(f"({', '.join(details)})")
    lines = [" ".join(words)]
    if "failure" in fields:
        lines += [f"    {line}" for line in fields["failure"].split("\n")]
    return "\n".join(map(one_line, lines))


def with_unit(value: int | float | str, unit: str) -> str:
    """``1,024 bytes``, ``60.2 s``."""
    if isinstance(value, float):
        return f"{value:,.1f} {unit}"
    return f"{value:,} {unit}" if isinstance(value, int) else f"{value} {unit}"


STYLES: Final[dict[str, Callable[[LogEvent], str]]] = {"text": text_line, "json": json_line}
