"""``probe``: whether every byte comes back from a target, how fast, and if not, what is wrong.

Rules: payloads are random, and every returned byte is compared; a failure has one word, and does not end the
run: the next probe starts afresh; an interrupted run reports what it has found so far.

On a stream, one connection carries all payloads, one after another; one more payload is followed immediately
by a half-close, which shows whether the target honours it. Datagrams carry a sequence number, so that late
and repeated ones are recognized.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import TargetError
from suite.client.dial.target import Target
from suite.client.probe.datagrams import DatagramProber
from suite.client.probe.output import Output
from suite.client.probe.report import Report
from suite.client.probe.settings import Settings
from suite.client.probe.streams import StreamProber
from suite.client.run import run_until


async def probe_target(
    reactor: Any, dialer: Dialer, settings: Settings, report: Report, output: Output
) -> None:
    """Probe one target; the findings are in *report*, even if the coroutine is cancelled."""
    kind = DatagramProber if dialer.target.transport == "udp" else StreamProber
    prober = kind(reactor, dialer, settings, report, output)
    output.say(f"probe {dialer.target.text}")
    try:
        sequence = 0
        while not settings.count or sequence < settings.count:
            began = time.monotonic()
            length = settings.sizes[sequence % len(settings.sizes)]
            sequence += 1
            await _probe_once(prober, sequence, length, report, output)
            if sequence != settings.count:
                await deferLater(reactor, max(0.0, began + settings.interval - time.monotonic()))
        try:
            await prober.finish(settings.sizes[0])
        except TargetError as error:
            output.failed(report, report.fail(None, error))
    finally:
        prober.close()


async def _probe_once(
    prober: StreamProber | DatagramProber, sequence: int, length: int, report: Report, output: Output
) -> None:
    report.stats.sent += 1
    began = time.monotonic()
    try:
        seconds = await prober.probe(sequence, length)
    except TargetError as error:
        output.failed(report, report.fail(sequence, error))
    except CancelledError:
        report.stats.sent -= 1  # unknown whether it would have come back
        report.unanswered = time.monotonic() - began
        raise
    else:
        report.stats.record(seconds)
        output.back(report, sequence, prober.what(length), seconds)


class Run:
    """Probes several targets, one after another.

    :param dialers: one for each target.
    :ivar reports: the findings so far: a report for each target that has been begun; at the end, for each.
    :ivar interrupted: whether the run was interrupted.
    """

    def __init__(self, reactor: Any, dialers: Sequence[Dialer], settings: Settings, output: Output) -> None:
        self.reactor = reactor
        self.reports: list[Report] = []
        self.interrupted = False
        self._dialers = dialers
        self._settings = settings
        self._output = output
        self._overdue = False

    @property
    def ok(self) -> bool:
        """Whether all targets have been probed, and nothing failed."""
        return len(self.reports) == len(self._dialers) and all(report.ok for report in self.reports)

    def start(self) -> Deferred[None]:
        """Probe all targets; fires when that is done, or fails with `CancelledError`."""
        running = Deferred.fromCoroutine(self._probe_all())
        if self._settings.deadline is not None:
            deadline = self.reactor.callLater(self._settings.deadline, self._expire, running)
            running.addBoth(self._stop_clock, deadline)
        return running

    def interrupt(self, running: Deferred[None]) -> None:
        """End the run now."""
        self.interrupted = True
        running.cancel()

    def _expire(self, running: Deferred[None]) -> None:
        self._overdue = True
        running.cancel()

    @staticmethod
    def _stop_clock(result: Any, deadline: Any) -> Any:
        if deadline.active():
            deadline.cancel()
        return result

    async def _probe_all(self) -> None:
        for dialer in self._dialers:
            report = Report(dialer.target)
            self.reports.append(report)
            began = time.monotonic()
            try:
                if not self._overdue:
                    await probe_target(self.reactor, dialer, self._settings, report, self._output)
                else:
                    self._cut_short(report)
            except CancelledError:
                if not self._overdue:
                    raise
                self._cut_short(report)
            finally:
                report.seconds = time.monotonic() - began
                self._output.finished(report)

    def _cut_short(self, report: Report) -> None:
        """Note what the deadline has prevented."""
        settings, done = self._settings, report.stats.sent
        if settings.count:
            what = f"{done} of {settings.count} payloads were probed"
        elif not report.stats.received:
            what = "nothing came back"
        else:
            return
        error = TargetError("timeout", f"{what} before the deadline of {settings.deadline:g} s")
        self._output.failed(report, report.fail(None, error))


def run_probe(reactor: Any, targets: Sequence[Target], settings: Settings, output: Output) -> Run:
    """Probe *targets*, one after another; run *reactor* until that is done.

    :returns: the run, which has ended.
    :raises CertificateError: a file cannot be used.
    """
    run = Run(reactor, [Dialer(reactor, target, settings.reach) for target in targets], settings, output)
    with suppress(CancelledError):  # the findings so far count
        run_until(reactor, run.start, run.interrupt)
    output.ended(run.reports, ok=run.ok, interrupted=run.interrupted)
    return run
