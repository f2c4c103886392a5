"""The results of a load as JSON: written by ``--json``, read by ``--compare``.

Rules: the format has a name and a version; a file is checked in full when it is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from suite.client.load.histogram import Histogram
from suite.errors import UsageError
from suite.text import shown

FORMAT: Final = "echo-suite load 1"

PERCENTILES: Final = (50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999)

#: The keys that `read` needs, and the type of each.
KEYS: Final[dict[str, type | tuple[type, ...]]] = {
    "target": str,
    "options": dict,
    "started": str,
    "seconds": (int, float),
    "interrupted": bool,
    "connections": int,
    "messages": int,
    "rate": (int, float),
    "errors": dict,
    "examples": dict,
    "lost": int,
    "late": int,
    "latency": dict,
    "client": dict,
}


def to_json(result: Result) -> str:
    """*result*, as one JSON object on several lines; docs/load.md describes the keys."""
    latency = result.latency
    values = latency.percentiles(PERCENTILES)
    return json.dumps(
        {
            "format": FORMAT,
            "target": result.target,
            "options": dict(result.options),
            "started": result.started,
            "seconds": round(result.seconds, 6),
            "interrupted": result.interrupted,
            "connections": result.connections,
            "messages": result.messages,
            "bytes": result.bytes,
            "rate": round(result.rate, 3),
            "throughput": round(result.throughput, 3),
            "errors": dict(result.errors),
            "examples": dict(result.examples),
            "lost": result.lost,
            "late": result.late,
            "latency": {
                "unit": "us",
                "min": latency.least,
                "mean": round(latency.mean, 3),
                "deviation": round(latency.deviation, 3),
                "max": latency.greatest,
                "percentiles": {f"{p:g}": value for p, value in zip(PERCENTILES, values, strict=True)},
                "histogram": latency.encode(),
            },
            "client": {"busy": round(result.busy, 4), "lag": result.lag},
        },
        indent=2,
        ensure_ascii=False,
    )


def read(file: Path) -> Result:
    """The result in *file*.

    :raises UsageError: the file cannot be read, or is not a result.
    """
    try:
        return _from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--compare {shown(file)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"--compare {shown(file)}: {error}; expected what `load --json` has printed"
        ) from None


def _from_json(text: str) -> Result:
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f'not a result with "format": "{FORMAT}"')
    for key, kind in KEYS.items():
        if not _is(found.get(key), kind):
            raise ValueError(f"{key} {found.get(key)!r} is of the wrong type")
    size = found["options"].get("size")
    if not _is(size, int):
        raise ValueError(f"options.size {size!r} is of the wrong type")
    for key, kind in (("errors", int), ("examples", str)):
        if not all(_is(value, kind) for value in found[key].values()):
            raise ValueError(f"{key} {found[key]!r} is of the wrong type")
    busy, lag = found["client"].get("busy"), found["client"].get("lag")
    if not _is(busy, (int, float)) or not (lag is None or _is(lag, int)):
        raise ValueError(f"client {found['client']!r} is of the wrong type")
    encoded = found["latency"].get("histogram")
    if not isinstance(encoded, str):
        raise ValueError(f"latency.histogram {encoded!r} is of the wrong type")
    plain = {key: found[key] for key in KEYS if key not in {"latency", "client"}}
    return Result(**plain, latency=Histogram.decode(encoded), busy=busy, lag=lag)


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


@dataclass(frozen=True)
class Result:
    """The results of a load.

    :ivar target: the target as the user wrote it.
    :ivar options: the parameters; see `Options.shown`.
    :ivar started: when the first message was due, in UTC (RFC 3339).
    :ivar seconds: how long messages were sent.
    :ivar interrupted: whether the load was interrupted.
    :ivar connections: the number of connections opened.
    :ivar messages: the number of messages answered with exactly the bytes that were sent.
    :ivar rate: messages per second that were answered within *seconds*.
    :ivar errors: errors by word; one for each broken connection and each unanswered message.
    :ivar examples: the details of the first error of each word.
    :ivar lost: datagrams that did not come back in time.
    :ivar late: lost datagrams that came back later.
    :ivar latency: the latencies in microseconds.
    :ivar busy: the share of one CPU that the client used.
    :ivar lag: the longest delay in microseconds with which the client sent a message that was due; None in a
        closed loop.
    """

    target: str
    options: Mapping[str, Any]
    started: str
    seconds: float
    interrupted: bool
    connections: int
    messages: int
    rate: float
    errors: Mapping[str, int]
    examples: Mapping[str, str]
    lost: int
    late: int
    latency: Histogram
    busy: float
    lag: int | None

    @property
    def bytes(self) -> int:
        """The size of all answered messages, in bytes; as many were sent as received."""
        size: int = self.options["size"]
        return self.messages * size

    @property
    def throughput(self) -> float:
        """Bytes per second in each direction."""
        size: int = self.options["size"]
        return self.rate * size

    @property
    def ok(self) -> bool:
        """Whether messages were answered, and there were no errors or losses."""
        return bool(self.messages) and not self.errors and not self.lost
