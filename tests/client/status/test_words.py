"""Numbers, times and counts, for people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from suite.client.status.words import (
    NOTHING,
    by_word,
    counted,
    shown_count,
    shown_day,
    shown_duration,
    shown_instant,
    shown_rate,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, NOTHING),
        (0, "0 s"),
        (0.25, "0.2 s"),
        (9.94, "9.9 s"),
        (9.99, "10 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (65, "1 min 5 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (3659, "1 h"),
        (86400 * 3 + 4 * 3600 + 59 * 60, "3 d 4 h"),
    ],
)
def test_a_time(seconds: float | None, text: str) -> None:
    assert shown_duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, NOTHING), (0, "0"), (0.04, "<0.1"), (0.5, "0.5"), (9.96, "10"), (1234.6, "1,235")],
)
def test_a_rate(number: float | None, text: str) -> None:
    assert shown_rate(number) == text


def test_a_count() -> None:
    assert [shown_count(None), shown_count(0), shown_count(1204)] == [NOTHING, "0", "1,204"]
    assert [counted(1, "endpoint"), counted(2000, "endpoint")] == ["1 endpoint", "2,000 endpoints"]


def test_counts_by_word() -> None:
    counts = {"denied": 3, "per-peer": 1200, "rate": 0, "size": 1, "loop": 2}
    assert by_word(counts) == "1,200 per-peer, 3 denied, 2 loop, 1 size"
    assert by_word(counts, 3) == "1,200 per-peer, 3 denied, 3 others"
    assert by_word(counts, 4) == by_word(counts)
    assert by_word({}) == by_word({"denied": 0}) == ""


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
def test_an_instant_is_in_local_time() -> None:
    now = datetime.now(UTC)
    assert shown_instant(now.isoformat()) == f"{now.astimezone():%H:%M:%S}"
    assert shown_instant("2020-02-29T23:30:00Z") == "2020-03-01 00:30:00"
    assert shown_instant("2020-02-29T23:30:00.123Z") == "2020-03-01 00:30:00"
    assert [shown_instant(None), shown_instant("soon")] == [NOTHING, "soon"]
    assert [shown_day(None), shown_day("2020-02-29T23:30:00Z")] == [NOTHING, "2020-02-29"]
