"""Probing a stream: TCP, TLS or UNIX."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import Fact, TargetError
from suite.client.dial.tls import HandshakeError, Session, TLSClient, TLSFacts, client_hello
from suite.client.dial.waiting import settle, timeout_error, with_timeout
from suite.client.probe.compare import mismatch
from suite.client.probe.output import Output
from suite.client.probe.report import Report, in_ms
from suite.client.probe.settings import Settings
from suite.engine.stream import Stream

#: How TLS records begin: type and major version (RFC 8446, section 5.1). The message type of a ServerHello is
#: their sixth byte (section 4).
TLS_ALERT: Final = b"\x15\x03"
TLS_HANDSHAKE: Final = b"\x16\x03"
SERVER_HELLO: Final = b"\x02"

#: Seconds to wait for what a server says of a handshake that is over for us.
VERDICT_TIME: Final = 1.0


@implementer(IHalfCloseableProtocol)
class VerifyingProtocol(Protocol):
    """Sends payloads and compares every byte that comes back.

    :ivar problem: the error after which the connection is of no more use.
    :ivar ended: whether the other side has ended the connection.
    :ivar first: the first bytes that have come back.
    """

    transport: Any

    def __init__(self) -> None:
        self.problem: TargetError | None = None
        self.ended = False
        self.first = b""
        self._payload = b""
        self._good = 0
        self._waiting: Deferred[None] | None = None
        self._end: Deferred[None] = Deferred()

    @property
    def missing(self) -> int:
        """Bytes of the payload that have not come back yet."""
        return len(self._payload) - self._good

    def send(self, payload: bytes) -> Deferred[None]:
        """Send *payload*; fires when it has come back, or fails with `TargetError`."""
        self._payload, self._good = payload, 0
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        if self.problem is None and self.ended:
            self.problem = TargetError("closed", "end of stream before the payload was sent")
        if self.problem is not None:
            self._settle(self.problem)
        else:
            self.transport.write(payload)
        return waiting

    def end(self) -> Deferred[None]:
        """End our side; fires when the other side has ended too, in whatever way."""
        self.transport.loseWriteConnection()
        return self._end

    def _settle(self, problem: TargetError | None) -> None:
        if problem is not None and self.problem is None:
            self.problem = problem
        waiting, self._waiting = self._waiting, None
        settle(waiting, problem)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self.problem is not None:
            return
        self.first = self.first or data[:8]
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
        """Our side has ended; nothing to do."""

    @override
    def connectionLost(self, reason: Failure = Failure(CancelledError())) -> None:  # noqa: B008  # Twisted's
        self._ended(reason.value if isinstance(reason.value, TargetError) else None)

    def _ended(self, problem: TargetError | None) -> None:
        self.ended = True
        if self.missing or problem is not None:
            self._settle(
                problem
                or TargetError(
                    "closed",
                    f"end of stream after {self._good} of {len(self._payload)} bytes",
                )
            )
        if not self._end.called:
            self._end.callback(None)


class StreamProber:
    """Probes a stream: TCP, TLS or UNIX."""

    def __init__(
        self, reactor: Any, dialer: Dialer, settings: Settings, report: Report, output: Output
    ) -> None:
        self.reactor = reactor
        self.dialer = dialer
        self.settings = settings
        self.report = report
        self.output = output
        self._protocol: VerifyingProtocol | None = None
        self._transport: Stream | None = None
        self._session: Session | None = None
        self._hung_up = False  # the last probe was ended before a byte had come back

    @property
    def timeout(self) -> float:
        """Seconds for each step."""
        return self.dialer.options.timeout

    def what(self, length: int) -> str:
        """What has succeeded when a probe has, for people."""
        if not self.settings.handshake:
            return f"{length} bytes back"
        return "handshake complete" if self.dialer.target.transport == "tls" else "connected"

    async def probe(self, _sequence: int, length: int) -> float:
        """Send *length* random bytes; return the seconds until all had come back.

        Where only handshakes are asked for, make one on a new connection, and return how long that took.

        :raises TargetError: they did not all come back, or there was no handshake.
        """
        try:
            if self.settings.handshake:
                return await self._connect_once()
            if self._protocol is None:
                self._protocol, _ = await self._connect()
            return await self._exchange(self._protocol, os.urandom(length))
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> tuple[VerifyingProtocol, float]:
        """A new connection, and the seconds that making it took, without resolving the name."""
        report, protocol = self.report, VerifyingProtocol()
        dialed = await self.dialer.connect()
        moved = report.address != str(dialed.address)  # or this is the first connection
        report.address = str(dialed.address)
        if report.connect is None:
            report.lookup, report.connect = dialed.lookup, dialed.seconds
        began = time.perf_counter()
        try:
            transport = await self.dialer.adopt(dialed, protocol)
        except TargetError as error:
            error.facts |= {"address": str(dialed.address), "connect_ms": in_ms(dialed.seconds)}
            if isinstance(error, HandshakeError) and report.tls is None:
                report.tls = error.tls
            raise
        seconds = time.perf_counter() - began
        self._protocol, self._transport = protocol, transport
        line = f"connected to {dialed.address} in {1000 * dialed.seconds:.3f} ms"
        if isinstance(transport, TLSClient):
            line += f"; {transport.getHandle().get_protocol_version_name()} in {1000 * seconds:.3f} ms"
        if moved:
            self.output.say(line)
        if isinstance(transport, TLSClient) and report.handshake is None:
            report.tls, report.handshake = transport.facts(), seconds
            self._check_expiry(report.tls)
        return protocol, dialed.seconds + seconds

    def _check_expiry(self, tls: TLSFacts) -> None:
        least, earliest = self.settings.min_days, tls.earliest
        if least is None or earliest is None or earliest.days_left >= least:
            return
        detail = (
            f"the certificate of {earliest.subject or 'an unnamed subject'} expires on"
            f" {earliest.expires:%Y-%m-%d %H:%M} UTC, days left: {earliest.days_left};"
            f" expected at least {least} (--min-days)"
        )
        facts: dict[str, Fact] = {"expires": earliest.expires.isoformat(), "days_left": earliest.days_left}
        error = TargetError("cert-expires", detail, facts)
        self.output.failed(self.report, self.report.fail(None, error))

    async def _connect_once(self) -> float:
        """Connect, end, and return how long connecting took.

        In TLS 1.3, a server checks our certificate when the handshake is over for us, so what it does then
        belongs to the outcome.
        """
        protocol, seconds = await self._connect()
        late = timeout_error("no end", self.timeout)
        with suppress(TargetError):
            await with_timeout(self.reactor, min(self.timeout, VERDICT_TIME), late, protocol.end())
        self.close()
        problem = protocol.problem
        if problem is not None and problem.word in ("tls-alert", "reset"):
            raise problem
        return seconds

    async def _exchange(self, protocol: VerifyingProtocol, payload: bytes) -> float:
        began = time.perf_counter()
        waiting = protocol.send(payload)
        late = timeout_error("not all bytes came back", self.timeout)
        try:
            await with_timeout(self.reactor, self.timeout, late, waiting)
        except TargetError as error:
            if error is late:
                back = len(payload) - protocol.missing
                raise timeout_error(f"{back} of {len(payload)} bytes came back", self.timeout) from None
            if self.dialer.target.transport == "tcp" and not self.report.stats.received:
                if protocol.first.startswith(TLS_ALERT):
                    raise self._with_tls_hint(error) from None
                self._hung_up = not protocol.first and error.word in ("closed", "reset")
            raise
        return time.perf_counter() - began

    @property
    def _tls_hint(self) -> str:
        """What to try if a target that was probed as plain TCP speaks TLS."""
        return f"the target seems to speak TLS; try tls{self.dialer.target.text[len('tcp') :]}"

    def _with_tls_hint(self, error: TargetError) -> TargetError:
        return TargetError(error.word, f"{error.detail}; {self._tls_hint}", error.facts)

    async def _look_for_tls(self) -> None:
        """Explain the last failure, if nothing has ever come back from a target that speaks TLS.

        Most servers, OpenSSL's among them, close without a word when a first message is not TLS. Asking takes
        a connection of its own, so it comes after the probes, and only when they have all failed.
        """
        if self._hung_up and not self.report.stats.received and await self._speaks_tls():
            self.report.explain(self._tls_hint)
            self.output.say(self._tls_hint)

    async def _speaks_tls(self) -> bool:
        """Whether the answer to the beginning of a TLS handshake is TLS."""
        protocol = VerifyingProtocol()
        with suppress(TargetError):
            transport = await self.dialer.stream(protocol)
            try:
                late = timeout_error("no answer", self.timeout)
                await with_timeout(self.reactor, self.timeout, late, protocol.send(client_hello()))
            finally:
                if transport.connected:
                    transport.abortConnection()
        first = protocol.first
        # A handshake record with a ServerHello in it: an echo would be our own ClientHello.
        return first.startswith(TLS_ALERT) or (first.startswith(TLS_HANDSHAKE) and first[5:6] == SERVER_HELLO)

    async def finish(self, length: int) -> None:
        """Test how the target handles a half-close, and whether its TLS session can be resumed.

        :raises TargetError: wrong bytes came back, or the second connection failed.
        """
        protocol = self._protocol
        if protocol is None:
            await self._look_for_tls()
            return
        try:
            await self._half_close(protocol, os.urandom(length))
            problem = protocol.problem
            if problem is not None and problem.word == "mismatch":
                raise TargetError(problem.word, f"in the last payload, {problem.detail}", problem.facts)
        finally:
            self.close()
        if self._session is not None:
            await self._resume(self._session)

    async def _half_close(self, protocol: VerifyingProtocol, payload: bytes) -> None:
        transport = self._transport
        if isinstance(transport, TLSClient):
            self._session = transport.session()
        protocol.send(payload).addErrback(lambda _: None)  # `problem` and `missing` have the outcome
        if not protocol.ended:
            try:
                await with_timeout(self.reactor, self.timeout, self._no_end(), protocol.end())
            except TargetError:
                self.report.half_close = "open"
                return
        if protocol.problem is None or protocol.problem.word != "mismatch":  # otherwise it is not known
            self.report.half_close = "cut" if protocol.missing else "honoured"
        if isinstance(transport, TLSClient):
            self.report.close_notify = transport.close_notify_received

    def _no_end(self) -> TargetError:
        return timeout_error("no end", self.timeout)

    async def _resume(self, session: Session) -> None:
        protocol = VerifyingProtocol()
        transport = await self.dialer.stream(protocol, session=session)
        try:
            if isinstance(transport, TLSClient):
                self.report.resumed = transport.facts().resumed
            if self.report.half_close != "open":  # otherwise waiting would be in vain
                with suppress(TargetError):
                    await with_timeout(self.reactor, self.timeout, self._no_end(), protocol.end())
        finally:
            if transport.connected:
                transport.abortConnection()

    def close(self) -> None:
        """Abort the connection, if there is one."""
        if self._protocol is not None and self._transport is not None and self._transport.connected:
            self._transport.abortConnection()
        self._protocol = self._transport = None
