"""What is said of a target that hangs, dies, comes back or was never there, with a clock of our own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from suite.client.load import document, report
from suite.client.load.options import Options
from suite.client.load.results import nothing_sent
from suite.client.load.schedule import Rate, Schedule
from suite.client.load.stats import AddressStats
from suite.engine.linux.timerfd import start_timer
from tests.client.load.simulated import TARGET, SimulatedTarget, Simulation


def rate(start: float, end: float | None = None) -> Rate:
    return Rate(start, start if end is None else end)


# A target that hangs.


def test_interrupted_while_it_hangs() -> None:
    """Messages that nobody answers are not "no errors"."""
    simulation = Simulation(SimulatedTarget(), rate=rate(500), duration=60)
    simulation.run(1)
    simulation.target.hangs = True
    simulation.run(3)
    simulation.measurement.interrupt()
    assert not simulation.measurement.finished.called, "answers have a moment to arrive"
    simulation.run(1)
    result = simulation.result
    assert result.interrupted
    assert result.due == pytest.approx(2000, abs=2)
    assert result.messages == pytest.approx(500, abs=2)
    assert result.oldest == pytest.approx(3.2, abs=0.05)
    assert result.errors == {}, "none has waited for longer than the timeout"
    assert result.rate == pytest.approx(125, abs=1)
    assert not result.ok
    lines = report.report(result)
    assert lines[1].startswith(
        f"{result.messages} of {result.due:,} messages in 4.00 s, then interrupted: 125/s"
    )
    assert f"{result.unanswered:,} unanswered, the oldest for 3.2 s" in lines
    assert "no errors" not in lines


def test_interrupted_what_is_beyond_the_timeout_is_an_error() -> None:
    simulation = Simulation(SimulatedTarget(), rate=rate(100), duration=60, timeout=1.0)
    simulation.run(1)
    simulation.target.hangs = True
    simulation.run(3)
    simulation.measurement.interrupt()
    simulation.run(1)
    result = simulation.result
    assert result.unanswered == pytest.approx(300, abs=2)
    assert result.errors == {"timeout": pytest.approx(220, abs=2)}, (
        "due more than 1 s before the end at 4.2 s"
    )


def test_interrupted_twice_it_waits_for_nothing() -> None:
    simulation = Simulation(SimulatedTarget(), rate=rate(100), duration=60)
    simulation.target.hangs = True
    simulation.run(1)
    simulation.measurement.interrupt()
    simulation.measurement.interrupt()
    assert simulation.result.unanswered == simulation.result.due


@pytest.mark.parametrize("pace", [None, rate(1000)], ids=["closed", "open"])
def test_interrupted_in_health_there_is_nothing_to_say(pace: Rate | None) -> None:
    """What is in flight at that moment is waited for; so an interruption is no error."""
    target = SimulatedTarget()
    target.latency = 0.15
    simulation = Simulation(target, rate=pace, duration=60)
    simulation.run(2)
    simulation.measurement.interrupt()
    simulation.run(1)
    result = simulation.result
    assert (result.interrupted, result.unanswered, result.oldest, result.ok) == (True, 0, None, True)
    assert report.error_lines(result) == ["no errors"]


def test_a_target_that_hangs_to_the_end() -> None:
    simulation = Simulation(SimulatedTarget(), rate=rate(100), duration=2, timeout=1.0)
    simulation.run(1)
    simulation.target.hangs = True
    simulation.run(5)
    result = simulation.result
    assert result.due == 200
    assert result.seconds == pytest.approx(2, abs=0.01)
    assert result.errors == {"timeout": result.unanswered}
    assert result.unanswered == pytest.approx(100, abs=2)


# Connections that break.


def test_all_connections_break_and_none_can_be_opened_again() -> None:
    simulation = Simulation(SimulatedTarget(), rate=rate(1000), duration=3, timeout=1.0)
    simulation.run(1)
    simulation.target.refuses = True
    simulation.target.drop()
    simulation.run(10)
    result = simulation.result
    assert result.due == 3000
    assert result.messages == pytest.approx(1000, abs=12)
    assert result.rate == pytest.approx(333, abs=5), "over the planned time, not until it died"
    assert result.errors["closed"] == 10
    assert result.errors["refused"] >= 20
    assert result.errors["timeout"] == pytest.approx(2000, abs=12)
    assert not result.ok


def test_without_reconnect_it_ends_at_once_and_counts_what_was_planned() -> None:
    simulation = Simulation(SimulatedTarget(), rate=rate(1000), duration=3, reconnect=False)
    simulation.run(1)
    simulation.target.drop()
    result = simulation.result
    assert (result.due, result.seconds) == (3000, 3.0)
    assert result.messages == pytest.approx(1000, abs=12)
    assert result.unanswered == 3000 - result.messages
    assert result.rate == pytest.approx(333, abs=5)
    assert result.errors == {"closed": 10}
    assert result.dead_after == pytest.approx(1, abs=0.01)
    assert result.oldest == pytest.approx(2, abs=0.01), "at the planned end"
    assert "note: no connection was left after 1.00 s" in report.report(result)


def test_a_closed_loop_that_dies_has_a_rate_over_the_planned_time() -> None:
    simulation = Simulation(SimulatedTarget(), duration=10)
    simulation.run(1)
    simulation.target.drop()
    result = simulation.result
    assert result.seconds == 10
    assert result.rate == pytest.approx(result.messages / 10)
    assert (result.unanswered, result.errors) == (10, {"closed": 10})


def test_some_connections_break_and_what_is_due_on_them_is_counted() -> None:
    simulation = Simulation(SimulatedTarget(), rate=rate(1000), duration=3, reconnect=False, timeout=1.0)
    simulation.run(1)
    simulation.target.drop(2)
    simulation.run(10)
    result = simulation.result
    assert result.due == 3000
    assert result.unanswered == pytest.approx(400, abs=5)
    assert result.errors == {"closed": 2, "timeout": pytest.approx(200, abs=5)}
    assert result.dead_after is None


@pytest.mark.parametrize("reconnect", [None, True])
def test_connections_are_opened_again_and_nothing_that_was_due_is_left_out(*, reconnect: bool | None) -> None:
    """What is due meanwhile is sent later, and has waited from when it was due."""
    simulation = Simulation(SimulatedTarget(), rate=rate(1000), duration=3, reconnect=reconnect)
    simulation.run(1)
    simulation.target.refuses = True
    simulation.target.drop()
    simulation.run(0.5)
    simulation.target.refuses = False
    simulation.run(5)
    result = simulation.result
    assert result.due == 3000
    assert result.unanswered == pytest.approx(0, abs=12), "those in flight when it broke"
    assert 400_000 < result.latency.greatest < 1_000_000
    assert result.errors["closed"] == 10
    assert len(simulation.target.streams) == 10


def test_a_closed_loop_opens_again_when_asked_to() -> None:
    simulation = Simulation(SimulatedTarget(), duration=2, reconnect=True, window=3)
    simulation.run(1)
    simulation.target.drop()
    simulation.run(0.5)
    before = sum(stats.histogram.total for stats in simulation.target.stats)
    simulation.run(5)
    result = simulation.result
    assert result.messages > before + 1000
    assert (result.unanswered, result.errors) == (30, {"closed": 10})


def test_a_target_that_closes_after_each_answer() -> None:
    """As in https://github.com/giltene/wrk2/issues/5: the delay of a retry is not in the latencies."""
    target = SimulatedTarget()
    target.closes = True
    simulation = Simulation(target, rate=rate(200), duration=2)
    simulation.run(5)
    result = simulation.result
    assert (result.due, result.messages) == (400, 400)
    assert result.errors["closed"] == pytest.approx(400, abs=10)
    assert result.latency.greatest < 10_000


def test_a_target_that_accepts_and_closes_is_asked_less_and_less_often() -> None:
    target = SimulatedTarget()
    target.hangs = True
    simulation = Simulation(target, rate=rate(10), duration=20, connections=1, timeout=1.0)
    for _ in range(2000):
        simulation.run(0.01)
        target.drop()
    simulation.run(5)
    result = simulation.result
    assert 8 <= result.errors["closed"] <= 16, "after 0.1, 0.2, … and then every 2 s"
    assert result.messages == 0
    assert result.unanswered == result.due == 200


@pytest.mark.parametrize(
    ("pace", "note"),
    [
        (None, "note: this client stood still for 3.00 s, which is part of the latencies"),
        (rate(100), "note: this client sent up to 3 s late, which is part of the latencies"),
    ],
    ids=["closed", "open"],
)
def test_a_client_that_was_suspended_says_so(pace: Rate | None, note: str) -> None:
    """As in a virtual machine that was paused: what it saw meanwhile says nothing about the target."""
    simulation = Simulation(SimulatedTarget(), rate=pace, duration=10)
    simulation.run(2)
    simulation.target.clock.advance(3)
    simulation.run(10)
    result = simulation.result
    assert result.ok
    assert note in report.report(result)


# A warm-up, and a ramp.


@pytest.mark.parametrize("pace", [None, rate(300)], ids=["closed", "open"])
def test_a_warm_up_is_in_no_figure(pace: Rate | None) -> None:
    """The target is slow at first; what was sent in the warm-up does not count, whenever it is answered."""
    target = SimulatedTarget()
    target.latency = 0.2
    simulation = Simulation(target, rate=pace, duration=2, warmup=1.0, connections=3)
    simulation.run(0.7)
    target.latency = 0.05
    simulation.run(5)
    result = simulation.result
    assert result.seconds == pytest.approx(2, abs=0.01)
    assert result.latency.greatest < 60_000
    assert (result.unanswered, result.ok) == (0, True)
    assert simulation.shown[0].messages > 0, "the progress shows them"
    assert result.over_time[0].start == 0
    if pace is not None:
        assert result.due == result.messages == 600


@pytest.mark.parametrize("pace", [None, rate(300)], ids=["closed", "open"])
def test_errors_of_a_warm_up_are_errors_but_in_no_row(pace: Rate | None) -> None:
    """Nor is the first row less than nothing, as in https://github.com/esnet/iperf/issues/914."""
    simulation = Simulation(SimulatedTarget(), rate=pace, duration=2, warmup=1.0, reconnect=True)
    simulation.run(0.3)
    simulation.target.drop(4)
    simulation.run(5)
    result = simulation.result
    assert result.errors == {"closed": 4}
    assert [row.errors for row in result.over_time] == [0] * len(result.over_time)
    assert (result.unanswered, result.ok) == (0, False)


def test_connections_that_could_not_be_opened_are_missed() -> None:
    """As https://github.com/wg/wrk/issues/509 asks: fewer connections are another load."""
    simulation = Simulation(SimulatedTarget(), duration=0.2, connections=7)
    simulation.run(1)
    result = replace(simulation.result, options={**simulation.result.options, "connections": 1000})
    assert report.report(result)[0].startswith("tcp:127.0.0.1:1: 7 of 1,000 connections, messages of 100 B")


def test_interrupted_in_the_warm_up_nothing_was_measured() -> None:
    simulation = Simulation(SimulatedTarget(), rate=rate(300), duration=2, warmup=1.0)
    simulation.run(0.5)
    simulation.measurement.interrupt()
    simulation.run(1)
    result = simulation.result
    assert (result.due, result.rate, result.seconds, result.ok) == (0, None, None, False)
    assert report.report(result)[1] == "0 messages: –, interrupted before anything was measured"  # noqa: RUF001


def test_a_ramp() -> None:
    simulation = Simulation(SimulatedTarget(), rate=rate(100, 1900), duration=4)
    simulation.run(6)
    result = simulation.result
    assert result.due == result.messages == 4000
    assert result.options["rate"] == [100, 1900]
    rows = result.over_time
    assert sum(row.messages for row in rows) == 4000
    early = sum(row.messages for row in rows if row.start < 1)
    late = sum(row.messages for row in rows if row.start >= 3)
    assert early == pytest.approx(325, rel=0.15)
    assert late == pytest.approx(1675, rel=0.1)
    assert "open loop, 100 to 1,900 messages/s due" in report.report(result)[0]


# The rate.


def test_a_rate_of_20000_over_64_connections_is_reached_with_few_calls() -> None:
    """All that is due is sent when it is due, with so few calls that one core suffices; nothing is timed."""
    calls = 0

    def count(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call" and "/suite/client/load/" in frame.f_code.co_filename

    target = SimulatedTarget()
    simulation = Simulation(target, rate=rate(20_000), duration=0.5, connections=64)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        simulation.run(1)
    finally:
        sys.setprofile(before)
    result = simulation.result
    assert result.due == result.messages == 10_000
    assert result.rate == pytest.approx(20_000, rel=0.01)
    assert calls / result.messages < 12


def test_ticks_stay_where_messages_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks are whole nanoseconds, and would drift away from an interval that is not."""
    begins: list[int] = []

    def start(reactor: Any, begin: int, interval: int, tick: Callable[[], None]) -> Callable[[], None]:
        begins.append(begin)
        return start_timer(reactor, begin, interval, tick)

    monkeypatch.setattr("suite.client.load.measurement.start_timer", start)
    simulation = Simulation(SimulatedTarget(), rate=rate(300), duration=10)
    simulation.run(15)
    assert simulation.result.messages == 3000
    schedule = Schedule(rate(300), 10)
    due = {schedule.due(number) for number in range(3001)}
    assert len(begins) >= 10
    assert set(begins) <= due


# Several addresses.


def test_results_can_be_read_by_address() -> None:
    target = SimulatedTarget(addresses=2)
    simulation = Simulation(target, rate=rate(100), duration=2, connections=4, timeout=1.0, reconnect=False)
    simulation.run(1)
    for stream in [each for each in target.streams if each.index % 2]:
        target.lose(stream)
    simulation.run(5)
    result = simulation.result
    first, second = result.addresses
    assert (first.connections, second.connections) == (2, 2)
    assert first.messages == 100
    assert second.messages == pytest.approx(50, abs=2)
    assert (first.errors.get("closed"), second.errors["closed"]) == (None, 2)
    assert result.examples["closed"].startswith("127.0.0.2:1: by the other side")
    lines = report.address_lines(result.addresses)
    assert lines[0].split() == ["address", "connections", "messages/s", "50", "%", "99", "%", "max", "errors"]
    assert lines[1].startswith("  127.0.0.1:1            2          50 ")
    assert "closed 2" in lines[2]


# No connection at all.


def test_a_dead_target_has_no_figures() -> None:
    stats = AddressStats("127.0.0.1:1")
    stats.errors["refused"] = 1
    stats.examples["refused"] = "Connection refused"
    dead = nothing_sent(Options(TARGET), [stats])
    alive = Simulation(SimulatedTarget(), rate=rate(100), duration=1)
    alive.run(3)
    header, first, second = report.comparison([("dead", dead), ("alive", alive.result)])
    assert header.split()[:4] == ["result", "messages/s", "answered", "errors"]
    assert first.split() == ["dead", "–", "–", "1", "–", "–", "–", "–", "–"]  # noqa: RUF001
    assert second.split()[:5] == ["alive", "100", "100", "%", "0"]


def test_all_but_one_are_not_all() -> None:
    """A share is rounded down."""
    simulation = Simulation(SimulatedTarget(), rate=rate(30_000), duration=1, connections=1, timeout=0.1)
    simulation.run(0.999)
    simulation.target.hangs = True
    simulation.run(3)
    (_, line) = report.comparison([("x", simulation.result)])
    assert " 100 %" not in line


def test_a_document_can_be_read_again(tmp_path: Any) -> None:
    simulation = Simulation(SimulatedTarget(addresses=2), rate=rate(100), duration=1, timeout=0.5)
    simulation.target.hangs = True
    simulation.run(3)
    dead = nothing_sent(Options(TARGET), [AddressStats("127.0.0.1:1")], interrupted=True)
    for number, result in enumerate((simulation.result, dead)):
        file = tmp_path / f"{number}.json"
        file.write_text(document.to_json(result))
        again = document.read(file)
        assert document.to_json(again) == document.to_json(result)
        assert again.latency == result.latency
