"""The quote of the day (RFC 865): less than 512 characters of ASCII; another one each day (UTC)."""

from __future__ import annotations

import time
from typing import Final

from suite.answers.once import once

SECONDS_PER_DAY: Final = 86_400

#: Proverbs, and those whose authors have long been dead.
QUOTES: Final = (
    "Fall seven times, stand up eight. (Japanese proverb)",
    "A chain is no stronger than its weakest link. (proverb)",
    "Make haste slowly. (Augustus)",
    "Trust, but verify. (Russian proverb)",
    "A question well asked is half answered. (proverb)",
    "Measure seven times, cut once. (Russian proverb)",
    "No one steps into the same river twice. (Heraclitus)",
    "Who watches the watchmen? (Juvenal)",
    "Well begun is half done. (Aristotle)",
    "As one calls into the wood, so it echoes back. (German proverb)",
)


def quote(now: float) -> bytes:
    """The quote of the day in which *now* is, seconds since 1970."""
    return f"{QUOTES[int(now // SECONDS_PER_DAY) % len(QUOTES)]}\r\n".encode("ascii")


ANSWER = once("qotd", "the quote of the day (RFC 865)", lambda: quote(time.time()))
