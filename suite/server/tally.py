"""What has been counted under each name since the start, whatever reloads have done meanwhile.

Rules: an endpoint counts for itself, as long as its address lives; what it has counted belongs to the name
that it had then. So the count of a name never goes down: not when another endpoint takes the name, nor when
two swap theirs, nor when it comes back after a while. Reading in turns sees one moment as far as names go.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

from suite.server.counts import Counts, counts_in_turns, counts_of
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns


class Key(NamedTuple):
    """What tells endpoints from each other."""

    endpoint: str
    transport: str

    @classmethod
    def of(cls, endpoint: RunningEndpoint) -> Key:
        """The key of *endpoint*, now."""
        return cls(endpoint.description.endpoint.name, endpoint.description.transport)


class Tally:
    """The counts of names, over endpoints that come and go, and change their names."""

    def __init__(self) -> None:
        self._past: dict[Key, Counts] = {}
        # What is in there of the counts of an endpoint that lives.
        self._settled: WeakKeyDictionary[RunningEndpoint, Counts] = WeakKeyDictionary()
        self._readings: dict[Reading, None] = {}

    def settle(self, endpoint: RunningEndpoint) -> None:
        """*endpoint* is about to have another name, or is gone: what it has counted stays with this one."""
        key, counts = Key.of(endpoint), replace(counts_of(endpoint), open=0)
        since = self.since(endpoint, counts)
        for reading in self._readings:
            reading.lost.setdefault(endpoint, (key, since))
        self._past[key] = self._past.get(key, Counts()) + since
        self._settled[endpoint] = counts

    def since(self, endpoint: RunningEndpoint, counts: Counts) -> Counts:
        """What of *counts*, those of *endpoint*, is not another name's."""
        settled = self._settled.get(endpoint)
        return counts if settled is None else counts - settled

    def read(self) -> Reading:
        """Begin to read; the result is to be closed."""
        reading = Reading(self, dict(self._past))
        self._readings[reading] = None
        return reading

    def close(self, reading: Reading) -> None:
        """End *reading*."""
        self._readings.pop(reading, None)


class Reading:
    """The counts at the moment at which this was made, although they are read in turns.

    :param past: what had been counted under each name, by then, by endpoints that do not have it any more.
    :ivar lost: the endpoints that have lost their name since, with that, and what they had counted under it.
    """

    def __init__(self, tally: Tally, past: dict[Key, Counts]) -> None:
        self.past = past
        self.lost: dict[RunningEndpoint, tuple[Key, Counts]] = {}
        self._tally = tally

    async def counts(self, endpoint: RunningEndpoint, turns: Turns) -> tuple[Key, Counts]:
        """The name of *endpoint*, which was there at the moment, and what it has counted under it."""
        counts = await counts_in_turns(endpoint, turns)
        return self.lost.get(endpoint) or (Key.of(endpoint), self._tally.since(endpoint, counts))

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self._tally.close(self)
