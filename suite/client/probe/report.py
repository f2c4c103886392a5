"""The findings about one target, for people and for programs.

Rules: numbers are true or absent; memory is bounded, however long a probe runs and however much fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from suite.client.dial.certificates import CertificateFacts
from suite.client.dial.failures import Fact, TargetError
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

#: How many failures are kept with their details; the others are counted by word.
MAX_KEPT: Final = 100


@dataclass(frozen=True)
class Failed:
    """One failure, without the `TargetError` itself, whose traceback would hold memory.

    :ivar sequence: the number of the probe that failed, from 1; None for a failure of none of them.
    """

    sequence: int | None
    word: str
    detail: str
    facts: Mapping[str, Fact]

    def as_json(self) -> dict[str, Any]:
        """The failure for programs; see docs/probe.md."""
        return {"sequence": self.sequence, "word": self.word, "detail": self.detail, **self.facts}


@dataclass
class Report:
    """The findings about one target so far.

    :ivar failures: the first `MAX_KEPT` failures.
    :ivar failed: how many failures there were of each word.
    :ivar address: the address of the last connection; None before the first one.
    :ivar lookup: the seconds that resolving the name took; None: not done.
    :ivar connect: the seconds that the first connection took, attempts at other addresses included.
    :ivar handshake: the seconds that the first TLS handshake took; None: there was none, or it failed.
    :ivar half_close: how the target handled our half-close; None: not tried, or wrong bytes came back.
    :ivar tls: the facts from the first handshake, even a failed one; None without a handshake.
    :ivar resumed: whether a second connection resumed the session of the first one; None: not tried.
    :ivar close_notify: whether the target sent close_notify before it closed; None: it has not closed.
    :ivar unanswered: the seconds for which a payload had waited when the probe was ended; None: none had.
    :ivar seconds: how long the probes of the target took.
    """

    target: Target
    stats: ProbeStats = field(default_factory=ProbeStats)
    failures: list[Failed] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    address: str | None = None
    lookup: float | None = None
    connect: float | None = None
    handshake: float | None = None
    half_close: HalfClose | None = None
    tls: TLSFacts | None = None
    resumed: bool | None = None
    close_notify: bool | None = None
    unanswered: float | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether a payload came back, and there were no failures."""
        return self.stats.received > 0 and not self.failed

    def fail(self, sequence: int | None, error: TargetError) -> Failed:
        """Note that probe number *sequence* has failed; None: the failure belongs to none of them."""
        failed = Failed(sequence, error.word, error.detail, error.facts)
        self.failed[error.word] += 1
        if len(self.failures) < MAX_KEPT:
            self.failures.append(failed)
        return failed

    def explain(self, hint: str) -> None:
        """Add *hint* to the details of the last failure that is kept."""
        last = self.failures[-1]
        self.failures[-1] = replace(last, detail=f"{last.detail}; {hint}")

    def as_json(self) -> dict[str, Any]:
        """The report for programs; see docs/probe.md."""
        stats = self.stats
        times = stats.summary()
        return {
            "target": self.target.text,
            "transport": self.target.transport,
            "address": self.address,
            "ok": self.ok,
            "sent": stats.sent,
            "received": stats.received,
            "loss": stats.loss,
            "late": stats.late,
            "duplicates": stats.duplicates,
            "unanswered_ms": in_ms(self.unanswered),
            "connect_ms": in_ms(self.connect),
            "rtt_ms": None
            if times is None
            else {
                "min": in_ms(times.minimum),
                "median": in_ms(times.median),
                "p99": in_ms(times.p99),
                "max": in_ms(times.maximum),
            },
            "half_close": self.half_close,
            "tls": None if self.tls is None else self._tls_as_json(self.tls),
            "failed": dict(self.failed),
            "failures": [failed.as_json() for failed in self.failures],
        }

    def _tls_as_json(self, tls: TLSFacts) -> dict[str, Any]:
        leaf = tls.chain[0] if tls.chain else None
        earliest = tls.earliest
        return {
            "version": tls.version,
            "cipher": tls.cipher,
            "alpn": tls.alpn,
            "handshake_ms": in_ms(self.handshake),
            "trusted": tls.problem is None,
            "problem": None if tls.problem is None else tls.problem.word,
            "names": None if leaf is None else list(leaf.names),
            "issuer": None if leaf is None else leaf.issuer,
            "valid_from": None if leaf is None else leaf.valid_from.isoformat(),
            "expires": None if leaf is None else leaf.expires.isoformat(),
            "days_left": None if leaf is None else leaf.days_left,
            "earliest": None
            if earliest is None
            else {
                "subject": earliest.subject,
                "expires": earliest.expires.isoformat(),
                "days_left": earliest.days_left,
            },
            "chain": [certificate.as_json() for certificate in tls.chain],
            "resumed": self.resumed,
            "close_notify": self.close_notify,
        }

    def lines(self) -> list[str]:
        """The report for people."""
        stats = self.stats
        loss = "–" if stats.loss is None else f"{100 * stats.loss:.3g}"  # noqa: RUF001  # for "absent"
        counts = f"{stats.sent} sent, {stats.received} back, {loss} % lost"
        if stats.late or stats.duplicates:
            counts += f", {stats.late} late, {stats.duplicates} repeated"
        found = [f"--- {self.target.text}", counts]
        if self.unanswered is not None:
            found.append(f"one more was sent, and unanswered for {self.unanswered:.1f} s")
        omitted = self.failed.total() - len(self.failures)
        if omitted:
            found.append("failures: " + ", ".join(f"{word} {n}" for word, n in self.failed.most_common()))
        times = stats.summary()
        if times is not None:
            values = "/".join(
                f"{1000 * value:.3f}" for value in (times.minimum, times.median, times.p99, times.maximum)
            )
            found.append(f"RTT min/median/p99/max = {values} ms")
        if self.half_close is not None:
            found.append(f"half-close {HALF_CLOSES[self.half_close]}")
        if self.tls is not None:
            found += self._tls_lines(self.tls)
        return found

    def _tls_lines(self, tls: TLSFacts) -> list[str]:
        found = []
        if self.handshake is not None:
            resumed = {None: "not tried", True: "yes", False: "no"}[self.resumed]
            found.append(f"{tls.version}, {tls.cipher}, ALPN {tls.alpn or 'none'}, resumption {resumed}")
        if tls.chain:
            leaf, earliest = tls.chain[0], tls.earliest or tls.chain[0]
            found.append(f"certificate for {', '.join(leaf.names) or 'no names'}; {_left(leaf)}")
            found.append(f"issued by {leaf.issuer or 'nobody named'}; certificates sent: {len(tls.chain)}")
            if earliest.expires < leaf.expires:
                found.append(f"the CA certificate of {earliest.subject} expires earlier: {_left(earliest)}")
        if tls.problem is not None and self.handshake is not None:
            found.append(f"NOT TRUSTED (--insecure): {tls.problem}")
        if self.close_notify is False:
            found.append("the target closed without close_notify")
        return found


def _left(certificate: CertificateFacts) -> str:
    if certificate.days_left < 0:
        return f"expired on {certificate.expires:%Y-%m-%d}"
    if certificate.valid_from > datetime.now(UTC):
        return f"not valid before {certificate.valid_from:%Y-%m-%d} (until {certificate.expires:%Y-%m-%d})"
    return f"{certificate.days_left} days left (until {certificate.expires:%Y-%m-%d})"


def in_ms(seconds: float | None) -> float | None:
    """*seconds* in milliseconds, to the nanosecond; None stays None."""
    return None if seconds is None else round(1000 * seconds, 6)
