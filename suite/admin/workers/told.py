"""What workers tell of what they have counted, and what is kept of it: counters outlive who has counted.

Rules: what a scrape has shown never goes down; a worker that is gone has counted what it told last, and
the one that takes its place begins anew. What is so only now (open connections, memory) is told of workers
that have just answered, and of no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from suite.admin.metrics.family import Family, Value
from suite.admin.metrics.observed import Observed
from suite.server.counts import Counts
from suite.server.pauses import Turns
from suite.server.tally import Key

#: The values of families, by their names.
Values = Mapping[str, list[Value]]


def merged(each: Iterable[Observed]) -> Observed:
    """What is known of an endpoint of which several workers know this."""
    found = [*each]
    listening = [seen.listening for seen in found if seen.listening is not None]
    paused = [seen.paused for seen in found if seen.paused is not None]
    whole = Observed(
        listening=all(listening) if listening else None,
        paused=any(paused) if paused else None,
        streams=any(seen.streams for seen in found),
        datagrams=any(seen.datagrams for seen in found),
        tls=any(seen.tls for seen in found),
        expiry=min((seen.expiry for seen in found if seen.expiry is not None), default=None),
    )
    for seen in found:
        whole.counts += seen.counts
        if whole.phases is not None and seen.phases is not None:
            whole.phases.update(seen.phases)
        else:
            whole.phases = None
    return whole


def past_of(seen: Observed, *, late: bool = False) -> Observed:
    """What stays of *seen* when its worker is gone.

    :param late: it is not gone, but does not answer, so what it is doing now is not known.
    """
    return replace(
        seen,
        counts=replace(seen.counts, open=0),
        listening=None,
        paused=None,
        phases=None if late else Counter(),
        expiry=None,
    )


def summed(values: Iterable[list[Value]]) -> list[Value]:
    """The sum of the *values* of one family, by labels; what nobody knows has none."""
    found: dict[tuple[str, ...], Any] = {}
    for labels, value in (pair for each in values for pair in each):
        if value is not None:
            found[labels] = found[labels] + value if labels in found else value
    return [*found.items()]


def largest(values: Iterable[list[Value]]) -> list[Value]:
    """The largest of the *values* of one family, by labels."""
    found: dict[tuple[str, ...], Any] = {}
    for labels, value in (pair for each in values for pair in each):
        if value is not None:
            found[labels] = max(found.get(labels, value), value)
    return [*found.items()]


@dataclass
class Told:
    """What one worker has told last.

    :ivar pid: its process.
    :ivar endpoints: its endpoints.
    :ivar values: the values of families of the suite as a whole.
    """

    pid: int
    endpoints: dict[Key, Observed] = field(default_factory=dict)
    values: dict[str, list[Value]] = field(default_factory=dict)


class Ledger:
    """What each worker has counted, by its number, and those before it that had the same.

    :param accumulating: the families whose values outlive a worker.
    """

    def __init__(self, accumulating: Iterable[Family]) -> None:
        self._accumulating = frozenset(family.name for family in accumulating)
        self._last: dict[int, Told] = {}
        self._past: dict[int, dict[Key, Observed]] = {}
        self._past_values: dict[int, dict[str, list[Value]]] = {}

    def hear(
        self, number: int, pid: int, endpoints: Mapping[Key, Observed], gone: Iterable[Key], values: Values
    ) -> None:
        """Worker *number* tells.

        :param pid: its process.
        :param endpoints: those of which something has changed since it told last.
        :param gone: those that it has no longer.
        :param values: those of families that it tells now.
        """
        last = self._last.get(number)
        if last is None or last.pid != pid:
            if last is not None:
                self._bury(number, last)
            last = self._last[number] = Told(pid)
        last.endpoints.update(endpoints)
        for key in gone:
            last.endpoints.pop(key, None)
        last.values.update(values)

    def _bury(self, number: int, last: Told) -> None:
        """A worker is gone, and another has its number."""
        past = self._past.setdefault(number, {})
        for key, seen in last.endpoints.items():
            past[key] = merged([past[key], past_of(seen)]) if key in past else past_of(seen)
        before = self._past_values.get(number, {})
        kept = {name: values for name, values in last.values.items() if name in self._accumulating}
        self._past_values[number] = before | {
            name: summed([before.get(name, []), values]) for name, values in kept.items()
        }

    def keep_only(self, keys: Collection[Key]) -> None:
        """Forget what has been counted at endpoints that are neither among *keys* nor any worker's."""
        known = {*keys, *(key for last in self._last.values() for key in last.endpoints)}
        self._past = {
            number: {key: seen for key, seen in past.items() if key in known}
            for number, past in self._past.items()
        }

    # What is known.

    @property
    def numbers(self) -> list[int]:
        """The workers that have told anything."""
        return sorted(self._last)

    def endpoints_of(self, number: int, *, answered: bool, late: bool = False) -> dict[Key, Observed]:
        """The endpoints of worker *number*, with all that has been counted there.

        :param answered: whether it has just told; otherwise it is gone, or late.
        :param late: whether it should have told.
        """
        last = self._last[number].endpoints
        now = last if answered else {key: past_of(seen, late=late) for key, seen in last.items()}
        past = self._past.get(number, {})
        found = dict(now)
        for key, seen in past.items():
            found[key] = merged([now[key], seen]) if key in now else seen
        return found

    def values_of(self, number: int, family: Family, *, answered: bool) -> list[Value]:
        """The values of *family* of worker *number*, with all that has been counted there."""
        last = self._last[number].values.get(family.name, [])
        if family.name not in self._accumulating:
            return last if answered else []
        return summed([self._past_values.get(number, {}).get(family.name, []), last])

    async def endpoints(
        self, answered: Collection[int], turns: Turns, late: Collection[int] = ()
    ) -> dict[Key, Observed]:
        """All endpoints.

        :param answered: the numbers of the workers that have just told.
        :param late: the numbers of those that should have.
        """
        found: dict[Key, list[Observed]] = {}
        for number in self.numbers:
            endpoints = self.endpoints_of(number, answered=number in answered, late=number in late)
            async for key, seen in turns.between(endpoints.items()):
                found.setdefault(key, []).append(seen)
        return {key: merged(seen) async for key, seen in turns.between(found.items())}

    async def past_counts(self, answered: Mapping[int, int], turns: Turns) -> dict[Key, Counts]:
        """What workers have counted that are gone, or that do not answer.

        :param answered: the others, whose counts are not wanted: their processes, by their numbers.
        """
        found: dict[Key, Counts] = {}
        for number, last in [*self._last.items()]:
            parts = [{**self._past.get(number, {})}]
            if answered.get(number) != last.pid:
                parts.append({**last.endpoints})
            async for key, seen in turns.between(pair for part in parts for pair in part.items()):
                found[key] = found.get(key, Counts()) + past_of(seen).counts
        return found
