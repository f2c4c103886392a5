"""The date and the time for people (RFC 867), in UTC and in English, whatever the locale."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from suite.answers.once import once

WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def daytime(now: datetime) -> bytes:
    """*now*, in UTC, in the first of the two forms that the RFC shows, and CRLF."""
    day = f"{WEEKDAYS[now.weekday()]}, {MONTHS[now.month - 1]} {now.day}, {now.year}"
    return f"{day} {now:%H:%M:%S}-UTC\r\n".encode("ascii")


ANSWER = once("daytime", "the date and the time in words (RFC 867)", lambda: daytime(datetime.now(UTC)))
