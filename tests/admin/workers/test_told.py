"""What is kept of what workers tell: nothing that has been counted is lost or counted twice."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Coroutine
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from suite.admin.lag import Histogram
from suite.admin.metrics.family import SuiteFamily, Value
from suite.admin.metrics.observed import Observed
from suite.admin.workers.told import Ledger, largest, merged, past_of, summed
from suite.guard.handshakes import Handshake
from suite.guard.sweep import Phase
from suite.server.counts import Counts
from suite.server.pauses import Turns
from suite.server.tally import Key

TCP, UDP = Key("tcp", "TCP"), Key("udp", "UDP")

CPU = SuiteFamily("cpu_total", "counter", "")
MEMORY = SuiteFamily("memory", "gauge", "")


def seen(accepted: int, opened: int = 0, **others: Any) -> Observed:
    """An endpoint at which so many connections have been accepted."""
    phases = Counter({Phase.ANSWERING: opened})
    counts = Counts(open=opened, accepted=accepted, ended={"closed": accepted - opened})
    return Observed(counts, listening=True, paused=False, phases=phases, streams=True, **others)


def at_once(coroutine: Coroutine[Deferred[Any], Any, Any]) -> Any:
    """The result of *coroutine*, which needs no turn."""
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addCallback(found.append)
    return found[0]


def endpoints(ledger: Ledger, *answered: int) -> dict[Key, Observed]:
    found: dict[Key, Observed] = at_once(ledger.endpoints(answered, Turns(Clock())))
    return found


def past(ledger: Ledger, answered: dict[int, int]) -> int:
    counts: Counts = at_once(ledger.past_counts(answered, Turns(Clock())))[TCP]
    return counts.accepted


def accepted(ledger: Ledger, *answered: int) -> int:
    found = endpoints(ledger, *answered)
    return found[TCP].counts.accepted if TCP in found else 0


def test_what_a_worker_is_about_to_tell_can_be_sent() -> None:
    observed = seen(3, 1, expiry=1.5, tls=True)
    observed.counts = Counts(handshakes={Handshake("TLSv1.3", "TLS_AES_128_GCM_SHA256", True): 2})
    histogram = Histogram()
    histogram.add(0.25)
    told = ({TCP: observed}, [UDP], {"lag": [((), histogram)]})
    endpoints, gone, values = pickle.loads(pickle.dumps(told))
    assert (endpoints, gone) == ({TCP: observed}, [UDP])
    assert [*values["lag"][0][1].cumulative()] == [*histogram.cumulative()]


# Of one endpoint.


def test_an_endpoint_listens_if_it_does_everywhere_and_is_paused_if_it_is_anywhere() -> None:
    whole = merged([seen(1), Observed(listening=False, paused=True), Observed()])
    assert (whole.listening, whole.paused) == (False, True)
    assert merged([Observed()]).listening is None
    assert merged([Observed(expiry=3.0), Observed(expiry=2.0), Observed()]).expiry == 2.0
    assert merged([seen(3, 2), seen(4, 1)]).phases == {Phase.ANSWERING: 3}
    assert merged([seen(3, 2), past_of(seen(4, 1))]).phases == {Phase.ANSWERING: 2}
    assert merged([past_of(seen(4, 1), late=True), seen(3, 2)]).phases is None


def test_values_by_labels() -> None:
    one: list[Value] = [(("a",), 1), (("b",), None)]
    other: list[Value] = [(("a",), 2), (("c",), 5)]
    assert summed([one, other]) == [(("a",), 3), (("c",), 5)]
    assert largest([one, other]) == [(("a",), 2), (("c",), 5)]


def test_histograms_are_added_bucket_by_bucket() -> None:
    one, other = Histogram(), Histogram()
    one.add(0.0004)
    other.add(0.3)
    [(_, whole)] = summed([[((), one)], [((), other)]])
    assert isinstance(whole, Histogram)
    assert whole.sum == 0.3004
    assert dict(whole.cumulative())[0.0005] == 1
    assert dict(whole.cumulative())[0.5] == dict(whole.cumulative())[float("inf")] == 2


# Of all workers.


def test_the_successor_of_a_worker_counts_on() -> None:
    ledger = Ledger([CPU])
    ledger.hear(1, 100, {TCP: seen(5, 2)}, [], {"cpu_total": [((), 2.5)], "memory": [((), 7)]})
    ledger.hear(2, 200, {TCP: seen(3)}, [], {"cpu_total": [((), 1.0)], "memory": [((), 8)]})
    assert accepted(ledger, 1, 2) == 8
    # Nobody has heard of worker 1 for a while: it may be gone.
    assert accepted(ledger, 2) == 8
    assert endpoints(ledger, 2)[TCP].counts.open == 0
    assert ledger.values_of(1, MEMORY, answered=False) == []
    assert ledger.values_of(1, CPU, answered=False) == [((), 2.5)]
    assert past(ledger, {2: 200}) == 5
    # It is, and another has its number.
    ledger.hear(1, 101, {TCP: seen(1, 1)}, [], {"cpu_total": [((), 0.5)]})
    assert accepted(ledger, 1, 2) == 9
    assert endpoints(ledger, 1, 2)[TCP].counts.ended == {"closed": 6}
    assert ledger.values_of(1, CPU, answered=True) == [((), 3.0)]
    assert past(ledger, {1: 101, 2: 200}) == 5
    # What has answered is another than what has told.
    assert past(ledger, {1: 102, 2: 200}) == 6


def test_an_endpoint_is_known_until_no_worker_and_no_configuration_has_it() -> None:
    ledger = Ledger([])
    ledger.hear(1, 100, {TCP: seen(5)}, [], {})
    ledger.hear(1, 101, {}, [], {})
    ledger.keep_only([TCP])
    assert accepted(ledger, 1) == 5
    assert endpoints(ledger, 1)[TCP].listening is None
    ledger.keep_only([UDP])
    assert endpoints(ledger, 1) == {}


class Workers(RuleBasedStateMachine):
    """Workers that count, tell now and then, and die; nothing that was told goes down, or is told twice."""

    numbers = st.integers(1, 3)

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger([CPU])
        self.pid = 0
        self.pids: dict[int, int] = {}
        self.counts: dict[int, int] = {}
        self.told: dict[int, int] = {}
        self.total = 0
        for number in (1, 2, 3):
            self.start(number)

    def start(self, number: int) -> None:
        self.pid += 1
        self.pids[number], self.counts[number], self.told[number] = self.pid, 0, 0

    @rule(number=numbers, more=st.integers(0, 3))
    def count(self, number: int, more: int) -> None:
        self.counts[number] += more

    @rule(number=numbers)
    def tell(self, number: int) -> None:
        count = self.counts[number]
        self.total += count - self.told[number]
        self.told[number] = count
        self.ledger.hear(number, self.pids[number], {TCP: seen(count)}, [], {"cpu_total": [((), count)]})

    @rule(number=numbers)
    def die(self, number: int) -> None:
        self.start(number)

    @invariant()
    def everything_told_is_known(self) -> None:
        if hasattr(self, "ledger"):
            for answered in ([], [1], [1, 2, 3]):
                assert accepted(self.ledger, *answered) == self.total
                each = [self.ledger.values_of(n, CPU, answered=n in answered) for n in self.ledger.numbers]
                assert sum(cast(float, value) for values in each for _, value in values) == self.total


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=50, stateful_step_count=30)
