"""What a scrape reads of the suite, once, before anything is written.

Rules: reading changes nothing, and stops no echo; a counter never goes down: what has been counted under a
name goes on to count (`suite.server.tally`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from twisted.internet.defer import DeferredLock
from typing_extensions import override

from suite.admin.health import reasons_against
from suite.admin.route import Site
from suite.guard.sweep import Phase
from suite.reasons import REFUSALS, Reason
from suite.server.counts import SOME, Counts
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns
from suite.server.tally import Key

#: Refusals of connections, which are counted from 0 on, so that the first one is seen to come.
STREAM_REFUSALS = frozenset(
    {Reason.CONNECTIONS, Reason.PER_PEER, Reason.DENIED, Reason.DESCRIPTORS, Reason.PROXY}
)

#: The same for datagrams.
DATAGRAM_REFUSALS = REFUSALS - STREAM_REFUSALS | {Reason.DENIED}


@dataclass
class Observed:
    """What is known of the endpoints that have one name.

    :ivar counts: what they have counted, those that are gone included.
    :ivar listening: whether every socket of the one that is to listen does; None: it is leaving.
    :ivar paused: whether that is paused; None: it is leaving.
    :ivar phases: the open connections by what they are doing; None: that is not known.
    :ivar streams: whether it has connections.
    :ivar datagrams: whether it has datagrams.
    :ivar tls: whether connections begin with a TLS handshake.
    :ivar expiry: when the first of the certificates that it presents ends, in seconds since the epoch; None:
        it presents none, or the gallery's.
    """

    counts: Counts = field(default_factory=Counts)
    listening: bool | None = None
    paused: bool | None = None
    phases: Counter[Phase] | None = field(default_factory=Counter)
    streams: bool = False
    datagrams: bool = False
    tls: bool = False
    expiry: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """What is known of the suite at a moment.

    :cvar more: the families of the suite as a whole that only this kind has.
    :ivar site: the admin interface, and so the suite, which tell what is read in a moment.
    :ivar endpoints: the endpoints.
    :ivar ready: whether the suite is ready (``/readyz``).
    """

    more: ClassVar[tuple[Any, ...]] = ()

    site: Site
    endpoints: Mapping[Key, Observed]
    ready: bool

    def values(self, family: Any) -> Iterable[Any]:
        """The values of *family*, one of the suite as a whole (`suite.admin.metrics.family`)."""
        found: Iterable[Any] = family.read(self)
        return found


class CountedTurns(Turns):
    """Turns that know how long the work has taken, but for the first."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._clock = reactor
        self._began: float | None = None
        self._worked = 0.0

    @property
    def worked(self) -> float:
        """Seconds of work in all turns but the first."""
        return self._worked if self._began is None else self._worked + self._clock.seconds() - self._began

    @override
    async def one_if_due(self) -> None:
        if self.is_due:
            self._worked, self._began = self.worked, None
            await super().one_if_due()
            self._began = self._clock.seconds()


class Observer:
    """Observes the suite of *site*, one request at a time."""

    def __init__(self, site: Site) -> None:
        self.lock = DeferredLock()
        self._site = site

    async def observe(self, turns: Turns) -> Snapshot:
        """What is known now. While one looks, no other may."""
        suite = self._site.suite
        ready = not await reasons_against(suite, turns)
        found: dict[Key, Observed] = {}
        with suite.tally.read() as reading:
            async for endpoint in turns.between(suite.every_endpoint):
                key, counts = await reading.counts(endpoint, turns)
                serves = suite.endpoints.get(key.endpoint) is endpoint
                observed = found.setdefault(key, Observed(reading.past.get(key, Counts())))
                observed.counts += counts
                await self._add(observed, endpoint, serves, turns)
        return Snapshot(self._site, found, ready)

    async def _add(self, observed: Observed, endpoint: RunningEndpoint, serves: bool, turns: Turns) -> None:
        if endpoint.guard is not None:
            observed.streams = True
            observed.tls = observed.tls or endpoint.guard.handshakes
            connections = [*endpoint.guard.open]
            phases = observed.phases = observed.phases or Counter()
            async for first in turns.between(range(0, len(connections), SOME)):
                phases.update([each.phase for each in connections[first : first + SOME]])
        observed.datagrams = observed.datagrams or endpoint.datagrams is not None
        if serves:
            observed.listening, observed.paused = endpoint.listens, endpoint.paused
            identities = self._site.suite.plan.credentials.identities(endpoint.description)
            ends = [
                certificate.not_valid_after_utc.timestamp()
                for identity in identities
                for certificate in (identity.certificate, *identity.chain)
            ]
            observed.expiry = min(ends, default=None)
