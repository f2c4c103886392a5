"""The faults in force at each endpoint of a running suite: showing them, and changing them.

Rules: a request changes all that it names, or nothing; a change holds for every connection whose decision
comes after it, so that none gets half of it; a fault has an id from when it is in force, which no other gets
while the suite runs. A reload puts in force what the file says, under new ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from twisted.logger import Logger

from suite.admin.conversation import RefusedRequestError
from suite.config.fault_text import parse, words
from suite.config.faults import Fault, Faults
from suite.server.endpoint import RunningEndpoint
from suite.server.service import EchoSuite
from suite.text import suggest

log = Logger()

#: The most faults of one endpoint: all of them are looked at for each connection.
MOST_FAULTS: Final = 100

#: What each key of a request holds.
EXPECTED: Final = {
    "endpoint": "the name of an endpoint",
    "faults": 'an array of faults, such as [{"latency": "200ms"}] or ["latency=200ms"]',
    "ids": "an array of ids, such as [3], from the answer to list",
    "seed": "a whole number, 0 or more",
}

Request = Mapping[str, Any]


class FaultRequests:
    """Answers requests about the faults of *suite*.

    :ivar requests: what each request is answered by, and the keys that it may have.
    """

    def __init__(self, suite: EchoSuite) -> None:
        self._suite = suite
        self._next_id = itertools.count(1)
        self._known: WeakKeyDictionary[RunningEndpoint, tuple[Faults, list[int]]] = WeakKeyDictionary()
        self.requests: Mapping[str, tuple[Callable[[Request], Mapping[str, Any]], tuple[str, ...]]] = {
            "list": (self._list, ("endpoint",)),
            "add": (self._add, ("endpoint", "faults", "seed")),
            "remove": (self._remove, ("endpoint", "ids")),
            "clear": (self._clear, ("endpoint",)),
        }

    # Requests.

    def _list(self, request: Request) -> Mapping[str, Any]:
        return self._in_force([self._named(request)] if "endpoint" in request else None)

    def _add(self, request: Request) -> Mapping[str, Any]:
        name = self._named(request)
        endpoint = self._suite.endpoints[name]
        faults, ids = self._faults(endpoint)
        added, seed = read_faults(endpoint, _needed(request, "faults"))
        if "seed" in request:
            seed = _seed(request["seed"])
        if len(faults.entries) + len(added) > MOST_FAULTS:
            raise RefusedRequestError(
                f"faults: {name} would have {len(faults.entries) + len(added)};"
                f" expected {MOST_FAULTS} at the most"
            )
        changed = replace(faults, entries=faults.entries + added, seed=faults.seed if seed is None else seed)
        new = [next(self._next_id) for _ in added]
        self._change(endpoint, changed, ids + new)
        log.info(
            "faults changed over the control socket: added {added}{with_seed}",
            endpoint=name,
            added=_listed(zip(new, added, strict=True)),
            with_seed="" if seed is None else f", seed={seed}",
        )
        return {"ids": new, **self._in_force([name])}

    def _remove(self, request: Request) -> Mapping[str, Any]:
        name = self._named(request)
        endpoint = self._suite.endpoints[name]
        faults, ids = self._faults(endpoint)
        unwanted = _ids(_needed(request, "ids"))
        for number in unwanted:
            if number not in ids:
                expected = f"expected {' or '.join(map(str, ids))}" if ids else "it has none"
                raise RefusedRequestError(f"ids: {number} is no fault of {name}; {expected}")
        pairs = [*zip(ids, faults.entries, strict=True)]
        kept = [(number, fault) for number, fault in pairs if number not in unwanted]
        self._change(
            endpoint,
            replace(faults, entries=tuple(fault for _, fault in kept)),
            [number for number, _ in kept],
        )
        log.info(
            "faults changed over the control socket: removed {removed}",
            endpoint=name,
            removed=_listed(pair for pair in pairs if pair[0] in unwanted),
        )
        return self._in_force([name])

    def _clear(self, request: Request) -> Mapping[str, Any]:
        names = [self._named(request)] if "endpoint" in request else [*self._suite.endpoints]
        for name in names:
            endpoint = self._suite.endpoints[name]
            faults, _ = self._faults(endpoint)
            if not faults.entries:
                continue
            self._change(endpoint, replace(faults, entries=()), [])
            log.info("faults changed over the control socket: cleared", endpoint=name)
        return self._in_force(names if "endpoint" in request else None)

    # What they need.

    def _named(self, request: Request) -> str:
        """The name of an endpoint.

        :raises RefusedRequestError: there is no such endpoint.
        """
        name = _needed(request, "endpoint")
        if not isinstance(name, str):
            raise RefusedRequestError(f"endpoint: {name!r} is not a string; expected {EXPECTED['endpoint']}")
        if name not in self._suite.endpoints:
            raise RefusedRequestError(
                f"endpoint: {name!r} is no endpoint{suggest(name, self._suite.endpoints)}"
            )
        return name

    def _faults(self, endpoint: RunningEndpoint) -> tuple[Faults, list[int]]:
        """The faults in force at *endpoint*, and the ids of their entries."""
        faults = in_force(endpoint)
        known, ids = self._known.get(endpoint, (None, []))
        if known is not faults:  # the first request, or the first after a reload
            ids = [next(self._next_id) for _ in faults.entries]
            self._known[endpoint] = faults, ids
        return faults, ids

    def _change(self, endpoint: RunningEndpoint, faults: Faults, ids: list[int]) -> None:
        change(endpoint, faults)
        self._known[endpoint] = faults, ids

    def _in_force(self, names: Sequence[str] | None) -> Mapping[str, Any]:
        """What is in force at the endpoints *names*; None: at all that have faults."""
        shown = {}
        for name in self._suite.endpoints if names is None else names:
            endpoint = self._suite.endpoints[name]
            faults, ids = self._faults(endpoint)
            if names is None and not faults:
                continue
            shown[name] = {
                "transport": endpoint.description.transport,
                "requested": faults.requested,
                "seed": faults.seed,
                "faults": [
                    {"id": number, "fault": words(fault)}
                    for number, fault in zip(ids, faults.entries, strict=True)
                ],
            }
        return {"endpoints": shown}


def in_force(endpoint: RunningEndpoint) -> Faults:
    """The faults that the next connection to *endpoint* is subject to."""
    return endpoint.decider.faults


def change(endpoint: RunningEndpoint, faults: Faults) -> None:
    """Put *faults* in force at *endpoint*, all of them at once."""
    endpoint.change_faults(faults)


def read_faults(endpoint: RunningEndpoint, value: object) -> tuple[tuple[Fault, ...], int | None]:
    """The faults that *value* declares for *endpoint*, and the seed, if it names one.

    Each item is a table as in the configuration, or a text as on the command line, which may have several.

    :raises RefusedRequestError: one of them is wrong, or does not apply to the transport.
    """
    if not isinstance(value, list) or not value:
        raise RefusedRequestError(f"faults: {value!r} cannot be used; expected {EXPECTED['faults']}")
    found: list[Fault] = []
    seed = None
    for item in value:
        faults, named = parse(item, endpoint.description.transport)
        found += faults
        seed = seed if named is None else named
    return tuple(found), seed


def _needed(request: Request, key: str) -> Any:
    if key not in request:
        raise RefusedRequestError(f"{key}: missing; expected {EXPECTED[key]}")
    return request[key]


def _seed(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise RefusedRequestError(f"seed: {value!r} cannot be used; expected {EXPECTED['seed']}")
    return value


def _ids(value: object) -> list[int]:
    if not isinstance(value, list) or not value or not all(type(item) is int for item in value):
        raise RefusedRequestError(f"ids: {value!r} cannot be used; expected {EXPECTED['ids']}")
    return value


def _listed(pairs: Iterable[tuple[int, Fault]]) -> str:
    """Faults with their ids, for the log."""
    return ", ".join(f"{number}: {words(fault)}" for number, fault in pairs)
