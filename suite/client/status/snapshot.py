"""What the admin interface says of a suite at one moment, and what has changed since another.

Rules: documents are as the interface sends them, and have to pass `clean` on the way to a terminal, so that
nothing that a peer or a configuration has chosen gets there with its control characters; a rate is between
two moments of one process, by its own monotonic clock, or it is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from suite.client.admin.interface import Interface, endpoint_path
from suite.reasons import REFUSALS, Reason
from suite.text import one_line

#: Items that are asked for at once: as many as the interface gives.
PAGE: Final = 1000

#: Events among which the latest refusals are looked for.
RECENT: Final = 200

#: Reasons of events about peers that did not get what they came for.
UNWANTED: Final = frozenset({*map(str, REFUSALS), str(Reason.TLS), str(Reason.HANDSHAKE)})

Document = Mapping[str, Any]


def clean(value: Any) -> Any:
    """*value*, a JSON document, for a terminal: the control characters in its strings are escaped.

    What has several lines, as the mistakes in a configuration, has one.
    """
    if isinstance(value, str):
        return "; ".join(one_line(line) for line in value.split("\n") if line)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {one_line(key): clean(item) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Snapshot:
    """One moment.

    :ivar status: the document of the suite as a whole.
    :ivar endpoints: the documents of endpoints, in the order of the suite.
    :ivar refusals: the latest events about peers that were refused, the latest first.
    """

    status: Document
    endpoints: list[Document] = field(default_factory=list)
    refusals: list[Document] = field(default_factory=list)


def pages(
    interface: Interface,
    path: str,
    key: str,
    most: int | None = None,
    unanswered: set[int] | None = None,
    **query: str,
) -> Iterator[Any]:
    """The items of a long list, asked for a page at a time.

    :param key: where they are in each page.
    :param most: how many there are to be at the most; None: all.
    :param unanswered: is given the workers whose items are missing.
    """
    left = most
    while left is None or left > 0:
        limit = PAGE if left is None else min(PAGE, left)
        page = interface.ask(f"{path}?{urlencode({**query, 'limit': limit})}")
        yield from page[key]
        if unanswered is not None:
            unanswered.update(page.get("unanswered", ()))
        if page["next"] is None:
            return
        query["after"] = page["next"]
        left = None if left is None else left - len(page[key])


def take(interface: Interface, most: int | None, most_refusals: int) -> Snapshot:
    """A snapshot of the suite.

    :param most: how many endpoints it has at the most; None: all.
    :param most_refusals: how many refusals.
    """
    status = interface.ask("/api/v1/status")
    endpoints = [*pages(interface, "/api/v1/endpoints", "endpoints", most)]
    return Snapshot(status, endpoints, refusals(interface, None, RECENT)[:most_refusals])


def refusals(interface: Interface, endpoint: str | None, among: int = PAGE) -> list[Document]:
    """The latest events about peers that were refused, or failed at TLS, the latest first.

    :param endpoint: of this endpoint only; None: of all.
    :param among: how many events are looked at.
    """
    query = {"limit": str(among)} if endpoint is None else {"limit": str(among), "endpoint": endpoint}
    page = interface.ask(f"/api/v1/events/recent?{urlencode(query)}")
    found = [event for event in page["events"] if event.get("reason") in UNWANTED]
    return found[::-1]


def connections(
    interface: Interface, endpoint: str | None, most: int | None = None
) -> tuple[list[Document], list[int]]:
    """The connections to *endpoint*, or to all, and the workers that did not say which they have.

    :param most: how many at the most; None: all.
    """
    only = {} if endpoint is None else {"endpoint": endpoint}
    unanswered: set[int] = set()
    found = [*pages(interface, "/api/v1/connections", "connections", most, unanswered, **only)]
    return found, sorted(unanswered)


def endpoint_of(interface: Interface, name: str) -> Document:
    """The document of the endpoint *name*.

    :raises SuiteError: there is none.
    """
    found: Document = interface.ask(endpoint_path(name))
    return found


def cleaned(now: Snapshot) -> Snapshot:
    """*now*, for a terminal: see `clean`."""
    return Snapshot(clean(now.status), clean(now.endpoints), clean(now.refusals))


class Rates:
    """How much a second something has grown from the previous snapshot to this one.

    :param before: the previous one; None: there is none.
    """

    def __init__(self, before: Snapshot | None, now: Snapshot) -> None:
        self._seconds = 0.0
        self._before: dict[str, Document] = {}
        self._total: Document | None = None
        if before is not None and _process(before.status) == _process(now.status):
            self._seconds = now.status["uptime"] - before.status["uptime"]
            self._before = {each["name"]: each for each in before.endpoints}
            self._total = before.status

    @property
    def known(self) -> bool:
        """Whether there are any."""
        return self._seconds > 0

    def endpoint(self, now: Document, *path: str) -> float | None:
        """The rate of the counter at *path* in the document of an endpoint; None: it is not known."""
        return self._rate(self._before.get(now["name"]), now, path)

    def total(self, now: Document, *path: str) -> float | None:
        """The same for the suite as a whole."""
        return self._rate(self._total, now, path)

    def _rate(self, before: Document | None, now: Document, path: tuple[str, ...]) -> float | None:
        if before is None or not self.known:
            return None
        for key in path:
            before, now = before[key], now[key]
        grown: float = now - before  # type: ignore[operator]  # counters, by now
        # An endpoint of the same name may be another one since a reload, and counts from the beginning.
        return grown / self._seconds if grown >= 0 else None


def _process(status: Document) -> tuple[Any, Any]:
    return status["pid"], status["started"]
