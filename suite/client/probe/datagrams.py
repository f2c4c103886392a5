"""Probing a UDP target."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from twisted.internet.defer import Deferred

from suite.client.dial.datagrams import Datagrams
from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import TargetError
from suite.client.dial.waiting import settle, with_timeout
from suite.client.probe.compare import mismatch
from suite.client.probe.output import Output
from suite.client.probe.report import Report
from suite.client.probe.settings import Settings

#: Size of the token that identifies the probe.
TOKEN_SIZE: Final = 8

#: Size of the header, token and sequence number, of every datagram that is long enough for it.
HEADER_SIZE: Final = TOKEN_SIZE + 8

#: Datagrams that are recognized when they come late or again, counted back from the last one.
REMEMBERED: Final = 10_000


class DatagramProber:
    """Probes a UDP target.

    A datagram that is long enough begins with the token of this probe and a sequence number; a shorter one
    is recognized by its content only.
    """

    def __init__(
        self, reactor: Any, dialer: Dialer, _settings: Settings, report: Report, output: Output
    ) -> None:
        self.reactor = reactor
        self.dialer = dialer
        self.report = report
        self.output = output
        self._token = os.urandom(TOKEN_SIZE)
        self._datagrams: Datagrams | None = None
        self._sequence = 0
        self._payload = b""
        self._waiting: Deferred[None] | None = None
        self._back: set[int] = set()  # of the last `REMEMBERED` sequence numbers

    async def probe(self, sequence: int, length: int) -> float:
        """Send a random datagram of *length* bytes; return the seconds until its echo arrived.

        :raises TargetError: no correct echo arrived.
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
            self._back.discard(sequence - REMEMBERED)
            self._datagrams.send(self._payload)
            self._note_address(self._datagrams)
            lost = TargetError("lost", f"nothing came back within {timeout:g} s")
            await with_timeout(self.reactor, timeout, lost, waiting)
            seconds = time.perf_counter() - self._datagrams.sent_at
            self.report.address = str(self._datagrams.address)  # it may be a later one of the name
            return seconds
        except TargetError as error:
            if error.word not in ("lost", "mismatch"):
                self.close()  # the next probe resolves the name again
            raise
        finally:
            self._waiting = None

    @staticmethod
    def what(length: int) -> str:
        """What has succeeded when a datagram of *length* bytes has come back, for people."""
        return f"{length} bytes back"

    def _note_address(self, datagrams: Datagrams) -> None:
        if self.report.address is None:
            self.output.say(f"sending to {datagrams.address}")
            self.report.address = str(datagrams.address)

    def _received(self, data: bytes) -> None:
        if self._waiting is not None and data == self._payload:
            self._back.add(self._sequence)
            self._settle(None)
            return
        sequence = self._sequence_of(data)
        if sequence is not None and sequence < self._sequence + (self._waiting is None):
            if sequence in self._back:
                self.report.stats.duplicates += 1
                self.output.say(f"{len(data)} bytes came back again: seq={sequence}")
            else:
                self._back.add(sequence)
                self.report.stats.late += 1
                self.output.say(f"{len(data)} bytes came back late: seq={sequence}")
        elif self._waiting is not None:
            self._settle(mismatch(self._payload, data))
        elif data == self._payload:  # a duplicate of a datagram too short for a header
            self.report.stats.duplicates += 1

    def _sequence_of(self, data: bytes) -> int | None:
        """The sequence number of *data*; None if it is not a datagram of this probe."""
        if len(data) < HEADER_SIZE or data[:TOKEN_SIZE] != self._token:
            return None
        sequence = int.from_bytes(data[TOKEN_SIZE:HEADER_SIZE], "big")
        return sequence if self._sequence - REMEMBERED < sequence <= self._sequence else None

    def _failed(self, error: TargetError) -> None:
        self._settle(error)

    def _settle(self, problem: TargetError | None) -> None:
        waiting, self._waiting = self._waiting, None
        settle(waiting, problem)

    async def finish(self, _length: int) -> None:
        """Close the socket; UDP has no half-close to test."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None
