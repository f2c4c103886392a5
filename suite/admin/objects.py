"""Reading the JSON of a request: an object, and nothing that two readers could understand differently."""

from __future__ import annotations

import json
from typing import Any

from suite.text import one_line


class NotAnObjectError(ValueError):
    """What should be a JSON object is none; the text says why, and what was expected, in one line."""


def read_object(data: bytes, expected: str) -> dict[str, Any]:
    """The JSON object (RFC 8259) in *data*.

    :param expected: what to say was expected in its place.
    :raises NotAnObjectError: there is none, or a key is in it twice, or a number that is none.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise NotAnObjectError(f"byte {error.start} is not UTF-8; expected a JSON object") from None
    except _TwiceError:
        # RFC 8259, section 4: which of them holds is anybody's guess.
        raise NotAnObjectError("a key is given twice in one object; expected it once") from None
    except (ValueError, RecursionError) as error:
        raise NotAnObjectError(f"not JSON: {one_line(str(error))}; expected {expected}") from None
    if not isinstance(value, dict):
        raise NotAnObjectError(f"{_cut(value)} is not an object; expected {expected}")
    return value


class _TwiceError(Exception):
    """A key is in one object twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
