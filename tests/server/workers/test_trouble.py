"""What the log says of workers that end: everything at first, and then a line a minute."""

from __future__ import annotations

import errno

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from suite.server.workers.member import StartError
from suite.server.workers.trouble import FEW, INTERVAL, Trouble


def test_who_ends_again_and_again_does_not_fill_the_log() -> None:
    clock = Clock()
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    trouble = Trouble(clock)
    globalLogPublisher.addObserver(observe)
    try:
        for number in range(1, FEW + 1):
            assert trouble.is_new
            trouble.say("worker {number} ends: {time}", number=1, time=number)
        assert lines == [f"worker 1 ends: {number}" for number in range(1, FEW + 1)]
        lines.clear()
        for _ in range(1200):  # for ten minutes
            clock.advance(0.5)
            trouble.say("worker {number} ends", number=1)
        assert lines == ["worker 1 ends; 119 lines about it have been left out"] * 10
        lines.clear()
        trouble.over()
        clock.advance(INTERVAL)
        trouble.say("worker {number} ends", number=1)
        assert trouble.is_new
        assert lines == ["worker 1 ends"]
    finally:
        globalLogPublisher.removeObserver(observe)


def test_who_cannot_be_started_says_what_helps() -> None:
    assert "Too many open files; expected a higher limit of descriptors" in str(StartError(1, errno.EMFILE))
    assert "expected a higher limit of processes (ulimit -u" in str(StartError(2, errno.EAGAIN))
    assert str(StartError(3, errno.ENOMEM)) == "worker 3 cannot be started: Cannot allocate memory"
