"""The time for programs (RFC 868): seconds since 1900, as 32 bits.

Those seconds run out on 7 February 2036, and begin again at 0, as NTP's do (RFC 5905, section 6).
"""

from __future__ import annotations

import time
from typing import Final

from suite.answers.once import once

#: Seconds from 1900 to 1970: 17 of these years were leap years.
FROM_1900_TO_1970: Final = (70 * 365 + 17) * 86_400


def seconds_since_1900(now: float) -> bytes:
    """*now*, in seconds since 1970, as the RFC has it, the most significant byte first."""
    return ((int(now) + FROM_1900_TO_1970) % 2**32).to_bytes(4, "big")


ANSWER = once("time", "seconds since 1900, in four bytes (RFC 868)", lambda: seconds_since_1900(time.time()))
