"""``probe``: whether every byte comes back from a target, how fast, and if not, what is wrong.

Rules: payloads are random, and every returned byte is compared; a failure has one word, and does not end the
run: the next probe starts afresh; an interrupted run reports what it has found so far.

On a stream, one connection carries all payloads, one after another; one more payload is followed immediately
by a half-close, which shows whether the target honours it. Datagrams carry a sequence number, so that late
and repeated ones are recognized.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from suite.client.dial.dialer import ConnectOptions, Dialer
from suite.client.dial.failures import TargetError
from suite.client.dial.target import Target
from suite.client.probe.datagrams import DatagramProber
from suite.client.probe.report import Failed, Report
from suite.client.probe.streams import StreamProber
from suite.client.run import run_until
from suite.errors import EXIT_FAILURE, EXIT_OK


@dataclass(frozen=True)
class Settings:
    """What to send, how often, and how to connect.

    :ivar count: payloads for each target; 0: until interrupted.
    :ivar interval: seconds from one payload to the next.
    :ivar sizes: the sizes of payloads in bytes, used in turn.
    :ivar reach: how to connect.
    """

    count: int = 5
    interval: float = 0.2
    sizes: tuple[int, ...] = (64,)
    reach: ConnectOptions = field(default_factory=ConnectOptions)


async def probe_target(
    reactor: Any, dialer: Dialer, settings: Settings, report: Report, say: Callable[[str], None]
) -> None:
    """Probe one target; the findings are in *report*, even if the coroutine is cancelled.

    :param say: called with a line for every event.
    """
    kind = DatagramProber if dialer.target.transport == "udp" else StreamProber
    prober = kind(reactor, dialer, report, say)
    say(f"probe {dialer.target.text}")
    try:
        sequence = 0
        while not settings.count or sequence < settings.count:
            began = time.monotonic()
            length = settings.sizes[sequence % len(settings.sizes)]
            sequence += 1
            await _probe_once(prober, sequence, length, report, say)
            if sequence != settings.count:
                await deferLater(reactor, max(0.0, began + settings.interval - time.monotonic()))
        try:
            await prober.finish(settings.sizes[0])
        except TargetError as error:
            report.failures.append(Failed(None, error))
            say(str(error))
    finally:
        prober.close()


async def _probe_once(
    prober: StreamProber | DatagramProber,
    sequence: int,
    length: int,
    report: Report,
    say: Callable[[str], None],
) -> None:
    report.stats.sent += 1
    try:
        seconds = await prober.probe(sequence, length)
    except TargetError as error:
        report.failures.append(Failed(sequence, error))
        say(f"seq={sequence}: {error}")
    except CancelledError:
        report.stats.sent -= 1  # unknown whether it would have come back
        raise
    else:
        report.stats.times.append(seconds)
        say(f"{length} bytes back: seq={sequence} time={1000 * seconds:.3f} ms")


def run_probe(
    reactor: Any, targets: Sequence[Target], settings: Settings, say: Callable[[str], None], *, as_json: bool
) -> int:
    """Probe *targets*, one after another; run *reactor* until that is done, and return the exit code.

    :param say: called with every line of output.
    :raises CertificateError: a file cannot be used.
    """
    dialers = [Dialer(reactor, target, settings.reach) for target in targets]
    reports: list[Report] = []
    show: Callable[[str], None] = (lambda _: None) if as_json else say

    async def probe_all() -> None:
        for dialer in dialers:
            report = Report(dialer.target)
            reports.append(report)
            try:
                await probe_target(reactor, dialer, settings, report, show)
            finally:
                for line in report.lines():
                    show(line)

    with suppress(CancelledError):  # the findings so far count
        run_until(reactor, lambda: Deferred.fromCoroutine(probe_all()))
    ok = len(reports) == len(targets) and all(report.ok for report in reports)
    if as_json:
        say(json.dumps({"ok": ok, "targets": [report.as_json() for report in reports]}))
    return EXIT_OK if ok else EXIT_FAILURE
