"""The result of a load as JSON: written by ``--json``, read by ``--compare``.

Rules: the format has a name and a version; a file is checked in full when it is read; what was not measured
is null.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from suite.client.histogram import Histogram
from suite.client.load.results import PERCENTILES, AddressResult, Result
from suite.client.load.series import COLUMNS, Row
from suite.errors import UsageError
from suite.text import shown

FORMAT: Final = "echo-suite load 2"

_Kind = tuple[type, ...]

_NONE: Final = type(None)
_COUNT: Final[_Kind] = (int,)
_MAYBE_COUNT: Final[_Kind] = (int, _NONE)
_MAYBE_NUMBER: Final[_Kind] = (int, float, _NONE)

#: The keys that `read` needs, and the types of each.
KEYS: Final[dict[str, _Kind]] = {
    "target": (str,),
    "options": (dict,),
    "started": (str, _NONE),
    "seconds": _MAYBE_NUMBER,
    "interrupted": (bool,),
    "connections": _COUNT,
    "due": _MAYBE_COUNT,
    "messages": _COUNT,
    "unanswered": _MAYBE_COUNT,
    "oldest": _MAYBE_NUMBER,
    "rate": _MAYBE_NUMBER,
    "dead_after": _MAYBE_NUMBER,
    "errors": (dict,),
    "examples": (dict,),
    "lost": _COUNT,
    "late": _COUNT,
    "latency": (dict,),
    "client": (dict,),
    "addresses": (list,),
    "over_time": (dict,),
}

_ADDRESS_KEYS: Final[dict[str, _Kind]] = {
    "address": (str,),
    "used": (bool,),
    "connections": _COUNT,
    "messages": _COUNT,
    "rate": _MAYBE_NUMBER,
    "errors": (dict,),
    "lost": _COUNT,
    "p50": _MAYBE_COUNT,
    "p99": _MAYBE_COUNT,
    "max": _MAYBE_COUNT,
}

_ROW_KINDS: Final[tuple[_Kind, ...]] = (
    (int, float),
    (int, float),
    _COUNT,
    _COUNT,
    _MAYBE_COUNT,
    _MAYBE_COUNT,
    _MAYBE_COUNT,
)


def to_json(result: Result) -> str:
    """*result*, as one JSON object on several lines; docs/load.md describes the keys."""
    document = {
        "format": FORMAT,
        "target": result.target,
        "options": dict(result.options),
        "started": result.started,
        "seconds": _rounded(result.seconds, 6),
        "interrupted": result.interrupted,
        "connections": result.connections,
        "due": result.due,
        "messages": result.messages,
        "unanswered": result.unanswered,
        "oldest": _rounded(result.oldest, 3),
        "bytes": result.bytes,
        "rate": _rounded(result.rate, 3),
        "throughput": _rounded(result.throughput, 3),
        "dead_after": _rounded(result.dead_after, 3),
        "errors": dict(result.errors),
        "examples": dict(result.examples),
        "lost": result.lost,
        "late": result.late,
        "latency": _latency(result.latency),
        "client": {"busy": _rounded(result.busy, 4), "lag": result.lag, "stalled": result.stalled},
        "addresses": [asdict(address) for address in result.addresses],
    }
    rows = ",\n".join(f"      {json.dumps(row.values)}" for row in result.over_time)
    over_time = f'{{\n    "columns": {json.dumps(COLUMNS)},\n    "rows": [\n{rows}\n    ]\n  }}'
    whole = json.dumps(document, indent=2, ensure_ascii=False)
    return f'{whole.removesuffix("}").rstrip()},\n  "over_time": {over_time}\n}}'


def _latency(latency: Histogram) -> dict[str, Any]:
    any_ = latency.total > 0
    values = latency.percentiles(PERCENTILES) if any_ else [None] * len(PERCENTILES)
    return {
        "unit": "us",
        "min": latency.least if any_ else None,
        "mean": round(latency.mean, 3) if any_ else None,
        "deviation": round(latency.deviation, 3) if any_ else None,
        "max": latency.greatest if any_ else None,
        "percentiles": {f"{p:g}": value for p, value in zip(PERCENTILES, values, strict=True)},
        "histogram": latency.encode(),
    }


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)


def read(file: Path) -> Result:
    """The result in *file*.

    :raises UsageError: the file cannot be read, or is not a result.
    """
    try:
        return _from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--compare {shown(file)}: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise UsageError(
            f"--compare {shown(file)}: not JSON; expected what `load --json` has printed"
        ) from None
    except ValueError as error:
        raise UsageError(
            f"--compare {shown(file)}: {error}; expected what `load --json` has printed"
        ) from None


def _from_json(text: str) -> Result:
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f'not a result with "format": "{FORMAT}"')
    _check("", found, KEYS)
    _check("options.", found["options"], {"size": _COUNT})
    for key, kind in (("errors", _COUNT), ("examples", (str,))):
        _check_values(key, found[key], kind)
    client = found["client"]
    _check("client.", client, {"busy": _MAYBE_NUMBER, "lag": _MAYBE_COUNT, "stalled": _MAYBE_COUNT})
    _check("latency.", found["latency"], {"histogram": (str,)})
    latency = Histogram.decode(found["latency"]["histogram"])
    if latency.total != found["messages"]:
        raise ValueError(f"messages {found['messages']!r} is not the number of latencies, {latency.total}")
    nested = ("latency", "client", "addresses", "over_time")
    return Result(
        **{key: found[key] for key in KEYS if key not in nested},
        latency=latency,
        busy=client["busy"],
        lag=client["lag"],
        stalled=client["stalled"],
        addresses=[_address(each) for each in found["addresses"]],
        over_time=_rows(found["over_time"]),
    )


def _address(found: Any) -> AddressResult:
    if not isinstance(found, dict):
        raise ValueError(f"addresses {found!r} is of the wrong type")
    _check("addresses.", found, _ADDRESS_KEYS)
    _check_values("addresses.errors", found["errors"], _COUNT)
    return AddressResult(**{field.name: found[field.name] for field in fields(AddressResult)})


def _rows(found: dict[str, Any]) -> list[Row]:
    if found.get("columns") != list(COLUMNS):
        raise ValueError(f"over_time.columns {found.get('columns')!r} are not {', '.join(COLUMNS)}")
    rows = found.get("rows")
    if not isinstance(rows, list):
        raise ValueError(f"over_time.rows {rows!r} is of the wrong type")
    for row in rows:
        if not isinstance(row, list) or len(row) != len(COLUMNS):
            raise ValueError(f"over_time.rows {row!r} is of the wrong type")
        if not all(_is(value, kind) for value, kind in zip(row, _ROW_KINDS, strict=True)):
            raise ValueError(f"over_time.rows {row!r} is of the wrong type")
    return [Row(*row) for row in rows]


def _check(where: str, found: dict[str, Any], keys: dict[str, _Kind]) -> None:
    for key, kind in keys.items():
        if key not in found:
            raise ValueError(f"{where}{key} is missing")
        if not _is(found[key], kind):
            raise ValueError(f"{where}{key} {found[key]!r} is of the wrong type")


def _check_values(key: str, found: dict[str, Any], kind: _Kind) -> None:
    if not all(_is(value, kind) for value in found.values()):
        raise ValueError(f"{key} {found!r} is of the wrong type")


def _is(value: Any, kind: _Kind) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, kind) and (bool in kind or not isinstance(value, bool))
