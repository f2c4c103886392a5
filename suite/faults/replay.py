"""Reading from a log what each connection of an earlier run got, so that another run repeats it.

Rules: only lines that say a decision count (``faults: latency=213ms seed=5``, as text or as JSON, with what a
log collector may have put before them); others can be anything, but a damaged one is an error. A log may be
of several runs: of two decisions for one connection, the later one counts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from suite.config.fault_text import parse
from suite.config.faults import Faults, Recorded
from suite.errors import UsageError
from suite.files import read_file
from suite.text import shown

#: The largest log that is read, in bytes: some five million connections.
MOST: Final = 2**30

#: What the message of a decision begins with.
MESSAGE: Final = "faults: "

#: What stands in place of faults that a connection no longer has, after a change while it was open.
NONE: Final = "none"

#: A line of the text log, see `suite.logs.lines.text_line`: time, level, endpoint#connection, peer, message.
_TEXT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+Z \w+ (?P<endpoint>[A-Za-z0-9_-]{1,64})#(?P<number>\d{1,18})"
    r"(?: (?!closed|refused)\S+)? faults: (?P<said>.*)"
)

Decisions = Mapping[str, Mapping[int, Recorded]]


class _DamagedError(Exception):
    """A line that says a decision, and cannot be understood; its only argument says why."""


def read_log(path: str | os.PathLike[str]) -> Decisions:
    """The decisions in the log at *path*, by endpoint and number of the connection.

    :raises UsageError: it cannot be read, has a damaged line, or no decision at all.
    """
    try:
        content = read_file(path, MOST)
    except OSError as error:
        raise UsageError(
            f"--replay {shown(path)}: cannot be read: {error.strerror}; expected a log of the suite"
        ) from None
    found: dict[str, dict[int, Recorded]] = {}
    for number, line in _lines(content):
        try:
            decision = _decision(line)
        except _DamagedError as error:
            raise UsageError(f"--replay {shown(path)}: line {number} is damaged: {error}") from None
        if decision is not None:
            endpoint, connection, recorded = decision
            found.setdefault(endpoint, {})[connection] = recorded
    if not found:
        raise UsageError(
            f"--replay {shown(path)}: has no decision about a connection; expected lines with `{MESSAGE}…`,"
            " from a suite with faults"
        )
    return found


def replaying(faults: Faults, recorded: Mapping[int, Recorded]) -> Faults:
    """*faults*, replaced by what is *recorded* of each connection by its number."""
    return replace(faults, entries=(), replayed=recorded)


def _lines(content: bytes) -> Iterator[tuple[int, str]]:
    """The lines that may say a decision, with their numbers."""
    marker = MESSAGE.encode()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if marker in line:
            yield number, line.decode("utf-8", "replace").rstrip("\r")


def _decision(line: str) -> tuple[str, int, Recorded] | None:
    """The endpoint, the number and the decision on *line*; None if it says none."""
    text = _TEXT.search(line)
    if text is not None:
        return text["endpoint"], int(text["number"]), _recorded(text["said"])
    begin = line.find('{"')
    if begin < 0:
        return None
    try:
        fields = json.loads(line[begin:])
    except ValueError:
        raise _DamagedError("it is not JSON; expected a whole line") from None
    message = fields.get("message") if isinstance(fields, dict) else None
    if not isinstance(message, str) or not message.startswith(MESSAGE):
        return None
    endpoint, connection = fields.get("endpoint"), fields.get("connection")
    if not isinstance(endpoint, str) or type(connection) is not int:
        return None  # datagrams are decided one by one, by the seed
    return endpoint, connection, _recorded(message.removeprefix(MESSAGE))


def _recorded(said: str) -> Recorded:
    """What *said* records: ``latency=213ms; reset after=64KiB seed=5``."""
    if said == NONE:
        return Recorded((), 0)
    try:
        faults, seed = parse(said)
    except ValueError as error:
        raise _DamagedError(str(error)) from None
    if seed is None:
        raise _DamagedError("it has no seed; expected one at its end")
    return Recorded(faults, seed)
