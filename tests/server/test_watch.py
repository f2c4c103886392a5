"""`suite.server.reload` and `watch` in memory: a renewal and a reload never overtake each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from suite.files import stamp_of
from suite.server import reload, watch
from suite.server.operations import Reloads
from suite.server.reload import Reloader
from suite.server.watch import INTERVAL, Watch


class Threads:
    """What has been handed to threads, and is not done yet."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def defer(self, _reactor: object, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.waiting.append((deferred, lambda: function(*args)))
        return deferred

    def finish(self) -> None:
        """The thread that has begun first is done."""
        deferred, function = self.waiting.pop(0)
        deferred.callback(function())


class Suite:
    """A suite that only remembers which plans it was switched to."""

    running = True

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.served: list[str] = []
        self.reloads = Reloads()
        self.plan: Any = SimpleNamespace(read_again=lambda: "new", renewed=lambda: "renewed", gallery=None)

    def stamps(self) -> dict[str, Any]:
        return {}

    def check_change(self, _plan: object) -> None:
        """Everything may change."""

    def reload(self, plan: str) -> Deferred[str]:
        self.served.append(plan)
        return succeed("1 changed")

    def load(self, plan: object) -> None:
        """Nothing is to be imported."""


@pytest.fixture
def clock() -> Any:
    return Clock()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    threads = Threads()
    for module in (reload, watch):
        monkeypatch.setattr(module, "defer_to_daemon", threads.defer)
    return threads


def test_a_reload_during_a_renewal_comes_after_it(clock: Any, threads: Threads) -> None:
    """Otherwise the old configuration, read for the renewal, would replace the new one."""
    suite: Any = Suite(clock)
    notifier: Any = SimpleNamespace(reloading=lambda _: None, ready=lambda _: None)
    reloader = Reloader(suite, notifier)
    renewing = Deferred.fromCoroutine(reloader._renew())
    reloader.reload()
    assert len(threads.waiting) == 1
    threads.finish()
    threads.finish()
    assert suite.served == ["renewed", "new"]
    assert renewing.result is True
    assert threads.waiting == []


@pytest.mark.parametrize("busy", [False, True])
def test_a_change_is_tried_once_and_again_if_it_could_not_be(
    clock: Any, threads: Threads, tmp_path: Path, busy: bool
) -> None:
    file = tmp_path / "server.key"
    file.touch()
    acted: list[bool] = []

    async def act() -> bool:
        acted.append(not busy)
        return not busy

    Watch(clock, lambda: {str(file): (0,)}, act).start()
    for _ in range(4):
        clock.advance(INTERVAL)
        threads.finish()
    # Not at the first look, when it may still be changing.
    assert acted == ([False] * 3 if busy else [True])


def test_what_happens_again_is_acted_on_again(clock: Any, threads: Threads, tmp_path: Path) -> None:
    """A cleaner may remove the same socket every minute, and at once when it is there again."""
    path = tmp_path / "echo.sock"
    path.touch()
    expected = {str(path): stamp_of(path)}
    acted: list[str] = []

    async def make_it_again() -> bool:
        acted.append(path.name)
        path.touch()
        expected[str(path)] = stamp_of(path)
        path.unlink()
        return True

    path.unlink()
    Watch(clock, lambda: expected, make_it_again).start()
    for _ in range(4):
        clock.advance(INTERVAL)
        threads.finish()
    assert acted == ["echo.sock"] * 3


def test_what_did_not_help_is_tried_again_once_it_was_well_meanwhile(
    clock: Any, threads: Threads, tmp_path: Path
) -> None:
    path, aside = tmp_path / "server.key", tmp_path / "aside.key"
    path.touch()
    expected = {str(path): stamp_of(path)}
    acted: list[bool] = []

    async def act() -> bool:
        acted.append(True)
        return True

    def look(times: int) -> None:
        for _ in range(times):
            clock.advance(INTERVAL)
            threads.finish()

    Watch(clock, lambda: expected, act).start()
    path.rename(aside)
    look(4)
    assert len(acted) == 1
    aside.rename(path)
    look(1)
    path.rename(aside)
    look(4)
    assert len(acted) == 2
