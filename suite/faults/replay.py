"""Reading from a log what the faults of an earlier run did, so that another run repeats it.

Rules: only lines that say a decision count (``faults: latency=213ms seed=5``, as text or as JSON, with what a
log collector may have put before them); others can be anything, but a damaged one is an error. For each
connection, the log says what it got. For datagrams it says what was declared, and from which one on
(``faults from datagram 1: loss=0.1 seed=7``): what happens to each follows from that. A log may be of several
runs: of two decisions for one connection, the later one counts; and when the count of datagrams has begun
again, what was said before counts no more.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from suite.config.fault_text import parse, words
from suite.config.faults import Fault, Faults, Recorded, Replay, belongs_together
from suite.errors import UsageError
from suite.files import read_file
from suite.text import shown

#: The largest log that is read, in bytes: some five million connections.
MOST: Final = 2**30

#: What the message of a decision begins with: about a connection, and about datagrams.
MESSAGE: Final = "faults: "
DATAGRAMS: Final = "faults from datagram "

#: What stands in place of faults that a connection no longer has, after a change while it was open.
NONE: Final = "none"

#: A line of the text log, see `suite.logs.lines.text_line`: time, level, endpoint#connection, peer, message.
_TEXT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+Z \w+ (?P<endpoint>[A-Za-z0-9_-]{1,64})"
    r"(?:#(?P<number>\d{1,18})(?: (?!closed|refused)\S+)? faults: (?P<said>.*)| (?P<message>faults from .*))"
)

_FROM: Final = re.compile(rf"{DATAGRAMS}(?P<number>\d{{1,18}}): (?P<said>.*)")

#: What stands between the faults of one profile, which strike together.
TOGETHER: Final = " + "

Decisions = Mapping[str, Replay]


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
    found: dict[str, tuple[dict[int, Recorded], dict[int, Recorded]]] = {}
    for number, line in _lines(content):
        try:
            decision = _decision(line)
        except _DamagedError as error:
            raise UsageError(f"--replay {shown(path)}: line {number} is damaged: {error}") from None
        if decision is not None:
            endpoint, of_datagrams, first, recorded = decision
            known = found.setdefault(endpoint, ({}, {}))[of_datagrams]
            if of_datagrams:
                for later in [number for number in known if number > first]:
                    del known[later]
            known[first] = recorded
    if not found:
        raise UsageError(
            f"--replay {shown(path)}: has no decision; expected lines with `{MESSAGE}…` or `{DATAGRAMS}…`,"
            " from a suite with faults"
        )
    return {endpoint: Replay(*known) for endpoint, known in found.items()}


def replaying(faults: Faults, recorded: Replay) -> Faults:
    """*faults*, replaced by what is *recorded*."""
    return replace(faults, entries=(), replayed=recorded)


def _lines(content: bytes) -> Iterator[tuple[int, str]]:
    """The lines that may say a decision, with their numbers."""
    markers = MESSAGE.encode(), DATAGRAMS.encode()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if any(marker in line for marker in markers):
            yield number, line.decode("utf-8", "replace").rstrip("\r")


def _decision(line: str) -> tuple[str, bool, int, Recorded] | None:
    """The decision on *line*; None if it says none.

    :returns: the endpoint, whether it is about datagrams, the number of the connection or the first datagram,
        and the decision.
    """
    text = _TEXT.search(line)
    if text is not None and text["number"] is not None:
        return text["endpoint"], False, int(text["number"]), _recorded(text["said"])
    if text is not None:
        return _about_datagrams(text["endpoint"], text["message"])
    begin = line.find('{"')
    if begin < 0:
        return None
    try:
        fields = json.loads(line[begin:])
    except ValueError:
        raise _DamagedError("it is not JSON; expected a whole line") from None
    message = fields.get("message") if isinstance(fields, dict) else None
    if not isinstance(message, str) or not message.startswith((MESSAGE, DATAGRAMS)):
        return None
    endpoint, connection = fields.get("endpoint"), fields.get("connection")
    if not isinstance(endpoint, str):
        return None
    if message.startswith(DATAGRAMS):
        return _about_datagrams(endpoint, message)
    if type(connection) is not int:
        return None
    return endpoint, False, connection, _recorded(message.removeprefix(MESSAGE))


def _about_datagrams(endpoint: str, message: str) -> tuple[str, bool, int, Recorded] | None:
    """What `_decision` returns, from the *message* of `said_of_datagrams`."""
    found = _FROM.fullmatch(message)
    if found is None:
        raise _DamagedError(f"expected `{DATAGRAMS}NUMBER: …`")
    entries: list[Fault] = []
    recorded = _recorded(found["said"].replace(TOGETHER, "; "))
    if recorded.faults:
        left = iter(recorded.faults)
        for place, group in enumerate(found["said"].split("; "), start=1):
            profile = "recorded" if TOGETHER in group else ""
            entries += [replace(next(left), profile=profile, place=place) for _ in group.split(TOGETHER)]
    return endpoint, True, int(found["number"]), recorded._replace(faults=tuple(entries))


def said_of_datagrams(number: int, faults: Faults) -> str:
    """The message that says what *faults* are declared for datagrams from *number* on.

    Those of streams are in it, too: which numbers are drawn for a fault depends on its place among all.
    """
    said = ""
    before: Fault | None = None
    for fault in faults.entries:
        if before is not None:
            said += TOGETHER if belongs_together(before, fault) else "; "
        said += words(fault)
        before = fault
    return f"{DATAGRAMS}{number}: " + (f"{said} seed={faults.seed}" if said else NONE)


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
