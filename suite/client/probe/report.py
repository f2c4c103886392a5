"""The findings about one target, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from suite.client.dial.failures import TargetError
from suite.client.dial.target import Target
from suite.client.dial.tls import TLSFacts
from suite.client.probe.stats import ProbeStats

HalfClose = Literal["honoured", "cut", "open"]

#: Explanations of `HalfClose`, for people.
HALF_CLOSES: Final[dict[HalfClose, str]] = {
    "honoured": "honoured: all bytes came back, then the target closed",
    "cut": "not honoured: the target closed before all bytes had come back",
    "open": "not honoured: the target did not close",
}


@dataclass(frozen=True)
class Failed:
    """One failure.

    :ivar sequence: the number of the probe that failed, from 1; None for a failure after the last probe.
    """

    sequence: int | None
    error: TargetError


@dataclass
class Report:
    """The findings about one target so far.

    :ivar address: the address that was connected to; None before the first connection.
    :ivar connect: the seconds that the first connection took.
    :ivar half_close: how the target handled our half-close; None: not tried.
    :ivar tls: the facts from the first handshake; None without a handshake.
    :ivar resumed: whether a second connection resumed the session of the first one; None: not tried.
    :ivar close_notify: whether the target sent close_notify before it closed; None: it has not closed.
    """

    target: Target
    stats: ProbeStats = field(default_factory=ProbeStats)
    failures: list[Failed] = field(default_factory=list)
    address: str | None = None
    connect: float | None = None
    half_close: HalfClose | None = None
    tls: TLSFacts | None = None
    resumed: bool | None = None
    close_notify: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether a payload came back, and there were no failures."""
        return self.stats.received > 0 and not self.failures

    def as_json(self) -> dict[str, Any]:
        """The report for programs; see docs/probe.md."""
        times = self.stats.summary()
        return {
            "target": self.target.text,
            "transport": self.target.transport,
            "address": self.address,
            "ok": self.ok,
            "sent": self.stats.sent,
            "received": self.stats.received,
            "loss": self.stats.loss,
            "late": self.stats.late,
            "duplicates": self.stats.duplicates,
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
        stats = self.stats
        counts = f"{stats.sent} sent, {stats.received} back, {100 * stats.loss:.3g} % lost"
        if stats.late or stats.duplicates:
            counts += f", {stats.late} late, {stats.duplicates} repeated"
        found = [f"--- {self.target.text}", counts]
        times = stats.summary()
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
                found.append("the target closed without close_notify")
        return found


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 6)
