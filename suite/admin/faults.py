"""The faults in force at each endpoint of a running suite: showing them, and changing them.

Rules: a request changes all that it names, or nothing; a change holds for every connection whose decision
comes after it, so that none gets half of it; a fault has an id from when it is in force, which no other gets
while the suite runs. A reload puts in force what the file says, under new ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn
from weakref import WeakKeyDictionary

from twisted.logger import Logger

from suite.admin.conversation import RefusedRequestError
from suite.config.fault_text import misfit, parse, read_entry, words
from suite.config.faults import Fault, Faults
from suite.config.values import dotted
from suite.endpoints.descriptions import Description, may_speak
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns
from suite.server.service import EchoSuite
from suite.text import near, suggest

log = Logger()

#: The most faults of one endpoint: all of them are looked at for each connection.
MOST_FAULTS: Final = 100

#: The most endpoints that an error names.
MOST_NAMED: Final = 20

#: What each key of a request holds.
EXPECTED: Final = {
    "endpoint": "the name of an endpoint",
    "faults": 'an array of faults, such as [{"latency": "200ms"}] or ["latency=200ms"]',
    "ids": "an array of ids, such as [3], from the answer to list",
    "seed": "a whole number, 0 or more",
}

Request = Mapping[str, Any]


class Known(NamedTuple):
    """What was in force at an endpoint when it was looked at last.

    :ivar faults: the faults, to see whether they have been replaced.
    :ivar ids: the ids of their entries.
    :ivar listed: their entries as they are listed, in one turn for thousands of endpoints.
    """

    faults: Faults
    ids: list[int]
    listed: list[dict[str, Any]]

    @classmethod
    def of(cls, faults: Faults, ids: list[int]) -> Known:
        """*faults* with *ids*."""
        pairs = zip(ids, faults.entries, strict=True)
        return cls(faults, ids, [{"id": number, "fault": words(fault)} for number, fault in pairs])


class ReplayedError(RefusedRequestError):
    """The faults are those of an earlier run, whatever is declared."""

    def __init__(self) -> None:
        super().__init__("the faults of a log are replayed here; expected a suite without --replay")


class FaultRequests:
    """Answers requests about the faults of *suite*, through whichever door they come."""

    def __init__(self, suite: EchoSuite) -> None:
        self._suite = suite
        self._next_id = itertools.count(1)
        self._known: WeakKeyDictionary[RunningEndpoint, Known] = WeakKeyDictionary()

    def requests(
        self, door: str
    ) -> Mapping[str, tuple[Callable[[Request], Mapping[str, Any]], tuple[str, ...]]]:
        """What each request is answered by, and the keys that it may have.

        :param door: over what they come, for the log.
        """
        return {
            "list": (self.show, ("endpoint",)),
            "add": (partial(self.add, door), ("endpoint", "faults", "seed")),
            "remove": (partial(self.remove, door), ("endpoint", "ids")),
            "clear": (partial(self.clear, door), ("endpoint",)),
        }

    # Requests; each raises RefusedRequestError, and has changed nothing then.

    def show(self, request: Request) -> Mapping[str, Any]:
        """What is in force: at the ``endpoint``, or at all that have faults."""
        return self._in_force([self._named(request)] if "endpoint" in request else None)

    def add(self, door: str, request: Request) -> Mapping[str, Any]:
        """Add ``faults`` to those of the ``endpoint``, and use the ``seed`` if there is one."""
        name = self._named(request)
        endpoint = self._suite.endpoints[name]
        faults, ids = self._changeable(endpoint)
        added, seed = self._read(endpoint, _needed(request, "faults"))
        if "seed" in request:
            seed = _seed(request["seed"])
        if len(faults.entries) + len(added) > MOST_FAULTS:
            raise RefusedRequestError(
                f"faults: {name} would have {len(faults.entries) + len(added)};"
                f" expected {MOST_FAULTS} at the most"
            )
        new = [next(self._next_id) for _ in added]
        added = _placed(added, new)
        changed = replace(faults, entries=faults.entries + added, seed=faults.seed if seed is None else seed)
        self._change(endpoint, changed, ids + new)
        log.info(
            "faults changed over {door}: added {added}{with_seed}",
            door=door,
            endpoint=name,
            added=_listed(zip(new, added, strict=True)),
            with_seed="" if seed is None else f", seed={seed}",
        )
        return {"ids": new, **self._in_force([name])}

    def remove(self, door: str, request: Request) -> Mapping[str, Any]:
        """Remove the faults ``ids`` of the ``endpoint``."""
        name = self._named(request)
        endpoint = self._suite.endpoints[name]
        faults, ids = self._changeable(endpoint)
        unwanted = _ids(_needed(request, "ids"))
        for number in unwanted:
            if number not in ids:
                expected = f"expected {' or '.join(map(str, ids))}" if ids else "it has none"
                raise RefusedRequestError(f"ids: {number} is not a fault of {name}; {expected}")
        pairs = [*zip(ids, faults.entries, strict=True)]
        kept = [(number, fault) for number, fault in pairs if number not in unwanted]
        self._change(
            endpoint,
            replace(faults, entries=tuple(fault for _, fault in kept)),
            [number for number, _ in kept],
        )
        log.info(
            "faults changed over {door}: removed {removed}",
            door=door,
            endpoint=name,
            removed=_listed(pair for pair in pairs if pair[0] in unwanted),
        )
        return self._in_force([name])

    def clear(self, door: str, request: Request) -> Mapping[str, Any]:
        """Remove all faults: of the ``endpoint``, or of all."""
        if "endpoint" not in request:
            endpoints = [*self._suite.endpoints.items()]
            for _, endpoint in endpoints:
                self._changeable(endpoint)
            self._log_cleared(door, [name for name, endpoint in endpoints if self._clear(endpoint)])
            return self._in_force(None)
        name = self._named(request)
        if self._clear(self._suite.endpoints[name]):
            log.info("faults changed over {door}: cleared", door=door, endpoint=name)
        return self._in_force([name])

    async def clear_all(self, door: str, turns: Turns) -> None:
        """Remove all faults of all endpoints, in turns; those that a reload closes meanwhile keep theirs."""
        endpoints = [*self._suite.endpoints.items()]
        async for _, endpoint in turns.between(endpoints):
            self._changeable(endpoint)
        cleared = []
        async for name, endpoint in turns.between(endpoints):
            if self._suite.endpoints.get(name) is endpoint and self._clear(endpoint):
                cleared.append(name)
        self._log_cleared(door, cleared)

    def _clear(self, endpoint: RunningEndpoint) -> bool:
        """Remove the faults of *endpoint*; return whether it had some."""
        faults, _ = self._changeable(endpoint)
        if faults.entries:
            self._change(endpoint, replace(faults, entries=()), [])
        return bool(faults.entries)

    @staticmethod
    def _log_cleared(door: str, names: list[str]) -> None:
        if names:
            of = ", ".join(names)
            log.info("faults changed over {door}: cleared of {of}", door=door, endpoint=None, of=of)

    # What they need.

    def _named(self, request: Request) -> str:
        """The name of an endpoint.

        :raises RefusedRequestError: there is no such endpoint.
        """
        name = _needed(request, "endpoint")
        if not isinstance(name, str):
            raise RefusedRequestError(f"endpoint: {name!r} is not a string; expected {EXPECTED['endpoint']}")
        if name not in self._suite.endpoints:
            known = self._suite.endpoints
            hint = suggest(name, known) if len(known) <= MOST_NAMED else near(name, known)
            raise RefusedRequestError(f"endpoint: {name!r} is not an endpoint{hint}")
        return name

    def known(self, endpoint: RunningEndpoint) -> Known:
        """The faults in force at *endpoint*, and the ids of their entries."""
        faults = in_force(endpoint)
        known = self._known.get(endpoint)
        if known is None or known.faults is not faults:  # the first request, or the first after a reload
            known = Known.of(faults, [next(self._next_id) for _ in faults.entries])
            self._known[endpoint] = known
        return known

    def _changeable(self, endpoint: RunningEndpoint) -> tuple[Faults, list[int]]:
        """`known`, to be changed.

        :raises ReplayedError: they cannot be.
        """
        faults, ids, _ = self.known(endpoint)
        if faults.replayed is not None:
            raise ReplayedError
        return faults, ids

    def _read(self, endpoint: RunningEndpoint, value: object) -> tuple[tuple[Fault, ...], int | None]:
        """The faults that *value* declares for *endpoint*, and the seed, if it names one.

        Each item is a table as in the configuration, or a text of one or several as on the command line.

        :raises RefusedRequestError: one of them is wrong, or does not apply to the transport.
        """
        if not isinstance(value, list) or not value:
            raise RefusedRequestError(f"faults: {value!r} cannot be used; expected {EXPECTED['faults']}")
        description, profiles = endpoint.description, self._suite.plan.config.profiles
        found: list[Fault] = []
        seed = None
        for number, item in enumerate(value, start=1):
            where = f"faults[{number}]"
            if isinstance(item, dict):
                for key, each in item.items():
                    if each is None:
                        _refuse(where, key, "null cannot be used; expected a value, or no such key")
                faults = read_entry(item, partial(_refuse, where), profiles)
            elif isinstance(item, str):
                try:
                    faults, named = parse(item, None, profiles)
                except ValueError as error:
                    raise RefusedRequestError(str(error)) from None
                seed = seed if named is None else named
                where = ""
            else:
                raise RefusedRequestError(f"{where}: {item!r} is not a fault; expected {EXPECTED['faults']}")
            found += _fitting(faults, description, where)
        return tuple(found), seed

    def _change(self, endpoint: RunningEndpoint, faults: Faults, ids: list[int]) -> None:
        change(endpoint, faults)
        self._known[endpoint] = Known.of(faults, ids)

    def _in_force(self, names: Sequence[str] | None) -> Mapping[str, Any]:
        """What is in force at the endpoints *names*; None: at all that have faults."""
        shown = {}
        for name in self._suite.endpoints if names is None else names:
            endpoint = self._suite.endpoints[name]
            faults, _, listed = self.known(endpoint)
            if names is None and not faults:
                continue
            shown[name] = {
                "transport": endpoint.description.transport,
                "requested": faults.requested,
                "seed": faults.seed,
                "faults": listed,
            }
        return {"endpoints": shown}


def in_force(endpoint: RunningEndpoint) -> Faults:
    """The faults that the next connection to *endpoint* is subject to."""
    return endpoint.decider.faults


def change(endpoint: RunningEndpoint, faults: Faults) -> None:
    """Put *faults* in force at *endpoint*, all of them at once."""
    endpoint.change_faults(faults)


def _refuse(where: str, key: str, problem: str) -> NoReturn:
    """Refuse the value of *key* in the entry *where*; either may be empty."""
    name = dotted(where, key) if key else where
    raise RefusedRequestError(f"{name}: {problem}" if name else problem)


def _fitting(faults: Iterable[Fault], description: Description, where: str) -> Iterator[Fault]:
    """Those of *faults* that can happen at an endpoint.

    :raises RefusedRequestError: one of them cannot, and is not one of a profile.
    """
    transports = frozenset({description.found}) if description.found else may_speak(description)
    for fault in faults:
        problem = misfit(fault, transports, proxied=description.proxied)
        if problem is None:
            yield fault
        elif not fault.profile or problem[0] == "only":
            _refuse(where, *problem)


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


def _placed(faults: Sequence[Fault], ids: Sequence[int]) -> tuple[Fault, ...]:
    """*faults* with places that are in no file; those of one profile share theirs, and strike together."""
    placed: list[Fault] = []
    for fault, number in zip(faults, ids, strict=True):
        together = bool(placed and fault.profile) and placed[-1].profile == fault.profile
        placed.append(replace(fault, place=placed[-1].place if together else -number))
    return tuple(placed)


def _listed(pairs: Iterable[tuple[int, Fault]]) -> str:
    """Faults with their ids, for the log."""
    return ", ".join(f"{number}: {words(fault)}" for number, fault in pairs)
