"""The metrics of a suite with workers, in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from suite.admin.http import AdminFactory
from suite.admin.lag import Lag
from suite.admin.metrics.exposition import OPENMETRICS, TEXT, read, text_of
from suite.admin.metrics.family import PREFIX, Value
from suite.admin.metrics.observed import Observed
from suite.admin.metrics.of_suite import SUITE
from suite.admin.metrics.of_workers import WORKERS
from suite.admin.workers.metrics import ACCUMULATING, RULES, WholeSnapshot, new_ledger, read_by_worker
from suite.server.counts import Counts
from suite.server.operations import Reloads
from suite.server.pauses import Turns
from suite.server.tally import Key
from tests.admin.workers.test_told import at_once

TCP = Key("tcp", "TCP")


def worker(number: int, state: str = "serving", restarts: int = 0) -> Any:
    return SimpleNamespace(number=number, state=state, restarts=restarts)


def snapshot_of(clock: Clock, *workers: Any) -> WholeSnapshot:
    """Of a suite whose worker 1 has accepted 3 connections, and worker 2, which does not answer, 4."""
    ledger = new_ledger()
    for number, count in ((1, 3), (2, 4)):
        observed = Observed(Counts(accepted=count), listening=True, paused=False, streams=True)
        values: dict[str, list[Value]] = {
            "process_cpu_seconds_total": [((), float(count))],
            f"{PREFIX}endpoints": [(("serving",), 1), (("leaving",), number)],
            f"{PREFIX}reactor_timers": [((), 5)],
        }
        ledger.hear(number, 100 + number, {TCP: observed}, [], values)
    suite: Any = SimpleNamespace(
        reactor=clock,
        workers=[*workers],
        started_at=1.0,
        draining=False,
        reloads=Reloads(good=2),
        log=None,
        endpoints={},
        every_endpoint=[],
        not_served=[],
    )
    factory = AdminFactory(clock, SimpleNamespace())  # type: ignore[arg-type]  # nobody asks it
    site: Any = SimpleNamespace(suite=suite, factory=factory, lag=Lag(clock))
    endpoints = at_once(ledger.endpoints([1], Turns(clock)))
    return WholeSnapshot(site, endpoints, True, ledger, [1])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    for name, value in (("cpu_seconds", 10.0), ("resident_bytes", 1000)):
        monkeypatch.setattr(f"suite.admin.metrics.of_suite.{name}", lambda value=value: value)
    return Clock()


def text(reading: Any, snapshot: WholeSnapshot, clock: Clock, form: Any = TEXT) -> str:
    found: list[bytes] = []
    done = Deferred.fromCoroutine(text_of(reading(snapshot, Turns(clock)), form))
    done.addCallback(found.append)
    while not done.called:
        clock.advance(0)
    return found[0].decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """The values, by name and the values of the labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_each_metric_of_the_suite_has_a_rule() -> None:
    assert RULES.keys() == {family.name for family in SUITE}
    kinds = {family.kind for family in ACCUMULATING}
    assert kinds == {"counter", "histogram"}


def test_summed(clock: Clock) -> None:
    workers = worker(1), worker(2, "gone", restarts=3), worker(3, "ending")
    found = samples(text(read, snapshot_of(clock, *workers), clock))
    assert found[f"{PREFIX}connections_accepted_total", "tcp", "TCP"] == 7
    assert found["process_cpu_seconds_total",] == 17
    assert found[f"{PREFIX}reloads_total", "good"] == 2
    assert found[f"{PREFIX}start_time_seconds",] == 1
    # Of one that does not answer nothing is told that is so only now.
    assert found[f"{PREFIX}reactor_timers",] == 5
    assert found[f"{PREFIX}endpoints", "leaving"] == 1
    assert found[f"{PREFIX}endpoint_listening", "tcp", "TCP"] == 1
    assert [found[f"{PREFIX}workers", state] for state in ("starting", "serving", "gone")] == [0, 1, 2]
    assert found[f"{PREFIX}worker_restarts_total", "2"] == 3


def test_by_worker(clock: Clock) -> None:
    whole = text(read_by_worker, snapshot_of(clock, worker(1), worker(2, "gone")), clock)
    found = samples(whole)
    accepted = f"{PREFIX}connections_accepted_total", "tcp", "TCP"
    assert [found[*accepted, number] for number in ("1", "2")] == [3, 4]
    cpu = [found["process_cpu_seconds_total", each] for each in ("1", "2", "supervisor")]
    assert cpu == [3, 4, 10]
    assert found[f"{PREFIX}reactor_timers", "1"] == 5
    assert (f"{PREFIX}reactor_timers", "2") not in found
    assert found[f"{PREFIX}reloads_total", "good"] == 2
    for family in (*SUITE, *WORKERS):
        assert whole.count(f"# TYPE {family.name} ") == 1


@pytest.mark.parametrize("reading", [read, read_by_worker])
def test_openmetrics(reading: Any, clock: Clock) -> None:
    whole = text(reading, snapshot_of(clock, worker(1), worker(2)), clock, OPENMETRICS)
    names = [family.name for family in parse_openmetrics(whole)]
    assert f"{PREFIX}worker_restarts" in names
    assert len({*names}) == len(names)
