"""What a client did with a specimen, and whether that was right.

Rules: a number is true or absent. What was not tried, or what nobody served, is neither right nor wrong, and
is never counted as refused. A crash and a hang are wrong whatever was expected: a client that dies of a
certificate has not refused it.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from suite.client.score.manifest import Exhibit
from suite.client.score.running import Ran
from suite.gallery.specimens import Must


class Outcome(StrEnum):
    """What a client did."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    CRASHED = "crashed"
    HUNG = "hung"
    NOT_TRIED = "not tried"
    UNREACHABLE = "unreachable"


class Verdict(StrEnum):
    """Whether that was right."""

    RIGHT = "right"
    WRONGLY_ACCEPTED = "wrongly accepted"
    WRONGLY_REFUSED = "wrongly refused"
    CRASHED = "crashed"
    HUNG = "hung"
    UNKNOWN = "unknown"


#: The verdicts with which a client has failed, the worst first.
WRONG: Final = (Verdict.WRONGLY_ACCEPTED, Verdict.CRASHED, Verdict.HUNG, Verdict.WRONGLY_REFUSED)

#: Signals that say that a program has failed by itself, which a shell reports as 128 and their number.
CRASHES: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
    if hasattr(signal, name)
)


@dataclass(frozen=True)
class Result:
    """One specimen, and what the client did with it.

    :ivar outcome: what it did.
    :ivar ran: its process; None: there was none.
    :ivar as_expected: whether what it printed names the error that the gallery expects of its TLS stack;
        None: it has not refused, or no error is known.
    :ivar blind: why it cannot see what is wrong, so that accepting it is right; empty: it can.
    """

    exhibit: Exhibit
    outcome: Outcome
    ran: Ran | None = None
    as_expected: bool | None = None
    blind: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether it was right."""
        match self.outcome:
            case Outcome.CRASHED:
                return Verdict.CRASHED
            case Outcome.HUNG:
                return Verdict.HUNG
            case Outcome.NOT_TRIED | Outcome.UNREACHABLE:
                return Verdict.UNKNOWN
            case Outcome.ACCEPTED if self.exhibit.must is Must.REFUSE and not self.blind:
                return Verdict.WRONGLY_ACCEPTED
            case Outcome.REFUSED if self.exhibit.must is Must.ACCEPT:
                return Verdict.WRONGLY_REFUSED
        return Verdict.RIGHT

    @property
    def key(self) -> tuple[str, str]:
        """What a baseline knows it by."""
        return self.exhibit.name, str(self.verdict)


@dataclass(frozen=True)
class Score:
    """What a client did with all specimens of a gallery.

    :ivar client: its name, or its command line, for people.
    :ivar results: one for each specimen, in the gallery's order.
    :ivar left_out: what the gallery does not have: name → why.
    :ivar seconds: how long it took.
    :ivar interrupted: whether it was, so that some have not been tried.
    :ivar known: what is wrong and was wrong before, by `Result.key`.
    """

    client: str
    results: Sequence[Result]
    left_out: Mapping[str, str]
    seconds: float
    interrupted: bool = False
    known: frozenset[tuple[str, str]] = field(default=frozenset())

    @property
    def counts(self) -> Counter[Verdict]:
        """How many specimens had each verdict."""
        return Counter(result.verdict for result in self.results)

    @property
    def wrong(self) -> list[Result]:
        """What is wrong, the worst first."""
        found = [result for result in self.results if result.verdict in WRONG]
        return sorted(found, key=lambda result: WRONG.index(result.verdict))

    @property
    def news(self) -> list[Result]:
        """What is wrong and is not known to be."""
        return [result for result in self.wrong if result.key not in self.known]

    @property
    def mended(self) -> list[tuple[str, str]]:
        """What was wrong before and is right now."""
        right = {result.exhibit.name for result in self.results if result.verdict is Verdict.RIGHT}
        return sorted(key for key in self.known if key[0] in right)

    @property
    def ok(self) -> bool:
        """Whether everything was tried, and nothing is wrong that was not known to be."""
        return not self.interrupted and not self.news and not self.counts[Verdict.UNKNOWN]
