"""How commands print: nothing is lost, and nobody is waited for in vain."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from suite.commands import console
from suite.commands.console import complain, say
from suite.errors import SuiteError
from tests.running import PATIENCE, wait_until

LINES = [f"{number} … {'µ' * 100}" for number in range(2000)]


@contextmanager
def standard_output(
    monkeypatch: pytest.MonkeyPatch, descriptor: int, encoding: str = "utf-8"
) -> Iterator[TextIO]:
    with open(descriptor, "w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        yield stream


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "non-blocking"])
@pytest.mark.parametrize("signalled", [False, True], ids=["", "after a signal"])
def test_a_slow_reader_gets_everything(
    monkeypatch: pytest.MonkeyPatch, encoding: str, blocking: bool, signalled: bool
) -> None:
    """Characters that the encoding lacks are escaped; on EAGAIN, the reader is waited for, always."""
    if signalled:
        monkeypatch.setattr(console, "arrived", [signal.SIGTERM])
    read, write = os.pipe()
    os.set_blocking(write, blocking)
    received: list[bytes] = []

    def collect() -> None:
        with open(read, "rb") as stream:
            received.append(stream.read())

    reader = threading.Thread(target=collect)
    reader.start()
    with standard_output(monkeypatch, write, encoding):
        assert say(*LINES)
        assert say("the end")
    reader.join(PATIENCE)
    text = "".join(f"{line}\n" for line in [*LINES, "the end"])
    assert received == [text.encode(encoding, "backslashreplace")]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_after_a_signal_nobody_is_waited_for_who_reads_nothing(
    monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """The signal may have arrived just before the output became full: its handler cannot end the wait."""
    monkeypatch.setattr(console, "arrived", [signal.SIGTERM])
    monkeypatch.setattr(console, "STUCK_TIME", 0.05)
    read, write = os.pipe()
    with open(write, "w") as output, open(read, "rb", buffering=0):
        monkeypatch.setattr(sys, stream, output)
        for _ in range(3):
            (say if stream == "stdout" else complain)("x" * 100_000)
        assert os.readlink(f"/proc/self/fd/{write}") == os.devnull


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_signal_ends_the_wait_for_a_reader(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    """And is handled by whoever does so otherwise."""
    handled: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: handled.append(number))
    read, write = os.pipe()
    poll = select.poll()
    poll.register(write, select.POLLOUT)

    def send() -> None:
        wait_until(lambda: not poll.poll(0), "the pipe is full")
        wait_until(lambda: signal.getsignal(signal.SIGTERM) is not handler, "it waits")
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    sender = threading.Thread(target=send)
    try:
        with open(write, "w") as output, open(read, "rb", buffering=0):
            monkeypatch.setattr(sys, stream, output)
            sender.start()
            (say if stream == "stdout" else complain)("x" * 100_000)
            sender.join(PATIENCE)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert handled == [signal.SIGTERM]


def test_a_reader_that_has_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; from then on, what is said goes nowhere."""
    read, write = os.pipe()
    os.close(read)
    with standard_output(monkeypatch, write):
        assert not say("nobody reads this")
        assert say("nor this")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_what_does_not_fit_is_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        standard_output(monkeypatch, os.open("/dev/full", os.O_WRONLY)),
        pytest.raises(SuiteError, match=r"^standard output: No space left on device$"),
    ):
        say("a result", "of two lines")
    assert capfd.readouterr().err == "a result\nof two lines\n"


def test_what_has_nowhere_to_go_is_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Python has no standard output when it is closed (``>&-``)."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SuiteError, match=r"^standard output: Bad file descriptor$"):
        say("a result")
    assert capfd.readouterr().err == "a result\n"
