"""``probe --report``: ask endpoints with ``answer = "report"`` what they see of us.

Rules: one connection, or one datagram, for each target; a report is JSON, of at most `MOST` bytes, and shown
as it came (`suite.client.probe.shown`); whatever else comes is a failure with one of the probe's words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.dialer import ConnectOptions, Dialer
from suite.client.dial.failures import TargetError
from suite.client.dial.target import Target
from suite.client.dial.waiting import timeout_error, with_timeout
from suite.client.probe.shown import lines_of
from suite.client.run import run_until

#: Bytes of a report; ours have some 10 KiB.
MOST: Final = 2**20

#: Bytes of a datagram that asks for a report: as many as a path of Ethernet takes in one piece, since an
#: answer is never longer than the question.
QUESTION: Final = 1400

EXPECTED: Final = 'expected an endpoint with answer = "report"'

#: Bytes that are shown of what is not a report.
SHOWN: Final = 40


@implementer(IHalfCloseableProtocol)
class ReportProtocol(Protocol):
    """Receives everything until the other side ends.

    :ivar done: fires with the bytes, or fails with `TargetError`.
    """

    transport: Any

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._data = bytearray()

    @override
    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MOST:
            self._settle(TargetError("mismatch", f"more than {MOST:,} bytes; expected a report"))
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """The other side has ended: that was all."""
        self._settle(None)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our side has ended; nothing to do."""

    @override
    def connectionLost(self, reason: Failure = Failure(CancelledError())) -> None:  # noqa: B008  # Twisted's
        self._settle(reason.value if isinstance(reason.value, TargetError) else None)

    def _settle(self, problem: TargetError | None) -> None:
        if self.done.called:
            return
        if problem is None:
            self.done.callback(bytes(self._data))
        else:
            self.done.errback(problem)


@dataclass(frozen=True)
class Fetched:
    """What one target has answered.

    :ivar report: the report; None if there was none.
    :ivar failure: why not; None if there was one.
    """

    target: Target
    report: dict[str, Any] | None = None
    failure: TargetError | None = None

    def lines(self) -> list[str]:
        """The report for people."""
        if self.report is None:
            return [f"no report of {self.target.text}: {self.failure}"]
        return [f"report of {self.target.text}", *lines_of(self.report)]

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        failure = self.failure
        return {
            "target": self.target.text,
            "report": self.report,
            "failure": None if failure is None else {"word": failure.word, "detail": failure.detail},
        }


def parse_report(data: bytes) -> dict[str, Any]:
    """The report that *data* is.

    :raises TargetError: it is none.
    """
    if not data:
        raise TargetError(
            "closed", 'end of stream without a report; expected an endpoint with answer = "report"'
        )
    with suppress(ValueError, RecursionError):
        report = json.loads(data)
        if isinstance(report, dict):
            return report
    shown = ascii(data[:SHOWN])[1:] + ("…" if len(data) > SHOWN else "")
    raise TargetError("mismatch", f"{shown} is not a report; {EXPECTED}")


async def fetch_report(reactor: Any, dialer: Dialer) -> dict[str, Any]:
    """The report of one target.

    :raises TargetError: there is none.
    """
    ask = _ask_by_datagram if dialer.target.transport == "udp" else _ask_on_stream
    return parse_report(await ask(reactor, dialer))


async def _ask_on_stream(reactor: Any, dialer: Dialer) -> bytes:
    protocol = ReportProtocol()
    transport = await dialer.stream(protocol)
    seconds = dialer.options.timeout
    late = timeout_error("no report came", seconds)
    late.detail += f"; {EXPECTED}"
    try:
        return await with_timeout(reactor, seconds, late, protocol.done)
    finally:
        if transport.connected:
            transport.abortConnection()


async def _ask_by_datagram(reactor: Any, dialer: Dialer) -> bytes:
    answer: Deferred[bytes] = Deferred()

    def received(data: bytes) -> None:
        if not answer.called:
            answer.callback(data)

    def failed(problem: TargetError) -> None:
        if not answer.called:
            answer.errback(problem)

    datagrams = await dialer.datagrams(received, failed)
    try:
        datagrams.send(bytes(QUESTION))
        seconds = dialer.options.timeout
        late = TargetError("lost", f"no report within {seconds:g} s")
        return await with_timeout(reactor, seconds, late, answer)
    finally:
        datagrams.close()


def run_fetch(
    reactor: Any,
    targets: Sequence[Target],
    reach: ConnectOptions,
    say: Callable[[str], None],
    *,
    as_json: bool,
) -> bool:
    """Print the report of each of *targets*; run *reactor* until that is done.

    :returns: whether each had one.
    :raises CertificateError: a file cannot be used.
    """
    dialers = [Dialer(reactor, target, reach) for target in targets]
    found: list[Fetched] = []

    async def fetch_all() -> None:
        for dialer in dialers:
            try:
                fetched = Fetched(dialer.target, report=await fetch_report(reactor, dialer))
            except TargetError as error:
                fetched = Fetched(dialer.target, failure=error)
            found.append(fetched)
            if not as_json:
                for line in fetched.lines():
                    say(line)

    interrupted = True
    with suppress(CancelledError):  # what has been found so far counts
        run_until(reactor, lambda: Deferred.fromCoroutine(fetch_all()))
        interrupted = False
    ok = len(found) == len(targets) and all(fetched.failure is None for fetched in found)
    if as_json:
        reports = [fetched.as_json() for fetched in found]
        say(json.dumps({"ok": ok, "interrupted": interrupted, "targets": reports}))
    return ok
