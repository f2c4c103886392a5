"""The engine's loop, on a scripted poller; and the private names of Twisted that it depends on."""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from suite.engine.interfaces import Selectable
from suite.engine.listeners import Listeners, with_listeners
from suite.engine.reactor import EngineReactor


class Poller:
    """A scripted poller: returns the given events, or raises the given exception."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[float, int]] = []

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        self.asked.append((timeout, most))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        events: list[tuple[int, int]] = answer
        return events


class Remembering:
    """Records the calls of the reactor."""

    def __init__(self, *, quiet: bool, result: object = None) -> None:
        if quiet:
            self.needs_log_context = False
        self.result = result
        self.done: list[str] = []
        self.lost: list[Failure] = []

    def _act(self, what: str) -> object:
        self.done.append(what)
        if isinstance(self.result, ValueError):
            raise self.result
        return self.result

    def doRead(self) -> object:
        return self._act("read")

    def doWrite(self) -> object:
        return self._act("write")

    def fileno(self) -> int:
        return 99

    def logPrefix(self) -> str:
        self.done.append("context")
        return "selectable"

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)


class LoopTests(SynchronousTestCase):
    """Single turns of the loop."""

    def setUp(self) -> None:
        self.reactor: Any = EngineReactor()
        self.real_poller = self.reactor._poller
        self.addCleanup(self.close)

    def close(self) -> None:
        self.reactor._poller = self.real_poller
        for reader in self.reactor.removeAll():
            reader.connectionLost(Failure(CONNECTION_DONE))
        self.reactor.waker.connectionLost(Failure(CONNECTION_DONE))
        self.real_poller.close()

    def turn(self, selectable: Any, event: int) -> None:
        self.reactor._selectables[99] = selectable
        self.reactor._poller = Poller([(99, event)])
        self.reactor.doPoll(None)
        del self.reactor._selectables[99]

    def test_quiet_transports_are_read_and_written_without_a_logging_context(self) -> None:
        one = Remembering(quiet=True)
        self.turn(one, select.EPOLLIN)
        self.turn(one, select.EPOLLOUT)
        assert one.done == ["read", "write"]

    def test_others_have_one(self) -> None:
        one = Remembering(quiet=False)
        self.turn(one, select.EPOLLIN)
        assert one.done == ["context", "read"]

    def test_anything_but_a_plain_event_takes_twisteds_path(self) -> None:
        one = Remembering(quiet=True)
        self.turn(one, select.EPOLLIN | select.EPOLLOUT)
        assert one.done == ["context", "read", "write"]

    def test_a_result_ends_the_connection(self) -> None:
        one = Remembering(quiet=True, result=CONNECTION_DONE)
        self.turn(one, select.EPOLLIN)
        assert [reason.value.__class__ for reason in one.lost] == [CONNECTION_DONE.__class__]

    def test_a_bug_in_a_protocol_is_logged_and_ends_its_connection_only(self) -> None:
        one = Remembering(quiet=True, result=ValueError("a bug"))
        self.turn(one, select.EPOLLIN)
        assert [str(reason.value) for reason in one.lost] == ["a bug"]
        assert len(self.flushLoggedErrors(ValueError)) == 1

    def crowd(self, *selectables: Any) -> None:
        """A turn in which all of them are readable, with a ring."""
        for fd, selectable in enumerate(selectables, 1000):
            self.reactor._selectables[fd] = selectable
        self.reactor._poller = Poller([(1000 + n, select.EPOLLIN) for n in range(len(selectables))])
        self.reactor._ring_for = lambda _events: object()
        self.reactor.doPoll(None)
        for fd, _ in enumerate(selectables, 1000):
            self.reactor._selectables.pop(fd, None)

    def test_what_cannot_join_the_ring_is_read_as_ever(self) -> None:
        """By default: a timer, a client's socket, a port."""

        class Timer(Remembering, Selectable):
            pass

        timers = [Timer(quiet=True) for _ in range(9)]
        self.crowd(*timers)
        assert [timer.done for timer in timers] == [["read"]] * 9

    def test_who_says_half_of_it_ends_alone(self) -> None:
        """It needs no context, but is not a `Selectable`; the others in the turn are not affected."""
        strange, other = Remembering(quiet=True), Remembering(quiet=False)
        self.crowd(strange, other)
        assert [type(reason.value) for reason in strange.lost] == [AttributeError]
        assert other.done == ["context", "read"]
        assert len(self.flushLoggedErrors(AttributeError)) == 1

    def test_a_bug_in_an_end_does_not_end_the_turn(self) -> None:
        class Broken(Remembering, Selectable):
            def connectionLost(self, reason: Failure) -> None:
                raise KeyError("a second bug")

        other = Remembering(quiet=False)
        self.crowd(Broken(quiet=True, result=ValueError("a bug")), other)
        assert other.done == ["context", "read"]
        assert len(self.flushLoggedErrors(ValueError)) == 1
        assert len(self.flushLoggedErrors(KeyError)) == 1

    def test_an_event_of_what_an_earlier_event_has_closed_is_nothing(self) -> None:
        self.reactor._poller = Poller([(98, select.EPOLLIN)])
        self.reactor.doPoll(0.5)
        assert self.reactor._poller.asked == [(0.5, len(self.reactor._selectables))]

    def test_a_signal_ends_a_turn(self) -> None:
        self.reactor._poller = Poller(InterruptedError())
        self.reactor.doPoll(None)
        assert self.reactor._poller.asked == [(-1, len(self.reactor._selectables))]


def test_what_is_private_to_twisted_and_used_here_is_still_there() -> None:
    """If one of these disappears, the engine has to be reviewed."""
    reactor = EPollReactor()
    for name in (
        "_poller",
        "_selectables",
        "_doReadOrWrite",
        "_disconnectSelectable",
        "_addInternalReader",
        "_removeInternalReader",
    ):
        assert hasattr(reactor, name), name
    for port in (tcp.Port, unix.Port):
        assert hasattr(port, "_fromListeningDescriptor")
        assert hasattr(port, "_preexistingSocket")
        assert hasattr(port, "_getLogPrefix")
    for name in ("TLS", "startTLS", "_addressType"):
        assert hasattr(tcp.Server, name), name
    reactor.waker.connectionLost(Failure(CONNECTION_DONE))
    reactor._poller.close()


def test_a_reactor_that_is_not_of_the_posix_kind_keeps_its_own_ports() -> None:
    memory = MemoryReactorClock()
    assert with_listeners(memory) is memory


def test_a_socket_of_another_family_cannot_be_adopted() -> None:
    listeners = Listeners(object())  # type: ignore[arg-type]
    try:
        listeners.adoptStreamPort(0, socket.AF_PACKET, Factory())
    except UnsupportedAddressFamily:
        return
    raise AssertionError
