"""Events as a `Logger` makes them."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure

from suite.reasons import Reason

#: 2026-11-22T13:14:15.123Z
TIME = 1795353255.123

#: The fields of a connection that has ended.
FULL: dict[str, Any] = {
    "endpoint": "tcp",
    "connection": 17,
    "peer": "127.0.0.1:40312",
    "reason": Reason.STALL,
    "received": 1024,
    "duration": 60.2,
}


def event_of(said: str = "closed", /, level: str = "info", namespace: str = "suite", **more: Any) -> LogEvent:
    """An event as made by a `Logger`."""
    return {
        "log_time": TIME,
        "log_level": LogLevel.lookupByName(level),
        "log_namespace": namespace,
        "log_format": said,
        **more,
    }


def failure_of(said: str) -> Failure:
    """The failure of a bug with the message *said*."""
    try:
        raise ValueError(said)
    except ValueError:
        return Failure()


class Hostile:
    """An object that cannot be converted to text."""

    def __str__(self) -> str:
        raise RuntimeError("\x1b[31m")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        raise RuntimeError("\x1b[31m")

    __hash__ = None  # type: ignore[assignment]
