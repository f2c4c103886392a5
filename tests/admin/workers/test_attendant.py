"""What a worker has of the admin interface, in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from suite.admin.workers import companions


class Attended:
    """A worker, whose supervisor asks over a link.

    :ivar imported: what has been imported for that.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, admin: bool) -> None:
        self.imported: list[str] = []
        self.inside = SimpleNamespace(end=lambda: None, told=[], reasons=lambda: ["tcp: paused"])
        self.inside.watched = self.inside.told.append
        module = SimpleNamespace(Inside=lambda *_: self.inside)

        def imported(name: str) -> Any:
            self.imported.append(name)
            return module

        monkeypatch.setattr(companions, "import_module", imported)
        monkeypatch.setattr(companions, "defer_to_daemon", lambda _, work, *args: succeed(work(*args)))
        reactor: Any = Clock()
        reactor.addSystemEventTrigger = lambda *_: None
        config = SimpleNamespace(admin=object() if admin else None)
        suite = SimpleNamespace(reactor=reactor, plan=SimpleNamespace(config=config), number=1)
        self.link = SimpleNamespace(answers={})
        companions.attend(suite, self.link)

    def ask(self, what: str, *arguments: object) -> Any:
        """The answer of the worker, which it has at once."""
        found: list[Any] = []
        Deferred.fromCoroutine(self.link.answers[what](*arguments)).addCallback(found.append)
        return found[0]


def test_without_an_admin_interface_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Attended(monkeypatch, admin=False)
    it.ask("watched", False)
    assert it.link.answers["settled"]() is None
    assert it.imported == []


def test_with_one_it_is_told_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Attended(monkeypatch, admin=True)
    assert it.inside.told == [True]
    it.ask("watched", False)
    assert it.inside.told == [True, False]
    assert it.ask("reasons") == ["tcp: paused"]


def test_one_that_comes_later_is_told_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Attended(monkeypatch, admin=False)
    it.ask("watched", True)
    assert it.inside.told == [True]
