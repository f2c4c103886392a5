"""The metrics of a suite with workers: what they have told, summed, or by worker.

Rules: counters and histograms are added up, and outlive the worker that has counted; what is so of the suite
as a whole (when it was started, its reloads, its own sockets) is the supervisor's alone; its share of what
processes use and log is added to theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import chain
from typing import Any, Final

from suite.admin.metrics.exposition import pieces_of
from suite.admin.metrics.family import PREFIX, EndpointFamily, Family, SuiteFamily, Value
from suite.admin.metrics.observed import Observed, Snapshot
from suite.admin.metrics.of_endpoints import ENDPOINTS
from suite.admin.metrics.of_suite import SUITE
from suite.admin.metrics.of_workers import WORKERS
from suite.admin.workers.told import Ledger, largest, summed
from suite.server.pauses import Turns
from suite.server.tally import Key


class Rule(Enum):
    """How the values of several workers become the suite's."""

    #: The supervisor's own.
    OWN = auto()
    #: The sum of the workers'.
    SUM = auto()
    #: The sum of theirs and the supervisor's own.
    SUM_OF_ALL = auto()
    #: The largest of the workers'.
    LARGEST = auto()
    #: The largest of theirs and the supervisor's own: each process has a limit of its own.
    LARGEST_OF_ALL = auto()


#: The rule of each metric of the suite as a whole.
RULES: Final[Mapping[str, Rule]] = {
    f"{PREFIX}build_info": Rule.OWN,
    f"{PREFIX}start_time_seconds": Rule.OWN,
    f"{PREFIX}ready": Rule.OWN,
    f"{PREFIX}draining": Rule.OWN,
    f"{PREFIX}endpoints": Rule.LARGEST,
    f"{PREFIX}reloads_total": Rule.OWN,
    f"{PREFIX}last_reload_successful": Rule.OWN,
    f"{PREFIX}last_reload_timestamp_seconds": Rule.OWN,
    f"{PREFIX}log_lines_suppressed_total": Rule.SUM_OF_ALL,
    f"{PREFIX}log_lines_lost_total": Rule.SUM_OF_ALL,
    f"{PREFIX}reactor_lag_seconds": Rule.SUM,
    f"{PREFIX}reactor_turn_seconds": Rule.SUM,
    f"{PREFIX}reactor_timers": Rule.SUM,
    f"{PREFIX}connections_polled": Rule.SUM,
    f"{PREFIX}admin_busy_seconds_total": Rule.SUM_OF_ALL,
    f"{PREFIX}admin_connections_open": Rule.OWN,
    f"{PREFIX}admin_connections_refused_total": Rule.OWN,
    "process_cpu_seconds_total": Rule.SUM_OF_ALL,
    "process_resident_memory_bytes": Rule.SUM_OF_ALL,
    "process_open_fds": Rule.LARGEST_OF_ALL,
    "process_max_fds": Rule.LARGEST_OF_ALL,
}

#: Those to which the supervisor has its share.
_OF_ALL: Final = (Rule.SUM_OF_ALL, Rule.LARGEST_OF_ALL)

#: What workers tell.
TOLD: Final = tuple(family for family in SUITE if RULES[family.name] is not Rule.OWN)

#: Of that, what outlives them.
ACCUMULATING: Final = tuple(family for family in TOLD if family.kind in ("counter", "histogram"))

#: What stands for the supervisor where a worker's number does.
SUPERVISOR: Final = "supervisor"


@dataclass(frozen=True)
class WholeSnapshot(Snapshot):
    """What is known of a suite with workers at a moment.

    :ivar ledger: what they have told.
    :ivar answered: the numbers of those that have just told.
    :ivar late: the numbers of those that should have; what only they could say of now is not known.
    """

    more = WORKERS

    ledger: Ledger
    answered: Collection[int]
    late: Collection[int] = ()

    def values(self, family: SuiteFamily) -> Iterable[Value]:
        """`Snapshot.values`."""
        rule = RULES.get(family.name, Rule.OWN)
        if rule is Rule.OWN:
            return family.read(self)
        if self.late and family.kind == "gauge" and rule is not Rule.LARGEST:
            return ()
        each = [values for _, values in self._of_workers(family)]
        if rule in _OF_ALL:
            each.append([*family.read(self)])
        return largest(each) if rule in (Rule.LARGEST, Rule.LARGEST_OF_ALL) else summed(each)

    def values_by_worker(self, family: SuiteFamily) -> Iterable[Value]:
        """The values of *family* with a label more, which comes first: the worker."""
        for number, values in self._of_workers(family):
            for labels, value in values:
                yield (str(number), *labels), value
        if RULES[family.name] in _OF_ALL:
            for labels, value in family.read(self):
                yield (SUPERVISOR, *labels), value

    def _of_workers(self, family: Family) -> list[tuple[int, list[Value]]]:
        ledger = self.ledger
        return [
            (number, ledger.values_of(number, family, answered=number in self.answered))
            for number in ledger.numbers
        ]

    def endpoints_by_worker(self) -> Iterable[tuple[str, Mapping[Key, Observed]]]:
        """The endpoints of each worker."""
        for number in self.ledger.numbers:
            answered, late = number in self.answered, number in self.late
            yield str(number), self.ledger.endpoints_of(number, answered=answered, late=late)


def with_worker(family: Any) -> Any:
    """*family*, with a label more, which comes first: the worker."""
    return replace(family, labels=("worker", *family.labels))


async def read_by_worker(snapshot: WholeSnapshot, turns: Turns) -> AsyncIterator[tuple[Family, list[Value]]]:
    """As `suite.admin.metrics.exposition.read`, by worker where something is so of each."""
    for family in (*SUITE, *WORKERS):
        await turns.one_if_due()
        if RULES.get(family.name, Rule.OWN) is Rule.OWN:
            yield family, [*snapshot.values(family)]
        else:
            yield with_worker(family), [*snapshot.values_by_worker(family)]
    by_worker = [*snapshot.endpoints_by_worker()]
    for each in ENDPOINTS:
        labelled = with_worker(each)
        async for piece in turns.between(pieces_of(_values(each, by_worker))):
            yield labelled, piece


def _values(
    family: EndpointFamily, by_worker: Iterable[tuple[str, Mapping[Key, Observed]]]
) -> Iterable[Value]:
    for worker, endpoints in by_worker:
        for labels, value in chain.from_iterable(family.values(key, seen) for key, seen in endpoints.items()):
            yield (worker, *labels), value


def new_ledger() -> Ledger:
    """A ledger in which nothing stands."""
    return Ledger(ACCUMULATING)
