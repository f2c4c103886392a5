"""The text of a scrape, in pieces and in one, and who gets which format."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from typing_extensions import override

from suite.admin.lag import Lag
from suite.admin.metrics import exposition
from suite.admin.metrics.exposition import OPENMETRICS, SAMPLES, TEXT, Format, _lines, _One, chosen
from suite.admin.metrics.families import FAMILIES
from suite.admin.metrics.observed import CountedTurns, Observed, Snapshot
from suite.admin.metrics.of_endpoints import ENDPOINTS
from suite.admin.metrics.of_suite import SUITE
from suite.guard.sweep import Phase
from suite.server.counts import Counts
from suite.server.operations import Reloads
from suite.server.pauses import SLICE, Turns
from suite.server.tally import Key


class SlowClock(Clock):
    """Time passes whenever somebody looks at it.

    :ivar turns: how often something has been left for later.
    """

    turns = 0

    @override
    def callLater(self, *args: Any, **kwargs: Any) -> Any:
        self.turns += 1
        return super().callLater(*args, **kwargs)

    @override
    def seconds(self) -> float:
        self.rightNow += SLICE / 4
        return self.rightNow


def snapshot_of(endpoints: int, clock: Clock) -> Snapshot:
    """What might be known of a suite with so many *endpoints*."""
    suite = SimpleNamespace(
        reactor=clock,
        started_at=1e9,
        draining=False,
        reloads=Reloads(),
        log=None,
        endpoints=range(endpoints),
        every_endpoint=range(endpoints),
        not_served=[],
    )
    budget = SimpleNamespace(spent=0.5)
    factory = SimpleNamespace(budget=budget, open={}, refused=2)
    site: Any = SimpleNamespace(suite=suite, factory=factory, lag=Lag(clock))
    observed = {
        Key(f"endpoint-{number}", "TCP"): Observed(
            counts=Counts(open=number, accepted=number, ended={"closed": number}),
            listening=True,
            paused=False,
            streams=True,
        )
        for number in range(endpoints)
    }
    for each in observed.values():
        each.phases = Counter({Phase.ANSWERING: each.counts.open})
    return Snapshot(site, observed, ready=True)


def text_of(snapshot: Snapshot, form: Format, turns: Turns, clock: Clock) -> bytes:
    """The whole text, however many turns it takes."""
    done = Deferred.fromCoroutine(exposition.text_of(exposition.read(snapshot, turns), form))
    while not done.called:
        clock.advance(0)
    found: list[bytes] = []
    done.addCallback(found.append)
    [text] = found
    return text


def test_pieces_make_one_text() -> None:
    clock = SlowClock()
    snapshot = snapshot_of(SAMPLES * 2 + 10, clock)
    text = text_of(snapshot, TEXT, Turns(clock), clock)
    whole = b"".join(
        generate_latest(cast(Any, _One(family.metric(family.read(snapshot)))))
        for family in SUITE
        if not family.name.startswith("process_")
    )
    assert text.startswith(whole)
    for family in FAMILIES:
        assert text.count(f"# TYPE {family.name} ".encode()) == 1
        assert text.count(f"# HELP {family.name} ".encode()) == 1
    for family in ENDPOINTS:
        values = [value for key, seen in snapshot.endpoints.items() for value in family.values(key, seen)]
        lines = generate_latest(cast(Any, _One(family.metric(values))))
        assert lines in text


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
def test_lines_are_those_of_the_library(form: Format) -> None:
    """Whatever is in a label, and however large a value is."""
    family = next(each for each in ENDPOINTS if each.name == "echo_suite_tls_handshakes_total")
    strange = ('"quoted"', "back\\slash\\n", "two\nlines", "größer", "")
    values: list[Any] = [
        (strange[:5], 1),
        (("a", "b", "c", "d", "e"), 2**53),
        (("a", "b", "c", "d", "e"), 1e6),
        (("a", "b", "c", "d", "e"), 1.8e9 + 0.5),
        (("a", "b", "c", "d", "e"), 0.25),
    ]
    whole = form.write(cast(Any, _One(family.metric(values)))).removesuffix(form.end)
    head = form.write(cast(Any, _One(family.metric([])))).removesuffix(form.end)
    assert whole == head + _lines(family, values)


def test_openmetrics_in_pieces() -> None:
    clock = SlowClock()
    text = text_of(snapshot_of(SAMPLES + 1, clock), OPENMETRICS, Turns(clock), clock).decode()
    assert text.count("# EOF") == 1
    names = [family.name for family in parse_openmetrics(text)]
    assert names == [family.base for family in FAMILIES]


def test_others_have_their_turns() -> None:
    """The text about thousands of endpoints takes many turns, whose time is known."""
    clock = SlowClock()
    snapshot, turns = snapshot_of(SAMPLES * 20, clock), CountedTurns(clock)
    done = Deferred.fromCoroutine(exposition.text_of(exposition.read(snapshot, turns), TEXT))
    while not done.called:
        clock.advance(0)
    assert clock.turns > 20
    assert turns.worked >= clock.turns * SLICE / 4


def test_the_first_turn_is_not_counted() -> None:
    turns = CountedTurns(Clock())
    assert turns.worked == 0


PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,/;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.0, text/plain", TEXT),
        ("application/openmetrics-text;q=0.10", OPENMETRICS),
        (";;,=;,", TEXT),
        (PROMETHEUS_2_42, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
    ],
)
def test_formats(accept: str, form: Format) -> None:
    assert chosen(accept) is form
