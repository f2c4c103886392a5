"""The small services of the RFCs: what they say."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.answers.chargen import CYCLE, PIECE
from suite.answers.daytime import daytime
from suite.answers.qotd import QUOTES, SECONDS_PER_DAY, quote
from suite.answers.seconds import seconds_since_1900


def test_the_pattern_of_chargen() -> None:
    """RFC 864: lines of 72 characters, each one character further in the ring of 95."""
    lines = CYCLE.split(b"\r\n")[:-1]
    assert len(lines) == 95
    assert {len(line) for line in lines} == {72}
    assert lines[0].startswith(b" !\"#$%&'()*+,-./0123456789")
    assert all(after[:-1] == before[1:] for before, after in pairwise(lines))
    assert lines[-1][1:] == lines[0][:-1]
    assert len(PIECE) <= 64 * 1024


@pytest.mark.parametrize(
    ("year", "month", "day", "seconds"),
    [  # the RFC's own examples
        (1970, 1, 1, 2_208_988_800),
        (1976, 1, 1, 2_398_291_200),
        (1980, 1, 1, 2_524_521_600),
        (1983, 5, 1, 2_629_584_000),
        (1858, 11, 17, -1_297_728_000 % 2**32),
    ],
)
def test_the_epoch_of_rfc_868(year: int, month: int, day: int, seconds: int) -> None:
    now = datetime(year, month, day, tzinfo=UTC).timestamp()
    assert seconds_since_1900(now) == seconds.to_bytes(4, "big")


def test_after_2036_they_begin_again() -> None:
    last = datetime(2036, 2, 7, 6, 28, 15, tzinfo=UTC).timestamp()
    assert seconds_since_1900(last) == b"\xff" * 4
    assert seconds_since_1900(last + 1) == bytes(4)


@given(st.floats(0, 2**36))
def test_the_time_is_four_bytes(now: float) -> None:
    assert len(seconds_since_1900(now)) == 4


def test_the_day_and_the_time() -> None:
    now = datetime(1982, 2, 22, 17, 37, 43, tzinfo=UTC)
    assert daytime(now) == b"Monday, February 22, 1982 17:37:43-UTC\r\n"


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)))  # in UTC, as all here
def test_every_day_can_be_read_again(now: datetime) -> None:
    text = daytime(now.replace(tzinfo=UTC)).decode("ascii")
    read = datetime.strptime(text, "%A, %B %d, %Y %H:%M:%S-UTC\r\n").replace(tzinfo=UTC)
    assert read == now.replace(microsecond=0, tzinfo=UTC)


def test_quotes() -> None:
    """RFC 865: less than 512 characters, printing ones of ASCII; one a day."""
    said = [quote(day * SECONDS_PER_DAY + 5) for day in range(len(QUOTES))]
    assert len({*said}) == len(QUOTES)
    assert all(len(each) < 512 and each.endswith(b"\r\n") for each in said)
    assert all(each[:-2].decode().isprintable() for each in said)
    assert all(each.isascii() for each in said)
    today = time.time() // SECONDS_PER_DAY * SECONDS_PER_DAY
    assert quote(today) == quote(today + SECONDS_PER_DAY - 1)
