"""`suite.server.pauses` and `threads`: what is done to thousands of endpoints lets everything else go on."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from suite.errors import StoppingError
from suite.server import pauses
from suite.server.pauses import SLICE, Turns, short_intervals, without_collections
from suite.server.plan import Plan
from suite.server.service import EchoSuite
from suite.server.status import log_status
from suite.server.threads import defer_to_daemon
from tests.helpers import SuiteReactor, write_config
from tests.running import running, wait_until

# Turns.


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[Deferred[None]]:
    """Work that lets everything else have its turn."""
    waiting: list[Deferred[None]] = []

    def defer_later(_reactor: object, _delay: float, _call: object) -> Deferred[None]:
        waiting.append(Deferred())
        return waiting[-1]

    monkeypatch.setattr(pauses, "deferLater", defer_later)
    return waiting


class SlowReactor(SuiteReactor):
    """Where half a turn's time passes whenever somebody looks at the clock."""

    def seconds(self) -> float:
        self.rightNow += SLICE / 2
        now: float = super().seconds()
        return now


def suite_of(reactor: Any, directory: Path, config: str) -> EchoSuite:
    """A suite that serves *config*."""
    suite = EchoSuite(reactor, plan_of(directory, config), lambda _: None)
    suite.startService()
    return suite


def plan_of(directory: Path, config: str) -> Plan:
    return Plan(write_config(directory, config), mint=True)


#: A configuration.
TEN: Final = "[endpoints]\n" + "".join(f'e{number} = "unix:{number}.sock"\n' for number in range(10))


def test_long_work_is_done_in_turns(waiting: list[Deferred[None]]) -> None:
    clock = Clock()
    done: list[int] = []

    async def work() -> None:
        async for item in Turns(clock).between(range(5)):
            done.append(item)
            clock.advance(SLICE * 0.6)

    working = Deferred.fromCoroutine(work())
    assert done == [0, 1]
    waiting.pop().callback(None)
    assert done == [0, 1, 2, 3]
    waiting.pop().callback(None)
    assert working.called
    assert done == [0, 1, 2, 3, 4]


def test_opening_reloading_and_stopping_take_turns(tmp_path: Path, waiting: list[Deferred[None]]) -> None:
    """Otherwise every connection waits until ten thousand endpoints have been changed."""
    suite = suite_of(SlowReactor(), tmp_path, TEN)
    steps: list[Callable[[], Deferred[Any]]] = [
        lambda: suite.opened,
        lambda: suite.reload(plan_of(tmp_path, TEN)),
        suite.stopService,
    ]
    for step in steps:
        done = step()
        turns = 0
        while waiting:
            turns += 1
            waiting.pop().callback(None)
        assert done.called
        assert turns >= 10


def test_a_status_takes_turns(tmp_path: Path, waiting: list[Deferred[None]]) -> None:
    suite = suite_of(SuiteReactor(), tmp_path, TEN)
    suite.reactor = SlowReactor()
    logging = Deferred.fromCoroutine(log_status(suite))
    turns = 0
    while waiting:
        turns += 1
        waiting.pop().callback(None)
    assert logging.called
    assert turns >= 5


# Garbage collection.


@pytest.fixture
def thawed() -> Iterator[None]:
    """What is frozen by a test is not afterwards."""
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
@pytest.mark.parametrize("many", [False, True])
def test_what_many_endpoints_consist_of_is_left_out_of_collections(
    monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    monkeypatch.setattr(pauses, "MANY", 1000)
    with without_collections():
        assert not gc.isenabled()
        _made = [[None] for _ in range(2000 if many else 10)]
    assert gc.isenabled()
    assert bool(gc.get_freeze_count()) is many


@pytest.mark.skipif(sys.platform != "linux", reason="needs epoll")
def test_a_reload_leaves_nothing_to_collect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out of collections must not need them."""
    from suite.engine.reactor import EngineReactor

    monkeypatch.setattr(pauses, "SLICE", 3600)  # the reactor does not run
    reactor: Any = EngineReactor()
    three, one = '[endpoints]\na = "tcp:0"\nb = "udp:0"\nc = "unix:c"\n', '[endpoints]\nd = "tcp:0"\n'
    suite = suite_of(reactor, tmp_path, three)
    gc.collect()
    gc.disable()
    try:
        for config in (one, three, one, three):
            assert suite.reload(Plan(write_config(tmp_path, config), mint=True, before=suite.plan)).called
        assert gc.collect() == 0
    finally:
        gc.enable()
        assert suite.stopService().called
        for reader in reactor.removeAll():
            reader.connectionLost(Failure(CONNECTION_DONE))
        reactor.waker.connectionLost(Failure(CONNECTION_DONE))
        reactor._poller.close()


def test_threads_change_more_often_while_a_plan_is_made() -> None:
    usual = sys.getswitchinterval()
    with short_intervals():
        assert sys.getswitchinterval() == pytest.approx(pauses.SHORT_INTERVAL)
    assert sys.getswitchinterval() == usual


def test_a_plan_asks_the_system_no_more_for_many_endpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each system call of a thread lets the reactor's wait for the interpreter begin anew."""
    monkeypatch.chdir(tmp_path)
    calls = 0
    getcwd = os.getcwd

    def counted() -> str:
        nonlocal calls
        calls += 1
        return getcwd()

    monkeypatch.setattr(os, "getcwd", counted)
    found = []
    for count in (1, 20):
        text = "".join(f'e{number} = "unix:run/{number}.sock"\n' for number in range(count))
        file = write_config(Path(), f"[endpoints]\n{text}")
        calls = 0
        Plan(file, mint=True)
        found.append(calls)
    assert found[0] == found[1]


# Threads.


class Reactor:
    """What a thread needs of a reactor."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.calls: list[tuple[Any, ...]] = []

    def callFromThread(self, *call: Any) -> None:
        self.calls.append(call)
        self.called.set()

    def run(self) -> None:
        assert self.called.wait(10)
        for function, *args in self.calls:
            function(*args)


@pytest.mark.parametrize("limited", [False, True])
def test_the_result_of_a_thread_reaches_the_reactor(monkeypatch: pytest.MonkeyPatch, limited: bool) -> None:
    if limited:

        def start(_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", start)
    reactor = Reactor()
    results: list[object] = []
    defer_to_daemon(reactor, lambda word: (word, threading.current_thread().daemon), "hola").addBoth(
        results.append
    )
    assert results == []
    reactor.run()
    assert results == [("hola", not limited)]


def test_the_error_of_a_thread_reaches_the_reactor() -> None:
    reactor = Reactor()
    errors: list[Any] = []
    defer_to_daemon(reactor, int, "x").addErrback(errors.append)
    reactor.run()
    assert isinstance(errors[0].value, ValueError)


#: A suite whose reloads read from a file system that hangs.
HANGING: Final = """
import sys, threading
from suite.server.plan import Plan
from suite.__main__ import main
Plan.read_again = lambda _plan: (print("hanging", flush=True), threading.Event().wait())
sys.exit(main())
"""


def test_a_reload_that_hangs_does_not_keep_the_suite_from_ending(tmp_path: Path) -> None:
    with running(
        tmp_path, '[endpoints]\na = "unix:a.sock"\n', command=[sys.executable, "-c", HANGING]
    ) as suite:
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "hanging" in suite.lines, "it is reading")
        assert suite.stop() == 0
    assert not (tmp_path / "a.sock").exists()


def test_a_suite_that_has_been_told_to_stop_opens_nothing_new(tmp_path: Path) -> None:
    suite = suite_of(SuiteReactor(), tmp_path, '[endpoints]\na = "tcp:1"\n')
    suite.stopService()
    errors: list[Any] = []
    suite.reload(plan_of(tmp_path, '[endpoints]\na = "tcp:2"\n')).addErrback(errors.append)
    assert isinstance(errors[0].value, StoppingError)
    assert suite.endpoints == {}
