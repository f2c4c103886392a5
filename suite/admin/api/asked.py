"""What a request asks for: reading its path, its query and its body strictly.

Rules: an unknown name is an error that says which are known, and so is a value of another type; nothing is
guessed, nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from suite.admin.exchange import Call, Problem
from suite.admin.metrics.observed import CountedTurns
from suite.admin.route import Site
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns
from suite.server.service import EchoSuite
from suite.text import near, one_line, suggest

#: Entries of a list in one answer: unless asked otherwise, and at the most.
FEW: Final = 100
MOST: Final = 1000

#: The most endpoints that an error names.
MOST_NAMED: Final = 20

#: The largest number that is read; no count or id gets there.
LARGEST: Final = 2**63 - 1

_NUMBER: Final = re.compile(r"[0-9]{1,19}")


@asynccontextmanager
async def charged(site: Site) -> AsyncIterator[Turns]:
    """Turns for the block, whose work is charged to the interface's share of the reactor's time."""
    turns = CountedTurns(site.suite.reactor)
    try:
        yield turns
    finally:
        site.factory.budget.charge(turns.worked)


class Query:
    """The query of *call*.

    :param known: the names that it may have.
    :raises Problem: it has another.
    """

    def __init__(self, call: Call, *known: str) -> None:
        self._query = call.query
        for name in call.query:
            if name not in known:
                expected = suggest(name, known) if known else "; expected no query"
                raise Problem(400, f"the query: {one_line(name)}: unknown name{expected}")

    def text(self, name: str) -> str | None:
        """The value of *name*; None if it is not there.

        :raises Problem: it is empty.
        """
        value = self._query.get(name)
        if value == "":
            raise Problem(400, f"the query: {name} is empty; expected a value, or no {name}")
        return value

    def number(self, name: str, default: int, least: int, most: int = LARGEST) -> int:
        """The whole number that *name* is.

        :raises Problem: it is none, or not *least* to *most*.
        """
        value = self.text(name)
        if value is None:
            return default
        found = int(value) if _NUMBER.fullmatch(value) else -1
        if not least <= found <= most:
            raise Problem(400, f"the query: {name}={value!r} cannot be used; expected {least:,} to {most:,}")
        return found

    def limit(self) -> int:
        """How many entries are asked for.

        :raises Problem: it is not a number of 1 to `MOST`.
        """
        return self.number("limit", FEW, 1, MOST)

    def flag(self, name: str) -> bool:
        """Whether *name* is set.

        :raises Problem: it is neither ``true`` nor ``false``.
        """
        value = self.text(name)
        if value not in (None, "true", "false"):
            raise Problem(400, f"the query: {name}={value!r} cannot be used; expected true or false")
        return value == "true"

    def word(self, name: str, words: Iterable[str]) -> str | None:
        """The value of *name*, one of *words*; None if it is not there.

        :raises Problem: it is another.
        """
        value = self.text(name)
        if value is not None and value not in words:
            raise Problem(400, f"the query: {name}={value!r} is unknown{suggest(value, words)}")
        return value


def check_body(call: Call, *known: str) -> dict[str, Any]:
    """The body of *call*: a JSON object, of whose keys each is *known*.

    :raises Problem: it is none, or has another.
    """
    found = call.json()
    for key in found:
        if key not in known:
            expected = suggest(key, known) if known else "; expected no keys"
            raise Problem(400, f"the body: {one_line(key)}: unknown key{expected}")
    return found


def endpoint_named(suite: EchoSuite, name: str) -> RunningEndpoint:
    """The endpoint *name*: the one that listens or, if none does, one that still has connections.

    :raises Problem: there is none.
    """
    found = suite.endpoints.get(name)
    if found is not None:
        return found
    for endpoint in suite.every_endpoint:
        if endpoint.description.endpoint.name == name:
            return endpoint
    known = suite.endpoints
    hint = suggest(name, known) if 0 < len(known) <= MOST_NAMED else near(name, known)
    raise Problem(404, f"{name!r} is not an endpoint{hint}")


def whole_number(text: str, what: str) -> int:
    """The number in *text*, a part of a path.

    :param what: what it is the number of, for the error.
    :raises Problem: it is none, so that there is no such thing.
    """
    if not _NUMBER.fullmatch(text):
        raise Problem(404, f"{text!r} is not a {what}; expected a number")
    return int(text)
