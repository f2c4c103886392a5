"""`suite.logs.lines`: lines that cannot be forged."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel, LogPublisher
from twisted.python import log as legacy

from suite.logs import lines as logs
from suite.logs.limit import BURST, KINDS, TOTAL, WINDOW
from suite.logs.lines import json_line, text_line
from suite.reasons import Reason
from tests.helpers import ROOT
from tests.logs.events import FULL, Hostile, event_of, failure_of

#: Generated values are large here, and machines may be slow.
unhurried = settings(suppress_health_check=[HealthCheck.too_slow])


# The reasons.


def test_the_page_has_every_reason_with_its_level_and_meaning() -> None:
    page = (ROOT / "docs/logs.md").read_text()
    table = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+) \|$", page, re.MULTILINE)
    assert table == [(str(reason), reason.level, reason.meaning) for reason in Reason]


def test_the_page_has_every_field() -> None:
    table = (ROOT / "docs/logs.md").read_text().partition("| field ")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z]+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert {*logs.FIELDS} <= {*named}


def test_every_reason_has_a_level_that_twisted_has() -> None:
    for reason in Reason:
        assert LogLevel.lookupByName(reason.level)


def test_the_page_names_the_limits_that_hold() -> None:
    page = " ".join((ROOT / "docs/logs.md").read_text().split())
    assert WINDOW == 1
    for promise in (
        f"limited to {logs.FIELD_LENGTH} characters, a message to {logs.MESSAGE_LENGTH:,}, "
        f"a traceback to {logs.FAILURE_LENGTH:,}",
        f"Up to {BURST} events of each kind are shown per second",
        f"never more than {TOTAL} lines a second",
        f"Up to {KINDS} kinds are told apart",
    ):
        assert promise in page


# Lines.


def test_the_page_shows_lines_as_they_are() -> None:
    page = (ROOT / "docs/logs.md").read_text()
    event = event_of(**FULL)
    assert text_line(event) == (
        "2026-11-22T13:14:15.123Z info tcp#17 127.0.0.1:40312 closed (stall, 1,024 bytes, 60.2 s)"
    )
    assert f"    {text_line(event)}\n" in page
    assert f"    {json_line(event)}\n" in page


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (event_of("started"), "info started"),
        (event_of("opened", endpoint="tls"), "info tls opened"),
        (event_of("odd", connection=3), "info #3 odd"),
        (event_of("refused", "warn", peer="[::1]:5", reason="per-peer"), "warn [::1]:5 refused (per-peer)"),
        (event_of("closed", received=1, duration=0.04), "info closed (1 byte, 0.0 s)"),
        (event_of("closed", received=2**30, duration=3600.0), "info closed (1,073,741,824 bytes, 3,600.0 s)"),
        (event_of("closed", received="many", duration=float("nan")), "info closed (many bytes, nan s)"),
        (event_of("deprecated", "warn", "twisted.internet"), "warn [twisted.internet] deprecated"),
        (event_of("x", "warn", "suited"), "warn [suited] x"),
        (event_of("x", namespace="suite"), "info x"),
        # Fields in the message are not repeated.
        (event_of("{peer} left: {reason}", peer="p", reason=Reason.TLS), "info p left: tls"),
        (event_of("{peer!r} left", peer="p", endpoint="e"), "info e 'p' left"),
        (event_of("{received:,} came", received=1234), "info 1,234 came"),
        (event_of("{peers} left", peers=5, peer="p"), "info p 5 left"),
    ],
)  # fmt: skip
def test_a_text_line_has_what_the_event_has(event: LogEvent, text: str) -> None:
    assert text_line(event) == f"2026-11-22T13:14:15.123Z {text}"


def test_a_json_line_has_what_the_event_has_and_the_message_in_full() -> None:
    event = event_of("{peer} left after {what}", "warn", "other", what="lunch", **FULL)
    assert json.loads(json_line(event)) == {
        "time": "2026-11-22T13:14:15.123Z",
        "level": "warn",
        "namespace": "other",
        **FULL,
        "message": "127.0.0.1:40312 left after lunch",
    }


FORGED = "no\x1b[2J\r\n2026-11-22T13:14:15.123Z info forged \u202e \x9b31m"


def test_a_traceback_is_one_field_in_json() -> None:
    line = json_line(event_of("bug", "critical", log_failure=failure_of(FORGED)))
    assert line.isprintable()
    entry = json.loads(line)
    assert entry["message"] == "bug"
    assert entry["failure"].startswith("Traceback (most recent call last):\n")
    assert entry["failure"].endswith(f"builtins.ValueError: {FORGED}")


def test_a_traceback_is_indented_and_escaped_in_text() -> None:
    first, *rest = text_line(event_of("bug", "critical", log_failure=failure_of(FORGED))).split("\n")
    assert first == "2026-11-22T13:14:15.123Z critical bug"
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-2:] == [
        r"    builtins.ValueError: no\x1b[2J\r",
        r"    2026-11-22T13:14:15.123Z info forged \u202e \x9b31m",
    ]
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_an_error_logged_the_old_way_has_its_traceback_apart_too() -> None:
    for why, message in ((None, "Unhandled Error"), ("it broke", "it broke")):
        events: list[LogEvent] = []
        publisher = legacy.LogPublisher(publishPublisher=LogPublisher(cast(Any, events.append)))
        publisher.msg(failure=failure_of("bad"), why=why, isError=1)  # as twisted.python.log.err does
        entry = json.loads(json_line(events[0]))
        assert (entry["level"], entry["namespace"], entry["message"]) == ("critical", "log_legacy", message)
        assert entry["failure"].endswith("builtins.ValueError: bad")


def test_what_is_long_loses_its_middle_and_says_so() -> None:
    for line in (text_line, json_line):
        assert f"{'a' * 100} [999,800 characters cut] {'a' * 100}" in line(event_of(peer="a" * 10**6))
        assert f"{'a' * 1000} [998,000 characters cut] {'a' * 1000}" in line(event_of("a" * 10**6))
        short = line(event_of("bug", log_failure=failure_of("a" * 10**6)))
        assert len(short) < 8200
        assert "Traceback" in short
        assert " characters cut] " in short


texts = st.one_of(
    st.text(),
    st.text(st.characters()),  # with surrogates
    st.text(st.sampled_from("\x00\x07\x1b[]\n\r\x7f\x85\x9b\u2028\u202e\ud800\udc80\udcff\\\"'{}é中")),
    st.text().map(lambda text: text * 300),
)
values = st.one_of(
    texts,
    st.binary(),
    st.integers(),
    st.integers().map(lambda n: n * 10**5000),
    st.floats(),
    st.none(),
    st.booleans(),
    st.lists(texts),
    st.sampled_from([Reason.IDLE, b"\xff\x1b", Hostile(), {"a": Hostile()}]),
)
events = st.builds(
    lambda fields, said: event_of("{said}", **fields, said=said),
    st.dictionaries(st.sampled_from(list(logs.FIELDS)), values),
    values,
)


@unhurried
@given(events)
def test_whatever_is_in_it_a_text_line_is_one_line_without_control_characters(event: LogEvent) -> None:
    line = text_line(event)
    assert line.isprintable()
    assert line.startswith("2026-11-22T13:14:15.123Z info ")
    assert len(line) < 10 * (logs.MESSAGE_LENGTH + 8 * logs.FIELD_LENGTH)


@pytest.mark.parametrize("character", [*map(chr, range(32)), *map(chr, range(127, 160)), "\u2028", "\u202e"])
def test_control_characters_and_their_like_are_escaped(character: str) -> None:
    event = event_of("{said}", said=f"a{character}b", peer=character)
    assert ascii(character)[1:-1] in text_line(event)
    assert text_line(event).isprintable()
    assert json_line(event).isprintable()
    assert json.loads(json_line(event))["message"] == f"a{character}b"


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@unhurried
@given(events)
def test_whatever_is_in_it_a_json_line_is_printable_ascii_that_everyone_can_read(event: LogEvent) -> None:
    line = json_line(event)
    assert line.isascii()
    assert line.isprintable()
    entry = json.loads(line, parse_constant=no_constant)
    assert isinstance(entry["message"], str)
    for name, value in entry.items():
        assert isinstance(value, (str, int, float))
        str(value).encode()  # no lone surrogates
        if isinstance(value, int):
            assert -(2**63) < value < 2**63
        assert name in {"time", "level", "message"} or event[name] is not None
    assert {name for name in logs.FIELDS if event.get(name) is not None} <= set(entry)


@unhurried
@given(st.text(max_size=logs.FIELD_LENGTH), st.text(max_size=logs.MESSAGE_LENGTH), st.integers(0, 2**63 - 1))
def test_a_json_line_gives_back_what_is_text(peer: str, said: str, received: int) -> None:
    entry = json.loads(json_line(event_of("{said}", peer=peer, said=said, received=received)))
    assert (entry["peer"], entry["message"], entry["received"]) == (peer, said, received)


@unhurried
@given(st.text())
def test_no_message_breaks_out_of_a_traceback(said: str) -> None:
    first, *rest = text_line(event_of("bug", log_failure=failure_of(said))).split("\n")
    assert first == "2026-11-22T13:14:15.123Z info bug"
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
