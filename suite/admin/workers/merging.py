"""One document of several: what each worker says of itself becomes what the suite says.

Rules: what is counted is added up; what every worker has of the same plan is the first one's; what differs is
said of the worker that differs. All of this is pure: documents of the API in, one out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from suite.admin.health import shortened

Document = dict[str, Any]

#: The keys under which a document counts, the suite's and an endpoint's.
COUNTED: Final = ("connections", "bytes", "datagrams", "handshakes", "struck")


# Counts.


def added(one: Any, other: Any) -> Any:
    """The sum of two numbers, or of what has numbers in the same places.

    Of lists, entries that are equal but for their ``count`` become one. What is unknown makes the sum so.
    """
    if one is None or other is None:
        return None
    if isinstance(one, dict):
        return {
            key: added(one[key], other[key]) if key in one and key in other else one.get(key, other.get(key))
            for key in dict.fromkeys([*one, *other])
        }
    if isinstance(one, list):
        return _added_lists(one, other)
    return one + other


def _added_lists(one: Iterable[Document], other: Iterable[Document]) -> list[Document]:
    totals: dict[frozenset[tuple[str, Any]], Document] = {}
    for entry in chain(one, other):
        key = frozenset((name, value) for name, value in entry.items() if name != "count")
        before = totals[key]["count"] if key in totals else 0
        totals[key] = {**entry, "count": before + entry["count"]}
    return [*totals.values()]


def total(documents: Iterable[Document]) -> Document:
    """The sum of what *documents* count; of none, nothing."""
    found: Document = {}
    for document in documents:
        counts = {key: document[key] for key in COUNTED}
        found = added(found, counts) if found else counts
    return found


# Health.


def reasons(
    answers: Mapping[int, Sequence[str]], own: Sequence[str] = (), late: Collection[int] = ()
) -> list[str]:
    """Why a suite is not ready whose workers have these reasons, by their numbers; none if it is.

    What all of them say is said once, and the rest of those that say it.

    :param own: the supervisor's own reasons, which need not be said again.
    :param late: the workers that have not answered.
    """
    if not answers and not late:
        return [*own, "no worker serves"]
    first = next(iter(answers.values()), ())
    shared = [reason for reason in first if all(reason in each for each in answers.values())]
    common = [*dict.fromkeys([*own, *shared])]
    alone = [
        f"worker {number}: {reason}"
        for number, each in answers.items()
        for reason in each
        if reason not in common
    ]
    silent = [f"worker {number}: does not answer" for number in late]
    return [*shortened([*common, *alone, *silent])]


# The suite.


def status(
    answers: Mapping[int, Document], own: Document, past: Document, late: int | None = None
) -> Document:
    """What is known of a suite as a whole.

    :param answers: what each worker says of itself, by its number.
    :param own: what the supervisor says, which knows the configuration; of what is added up, its own share.
    :param past: what workers have counted that are gone, or do not answer.
    :param late: the connections that are open at those that do not answer; None: all of them do. What only
        they could say is not known then.
    """
    workers = [*answers.values()]
    lags = [each["reactor"]["lag"] for each in workers if each["reactor"]["lag"] is not None]
    shares = [own, *workers]
    whole = {
        **own,
        "leaving": max((each["leaving"] for each in workers), default=0),
        **total([past, *workers]),
        # Each process has a limit of its own.
        "descriptors": max((each["descriptors"] for each in shares), key=lambda each: each["open"] or 0),
        "reactor": {
            "name": own["reactor"]["name"],
            "timers": sum(each["reactor"]["timers"] for each in workers),
            # Of several, no percentiles can be told; the worst is what somebody waits for.
            "lag": {name: max(lag[name] for lag in lags) for name in lags[0]} if lags else None,
        },
        "log": _summed(each["log"] for each in shares),
    }
    if late is not None:
        whole["connections"]["open"] += late
        whole["descriptors"] = {"open": None, "limit": whole["descriptors"]["limit"]}
        whole["reactor"] = {"name": whole["reactor"]["name"], "timers": None, "lag": None}
        whole["log"] = dict.fromkeys(whole["log"])
    return whole


def _summed(documents: Iterable[Document]) -> Document:
    found: Document = {}
    for document in documents:
        found = added(found, document) if found else document
    return found


# Endpoints.


def endpoint(entries: Sequence[Document], past: Document | None, late: int = 0) -> Document:
    """What is known of an endpoint that has these *entries*, one of each worker.

    :param past: what workers have counted that are gone, or do not answer; None: nothing.
    :param late: the connections that are open at those that do not answer.
    """
    first = entries[0]
    states = [entry["state"] for entry in entries]
    whole = {
        **first,
        # One that is paused in one of them does not accept all that comes.
        "state": "paused" if "paused" in states else states[0],
        **total([*entries, past] if past is not None else entries),
    }
    whole["connections"]["open"] += late
    return whole


def endpoints(
    pages: Iterable[Document],
    limit: int,
    past: Callable[[str, str], Document | None],
    late: Callable[[str], int] = lambda _: 0,
) -> tuple[Iterator[Document], str | None]:
    """The page of endpoints of a suite whose workers have these *pages*, and where the next one begins.

    Each endpoint is made when it is asked for: a page of many takes some turns.

    :param limit: how many names it has at the most.
    :param past: what workers have counted that are gone, or do not answer, at the endpoint with a name and a
        transport.
    :param late: how many connections to an endpoint are open at those that do not answer.
    """
    pages = [*pages]
    # Behind the end of a page that is not the last, its worker has more.
    ends = [page["next"] for page in pages if page["next"] is not None]
    end = min(ends, default=None)
    groups: dict[tuple[str, bool, str], list[Document]] = {}
    for page in pages:
        for entry in page["endpoints"]:
            if end is None or entry["name"] <= end:
                groups.setdefault(_same_endpoint(entry), []).append(entry)
    names = sorted({name for name, _, _ in groups})
    if len(names) > limit:
        names, end = names[:limit], names[limit - 1]
    wanted = {*names}
    return _merged((groups[key] for key in sorted(groups) if key[0] in wanted), past, late), end


def _merged(
    groups: Iterable[list[Document]],
    past: Callable[[str, str], Document | None],
    late: Callable[[str], int],
) -> Iterator[Document]:
    told: set[tuple[str, str]] = set()
    for entries in groups:
        which = entries[0]["name"], entries[0]["transport"]
        # Of two with one name, the one that goes on has it.
        if which in told:
            yield endpoint(entries, None)
        else:
            yield endpoint(entries, past(*which), late(which[0]))
        told.add(which)


def _same_endpoint(entry: Document) -> tuple[str, bool, str]:
    """What the entries of one endpoint share; one that leaves may have a namesake, which comes first."""
    return entry["name"], entry["state"] == "leaving", entry["listen"]


# Connections.


def _order(identity: str) -> tuple[str, int]:
    name, _, number = identity.rpartition("/")
    return name, int(number)


def connections(pages: Mapping[int, Document], limit: int) -> tuple[list[Document], str | None]:
    """The page of connections of a suite whose workers have these *pages*, and where the next one begins.

    :param pages: by the workers' numbers, which connections are given.
    :param limit: how many connections it has at the most.
    """
    ends = [page["next"] for page in pages.values() if page["next"] is not None]
    end = min(ends, key=_order, default=None)
    found = sorted(
        (
            {**each, "worker": number}
            for number, page in pages.items()
            for each in page["connections"]
            if end is None or _order(each["id"]) <= _order(end)
        ),
        key=lambda each: (each["endpoint"], each["number"]),
    )
    if len(found) > limit:
        return found[:limit], found[limit - 1]["id"]
    return found, end
