"""What a load has measured, as JSON: written by ``--json``, read by ``--compare``.

Rules: the format has a name and a version; what is read is checked in full, since it may be any file.
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

#: The keys of a result that are read again, and what each has to be.
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
    """*result*, as one JSON object on several lines; docs/load.md says what the keys are."""
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

    :raises UsageError: it cannot be read, or holds something else.
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
        raise ValueError(f'no result with "format": "{FORMAT}"')
    for key, kind in KEYS.items():
        if not _is(found.get(key), kind):
            raise ValueError(f"{key} {found.get(key)!r} is not what it should be")
    size = found["options"].get("size")
    if not _is(size, int):
        raise ValueError(f"options.size {size!r} is not what it should be")
    for key, kind in (("errors", int), ("examples", str)):
        if not all(_is(value, kind) for value in found[key].values()):
            raise ValueError(f"{key} {found[key]!r} is not what it should be")
    busy, lag = found["client"].get("busy"), found["client"].get("lag")
    if not _is(busy, (int, float)) or not (lag is None or _is(lag, int)):
        raise ValueError(f"client {found['client']!r} is not what it should be")
    encoded = found["latency"].get("histogram")
    if not isinstance(encoded, str):
        raise ValueError(f"latency.histogram {encoded!r} is not what it should be")
    plain = {key: found[key] for key in KEYS if key not in {"latency", "client"}}
    return Result(**plain, latency=Histogram.decode(encoded), busy=busy, lag=lag)


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


@dataclass(frozen=True)
class Result:
    """What was measured.

    :ivar target: as the user wrote it.
    :ivar options: see `Options.shown`.
    :ivar started: when the first message was due, in UTC (RFC 3339).
    :ivar seconds: how long messages were sent.
    :ivar interrupted: whether that was cut short.
    :ivar connections: how many were opened.
    :ivar messages: how many were answered, each byte as it was sent.
    :ivar rate: of those, what came back in these seconds, a second.
    :ivar errors: how many there were, by word: of a broken connection one, of an unanswered message one.
    :ivar examples: the first of each, in more words.
    :ivar lost: datagrams that did not come back in time.
    :ivar late: those of them that came back after all.
    :ivar latency: in microseconds.
    :ivar busy: the share of one CPU that this side used.
    :ivar lag: the longest time in microseconds by which this side was late to send what was due; None in
        a closed loop.
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
        """The bytes of all messages answered: sent, and received again."""
        size: int = self.options["size"]
        return self.messages * size

    @property
    def throughput(self) -> float:
        """Bytes a second, in each direction."""
        size: int = self.options["size"]
        return self.rate * size

    @property
    def ok(self) -> bool:
        """Whether something came back, and nothing went wrong."""
        return bool(self.messages) and not self.errors and not self.lost
