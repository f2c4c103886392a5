"""``probe``: whether every byte comes back from a target, how fast, and if not, what is wrong.

Rules: what is sent is random, and every byte of what returns is compared; a failure has one word, and is
no reason to stop: the next probe begins anew; an interrupted probe tells what it has seen so far.

On a stream, one connection carries all payloads, one after another; then a last one is followed by the
end of our side at once, which shows whether a half-close is honoured. Datagrams carry a sequence number, so
that late and repeated ones are not taken for others.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.dialer import MAX_DATAGRAM, ConnectOptions, Datagrams, Dialer, too_late, within
from suite.client.dial.failures import TargetError
from suite.client.dial.target import Target, parse_target, targets_of_config
from suite.client.dial.tls import Session, TLSClient, TLSFacts
from suite.client.probe.stats import Tally
from suite.client.run import duration, number, parse_reach, run, size
from suite.engine.stream import Stream
from suite.errors import EXIT_FAILURE, EXIT_OK, UsageError

#: The largest payload on a stream: it and its echo are in memory.
MAX_PAYLOAD: Final = 64 * 2**20

#: What a datagram begins with, if it is long enough: which probe it belongs to, and its number there.
TOKEN_SIZE: Final = 8
HEADER_SIZE: Final = TOKEN_SIZE + 8

HalfClose = Literal["honoured", "cut", "open"]

#: What `HalfClose` means, for people.
HALF_CLOSES: Final[dict[HalfClose, str]] = {
    "honoured": "honoured: all bytes came back after our end, then theirs",
    "cut": "not honoured: they ended before all bytes were back",
    "open": "not honoured: they did not end",
}


@dataclass(frozen=True)
class Settings:
    """What to send, how often, and how to get there.

    :ivar count: payloads for each target; 0: until interrupted.
    :ivar interval: seconds from one payload to the next.
    :ivar sizes: in bytes; used in turn.
    """

    count: int = 5
    interval: float = 0.2
    sizes: tuple[int, ...] = (64,)
    reach: ConnectOptions = field(default_factory=ConnectOptions)


@dataclass(frozen=True)
class Failed:
    """One probe that failed.

    :ivar sequence: its number, from 1 on; None for what came after the probes.
    """

    sequence: int | None
    error: TargetError


@dataclass
class Report:
    """What is known about one target, as it grows.

    :ivar address: where it really is, once there was a connection.
    :ivar connect: seconds that the first connection took.
    :ivar half_close: how the other side has taken ours; None: not tried.
    :ivar tls: what the first handshake has shown; None: there was none.
    :ivar resumed: whether a later connection could resume the session of an earlier one; None: not tried.
    :ivar close_notify: whether the other side has ended TLS properly; None: it has not ended.
    """

    target: Target
    tally: Tally = field(default_factory=Tally)
    failures: list[Failed] = field(default_factory=list)
    address: str | None = None
    connect: float | None = None
    half_close: HalfClose | None = None
    tls: TLSFacts | None = None
    resumed: bool | None = None
    close_notify: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether something came back, and nothing went wrong."""
        return self.tally.received > 0 and not self.failures

    def as_json(self) -> dict[str, Any]:
        """The report for programs; see docs/probe.md."""
        times = self.tally.summary()
        return {
            "target": self.target.text,
            "transport": self.target.transport,
            "address": self.address,
            "ok": self.ok,
            "sent": self.tally.sent,
            "received": self.tally.received,
            "loss": self.tally.loss,
            "late": self.tally.late,
            "duplicates": self.tally.duplicates,
            "connect_ms": None if self.connect is None else _ms(self.connect),
            "rtt_ms": None
            if times is None
            else {
                "min": _ms(times.minimum),
                "median": _ms(times.median),
                "p99": _ms(times.p99),
                "max": _ms(times.maximum),
            },
            "half_close": self.half_close,
            "tls": None
            if self.tls is None
            else {
                "version": self.tls.version,
                "cipher": self.tls.cipher,
                "alpn": self.tls.alpn,
                "names": list(self.tls.names),
                "expires": self.tls.expires.isoformat(),
                "days_left": self.tls.days_left,
                "resumed": self.resumed,
                "close_notify": self.close_notify,
            },
            "failures": [
                {
                    "sequence": failed.sequence,
                    "word": failed.error.word,
                    "detail": failed.error.detail,
                    **failed.error.facts,
                }
                for failed in self.failures
            ],
        }

    def lines(self) -> list[str]:
        """The report for people."""
        tally = self.tally
        counts = f"{tally.sent} sent, {tally.received} back, {100 * tally.loss:.3g} % lost"
        if tally.late or tally.duplicates:
            counts += f", {tally.late} late, {tally.duplicates} repeated"
        found = [f"--- {self.target.text}", counts]
        times = tally.summary()
        if times is not None:
            values = "/".join(
                f"{1000 * value:.3f}" for value in (times.minimum, times.median, times.p99, times.maximum)
            )
            found.append(f"RTT min/median/p99/max = {values} ms")
        if self.half_close is not None:
            found.append(f"half-close {HALF_CLOSES[self.half_close]}")
        if self.tls is not None:
            resumed = {None: "not tried", True: "yes", False: "no"}[self.resumed]
            found.append(
                f"{self.tls.version}, {self.tls.cipher}, ALPN {self.tls.alpn or 'none'}, resumption {resumed}"
            )
            found.append(
                f"certificate for {', '.join(self.tls.names)}; {self.tls.days_left} days left"
                f" (until {self.tls.expires:%Y-%m-%d})"
            )
            if self.close_notify is False:
                found.append("they ended without close_notify")
        return found


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 6)


def first_difference(sent: bytes, returned: bytes) -> int:
    """Where *returned* first differs from *sent*, of which it is not a beginning."""
    low, high = 0, min(len(sent), len(returned))
    if sent[:high] == returned[:high]:
        return high
    while low < high:  # sent[:low] is the same, sent[: high + 1] is not
        middle = (low + high) // 2
        if sent[low : middle + 1] == returned[low : middle + 1]:
            low = middle + 1
        else:
            high = middle
    return low


def mismatch(sent: bytes, returned: bytes, before: int = 0) -> TargetError:
    """That *returned* is not what was *sent*.

    :param before: bytes of the payload that came back well before these.
    """
    at = first_difference(sent, returned)
    expected, found = sent[at : at + 1], returned[at : at + 1]
    what = f"expected {_shown_byte(expected)}, found {_shown_byte(found)}"
    return TargetError("mismatch", f"at offset {before + at}: {what}", {"offset": before + at})


def _shown_byte(byte: bytes) -> str:
    return f"0x{byte.hex()}" if byte else "the end"


# Streams.


@implementer(IHalfCloseableProtocol)
class Conversation(Protocol):
    """A connection on which every byte is compared with what was sent.

    :ivar problem: why nothing more can be expected of it.
    :ivar ended: whether the other side has ended.
    """

    transport: Any

    def __init__(self) -> None:
        self.problem: TargetError | None = None
        self.ended = False
        self._payload = b""
        self._good = 0
        self._waiting: Deferred[None] | None = None
        self._end: Deferred[None] = Deferred()

    @property
    def missing(self) -> int:
        """Bytes that are still to come."""
        return len(self._payload) - self._good

    def send(self, payload: bytes) -> Deferred[None]:
        """Send *payload*; fires when it is back, and fails with `TargetError`."""
        self._payload, self._good = payload, 0
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        if self.problem is None and self.ended:
            self.problem = TargetError("closed", "the other side had ended before the payload was sent")
        if self.problem is not None:
            self._settle(self.problem)
        else:
            self.transport.write(payload)
        return waiting

    def end(self) -> Deferred[None]:
        """End our side; fires when the other one has ended, too, however."""
        self.transport.loseWriteConnection()
        return self._end

    def _settle(self, problem: TargetError | None) -> None:
        if problem is not None and self.problem is None:
            self.problem = problem
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.called:
            return
        if problem is None:
            waiting.callback(None)
        else:
            waiting.errback(problem)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self.problem is not None:
            return
        awaited = self._payload[self._good : self._good + len(data)]
        if awaited == data:
            self._good += len(data)
            if not self.missing:
                self._settle(None)
            return
        rest = self._payload[self._good :]
        self._settle(mismatch(rest, data, self._good))

    def readConnectionLost(self) -> None:
        """The other side has ended."""
        self._ended(None)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Ours has; nothing is left to do."""

    @override
    def connectionLost(self, reason: Failure = Failure(CancelledError())) -> None:  # noqa: B008  # Twisted's
        self._ended(reason.value if isinstance(reason.value, TargetError) else None)

    def _ended(self, problem: TargetError | None) -> None:
        self.ended = True
        if self.missing or problem is not None:
            self._settle(
                problem
                or TargetError(
                    "closed", f"the other side ended after {self._good} of {len(self._payload)} bytes"
                )
            )
        if not self._end.called:
            self._end.callback(None)


class StreamProber:
    """Probes a stream: TCP, TLS or UNIX."""

    def __init__(self, reactor: Any, dialer: Dialer, report: Report, say: Callable[[str], None]) -> None:
        self.reactor = reactor
        self.dialer = dialer
        self.report = report
        self.say = say
        self._conversation: Conversation | None = None
        self._transport: Stream | None = None
        self._session: Session | None = None

    @property
    def timeout(self) -> float:
        """Seconds for each step."""
        return self.dialer.options.timeout

    async def probe(self, _sequence: int, length: int) -> float:
        """Send random bytes, *length* of them, and return after how many seconds all were back.

        :raises TargetError: they were not.
        """
        try:
            if self._conversation is None:
                self._conversation = await self._connect()
            return await self._exchange(self._conversation, os.urandom(length))
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> Conversation:
        conversation = Conversation()
        connected = await self.dialer.connect()
        began = time.perf_counter()
        self._transport = await self.dialer.adopt(connected, conversation)
        if self.report.connect is None:
            self.report.connect = connected.seconds
            self.report.address = str(connected.address)
            line = f"connected to {connected.address} in {1000 * connected.seconds:.3f} ms"
            if isinstance(self._transport, TLSClient):
                self.report.tls = self._transport.facts()
                line += f"; {self.report.tls.version} in {1000 * (time.perf_counter() - began):.3f} ms"
            self.say(line)
        return conversation

    async def _exchange(self, conversation: Conversation, payload: bytes) -> float:
        began = time.perf_counter()
        waiting = conversation.send(payload)
        late = too_late("not all bytes came back", self.timeout)
        try:
            await within(self.reactor, self.timeout, late, waiting)
        except TargetError as error:
            if error is late:
                back = len(payload) - conversation.missing
                raise too_late(f"{back} of {len(payload)} bytes came back", self.timeout) from None
            raise
        return time.perf_counter() - began

    async def finish(self, length: int) -> None:
        """See how a half-close is taken, and whether a TLS session resumes.

        :raises TargetError: wrong bytes came back, or a second connection failed.
        """
        conversation = self._conversation
        if conversation is None:
            return
        try:
            await self._half_close(conversation, os.urandom(length))
            if conversation.problem is not None and conversation.problem.word == "mismatch":
                raise conversation.problem
        finally:
            self.close()
        if self._session is not None:
            await self._resume(self._session)

    async def _half_close(self, conversation: Conversation, payload: bytes) -> None:
        transport = self._transport
        if isinstance(transport, TLSClient):
            self._session = transport.session()
        conversation.send(payload).addErrback(lambda _: None)  # `problem` and `missing` will tell
        if not conversation.ended:
            try:
                await within(self.reactor, self.timeout, self._no_end(), conversation.end())
            except TargetError:
                self.report.half_close = "open"
                return
        self.report.half_close = "cut" if conversation.missing else "honoured"
        if isinstance(transport, TLSClient):
            self.report.close_notify = transport.close_notify_received

    def _no_end(self) -> TargetError:
        return too_late("no end", self.timeout)

    async def _resume(self, session: Session) -> None:
        conversation = Conversation()
        transport = await self.dialer.stream(conversation, session=session)
        try:
            if isinstance(transport, TLSClient):
                self.report.resumed = transport.facts().resumed
            if self.report.half_close != "open":  # or it is no use to wait
                with suppress(TargetError):
                    await within(
                        self.reactor, self.timeout, too_late("no end", self.timeout), conversation.end()
                    )
        finally:
            if transport.connected:
                transport.abortConnection()

    def close(self) -> None:
        """Let go of the connection, if there is one."""
        if self._conversation is not None and self._transport is not None and self._transport.connected:
            self._transport.abortConnection()
        self._conversation = self._transport = None


# Datagrams.


class DatagramProber:
    """Probes UDP.

    A datagram that has room for it begins with a token of this probe and its sequence number; a shorter
    one is only known by its content.
    """

    def __init__(self, reactor: Any, dialer: Dialer, report: Report, say: Callable[[str], None]) -> None:
        self.reactor = reactor
        self.dialer = dialer
        self.report = report
        self.say = say
        self._token = os.urandom(TOKEN_SIZE)
        self._datagrams: Datagrams | None = None
        self._sequence = 0
        self._payload = b""
        self._waiting: Deferred[None] | None = None
        self._back: set[int] = set()

    async def probe(self, sequence: int, length: int) -> float:
        """Send a random datagram of *length* bytes, and return after how many seconds it was back.

        :raises TargetError: it was not.
        """
        timeout = self.dialer.options.timeout
        try:
            if self._datagrams is None:
                self._datagrams = await self.dialer.datagrams(self._received, self._failed)
            self._sequence = sequence
            header = self._token + sequence.to_bytes(8, "big") if length >= HEADER_SIZE else b""
            self._payload = header + os.urandom(length - len(header))
            waiting: Deferred[None] = Deferred()
            self._waiting = waiting
            began = time.perf_counter()
            self._datagrams.send(self._payload)
            self._note_address(self._datagrams)
            lost = TargetError("lost", f"nothing came back within {timeout:g} s")
            await within(self.reactor, timeout, lost, waiting)
            seconds = time.perf_counter() - began
            self.report.address = str(self._datagrams.address)  # another of its addresses may have answered
            return seconds
        except TargetError as error:
            if error.word not in ("lost", "mismatch"):
                self.close()  # the next one asks anew where the target is
            raise
        finally:
            self._waiting = None

    def _note_address(self, datagrams: Datagrams) -> None:
        if self.report.address is None:
            self.say(f"sending to {datagrams.address}")
            self.report.address = str(datagrams.address)

    def _received(self, data: bytes) -> None:
        if self._waiting is not None and data == self._payload:
            self._back.add(self._sequence)
            self._settle(None)
            return
        sequence = self._sequence_of(data)
        if sequence is not None and sequence < self._sequence + (self._waiting is None):
            if sequence in self._back:
                self.report.tally.duplicates += 1
                self.say(f"{len(data)} bytes came back again: seq={sequence}")
            else:
                self._back.add(sequence)
                self.report.tally.late += 1
                self.say(f"{len(data)} bytes came back late: seq={sequence}")
        elif self._waiting is not None:
            self._settle(mismatch(self._payload, data))
        elif data == self._payload:  # one too short for a number, once more
            self.report.tally.duplicates += 1

    def _sequence_of(self, data: bytes) -> int | None:
        """The number that *data* has; None if it is not one of ours."""
        if len(data) < HEADER_SIZE or data[:TOKEN_SIZE] != self._token:
            return None
        sequence = int.from_bytes(data[TOKEN_SIZE:HEADER_SIZE], "big")
        return sequence if sequence <= self._sequence else None

    def _failed(self, error: TargetError) -> None:
        self._settle(error)

    def _settle(self, problem: TargetError | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.called:
            return
        if problem is None:
            waiting.callback(None)
        else:
            waiting.errback(problem)

    async def finish(self, _length: int) -> None:
        """Nothing is left to do: datagrams have no end."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None


# One target, and all.


async def probe_target(
    reactor: Any, dialer: Dialer, settings: Settings, report: Report, say: Callable[[str], None]
) -> None:
    """Probe one target; what comes of it is in *report*, even when it is cancelled.

    :param say: is given a line for everything that happens.
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
    report.tally.sent += 1
    try:
        seconds = await prober.probe(sequence, length)
    except TargetError as error:
        report.failures.append(Failed(sequence, error))
        say(f"seq={sequence}: {error}")
    except CancelledError:
        report.tally.sent -= 1  # whether it would have come back, nobody knows
        raise
    else:
        report.tally.times.append(seconds)
        say(f"{length} bytes back: seq={sequence} time={1000 * seconds:.3f} ms")


def run_probe(
    reactor: Any, targets: Sequence[Target], settings: Settings, say: Callable[[str], None], *, as_json: bool
) -> int:
    """Probe *targets*, one after another, on *reactor*, which ends with it; return the exit code.

    :param say: is given every line that a user should see.
    :raises CertificateError: a file cannot be used.
    """
    dialers = [Dialer(reactor, target, settings.reach) for target in targets]
    reports: list[Report] = []
    tell: Callable[[str], None] = (lambda _: None) if as_json else say

    async def probe_all() -> None:
        for dialer in dialers:
            report = Report(dialer.target)
            reports.append(report)
            try:
                await probe_target(reactor, dialer, settings, report, tell)
            finally:
                for line in report.lines():
                    tell(line)

    run(reactor, probe_all())
    ok = len(reports) == len(targets) and all(report.ok for report in reports)
    if as_json:
        say(json.dumps({"ok": ok, "targets": [report.as_json() for report in reports]}))
    return EXIT_OK if ok else EXIT_FAILURE


# From a command line.


def parse_settings(options: argparse.Namespace) -> Settings:
    """What the options of the command line mean.

    :raises UsageError: one of them has a value that it cannot have.
    """
    sizes = tuple(
        size("--size", part, MAX_PAYLOAD) for text in options.size or ["64"] for part in text.split(",")
    )
    return Settings(
        count=number("--count", options.count, 10**9),
        interval=duration("--interval", options.interval, zero=True),
        sizes=sizes,
        reach=parse_reach(options),
    )


def parse_targets(
    options: argparse.Namespace, settings: Settings, warn: Callable[[str], None]
) -> list[Target]:
    """The targets of the command line; without any, those of the configuration.

    :param warn: is given a line for each endpoint that cannot be probed.
    :raises UsageError: there is none, or *settings* do not go with it.
    :raises ConfigError: the configuration cannot be used.
    """
    targets = [parse_target(text) for text in options.targets]
    if not targets:
        targets = targets_of_config(options.config, warn)
    if settings.count == 0 and len(targets) > 1:
        raise UsageError(f"--count 0 never comes to {targets[1].text!r}; expected one target with it")
    for target in targets:
        for length in settings.sizes:
            if target.transport == "udp" and length > MAX_DATAGRAM:
                raise UsageError(
                    f"--size {length} does not fit into a datagram for {target.text};"
                    f" expected {MAX_DATAGRAM} at the most"
                )
            if target.transport != "udp" and length == 0:
                raise UsageError(f"--size 0 is nothing on a stream, {target.text}; expected 1 at least")
    return targets
