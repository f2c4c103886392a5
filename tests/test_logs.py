"""The log: lines that cannot be forged, floods that are counted, destinations that fail."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import select
import socket
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogBeginner, LogEvent, Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from suite import logs
from suite.errors import UsageError
from suite.logs import BURST, KINDS, TOTAL, WINDOW, Destination, RateLimit, Settings, json_line, text_line
from suite.reasons import Reason
from tests.helpers import ROOT, SuiteReactor
from tests.running import FOUR_TRANSPORTS, RunningSuite, echo, read_to_end, running, wait_until

#: 2026-11-22T13:14:15.123Z
TIME = 1795353255.123

#: Generated values are large here, and machines may be slow.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def event_of(said: str = "closed", /, level: str = "info", namespace: str = "suite", **more: Any) -> LogEvent:
    """An event as made by a `Logger`."""
    return {
        "log_time": TIME,
        "log_level": LogLevel.lookupByName(level),
        "log_namespace": namespace,
        "log_format": said,
        **more,
    }


def failure_of(said: str) -> Failure:
    """The failure of a bug with the message *said*."""
    try:
        raise ValueError(said)
    except ValueError:
        return Failure()


# 1. The reasons.


def test_the_page_has_every_reason_with_its_level_and_meaning() -> None:
    page = (ROOT / "docs/logs.md").read_text()
    table = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+) \|$", page, re.MULTILINE)
    assert table == [(str(reason), reason.level, reason.meaning) for reason in Reason]


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


# 2. Lines.

FULL: dict[str, Any] = {
    "endpoint": "tcp",
    "connection": 17,
    "peer": "127.0.0.1:40312",
    "reason": Reason.STALL,
    "received": 1024,
    "duration": 60.2,
}


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


class Hostile:
    """An object that cannot be converted to text."""

    def __str__(self) -> str:
        raise RuntimeError("\x1b[31m")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        raise RuntimeError("\x1b[31m")

    __hash__ = None  # type: ignore[assignment]


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


# 3. Limits.


class Limited:
    """A `RateLimit` with its own clock.

    :ivar seen: the events that it has shown.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.seen: list[LogEvent] = []
        self.limit = RateLimit(self.clock, cast(Any, self.seen.append))

    def log(self, times: int = 1, said: str = "{what} failed", **more: Any) -> None:
        for _ in range(times):
            self.limit(event_of(said, **{"what": "it", **more}))

    def take(self) -> list[int | None]:
        """The counts shown since the last call; None stands for an event itself."""
        taken, self.seen[:] = self.seen[:], []
        return [event.get("suppressed") for event in taken]


def test_a_few_of_a_kind_are_shown_and_the_others_counted() -> None:
    limited = Limited()
    limited.log(BURST)
    assert limited.take() == [None] * BURST
    limited.log(3912)
    assert limited.take() == []
    limited.clock.advance(WINDOW)
    (summary,) = limited.seen
    assert text_line(summary)[25:] == "info it failed; suppressed 3,912 like it"
    assert json.loads(json_line(summary))["suppressed"] == 3912


def test_nothing_is_scheduled_while_nothing_happens() -> None:
    limited = Limited()
    assert limited.clock.getDelayedCalls() == []
    limited.log()
    assert len(limited.clock.getDelayedCalls()) == 1
    limited.clock.advance(WINDOW)
    assert limited.clock.getDelayedCalls() == []
    limited.log(1000)
    for _ in range(3):
        limited.clock.advance(WINDOW)
    assert limited.clock.getDelayedCalls() == []
    assert limited.take() == [None] * (1 + BURST) + [995]


def test_while_a_flood_goes_on_there_is_one_line_in_a_window() -> None:
    limited = Limited()
    for _ in range(3):
        limited.log(1000)
        limited.clock.advance(WINDOW)
    assert limited.take() == [None] * BURST + [995, 1000, 1000]
    limited.log(BURST)  # no longer a flood, but still one event more than allowed
    limited.clock.advance(WINDOW)
    assert limited.take() == [BURST]
    limited.log(BURST)
    assert limited.take() == [None] * BURST


def test_a_summary_is_of_the_kind_that_it_stands_for_and_of_no_one_connection() -> None:
    limited = Limited()
    for number in range(BURST + 2):
        limited.log(**{**FULL, "connection": number, "what": number})
    limited.clock.advance(WINDOW)
    entry = json.loads(json_line(limited.seen[-1]))
    assert entry.pop("time")
    assert entry == {
        "level": "info",
        "endpoint": "tcp",
        "reason": "stall",
        "suppressed": 2,
        "message": f"{BURST} failed; suppressed 2 like it",
    }


@pytest.mark.parametrize(
    "other",
    [
        {"said": "another thing"},
        {"endpoint": "tls"},
        {"reason": Reason.IDLE},
        {"namespace": "suite.engine"},
        {"level": "warn"},
    ],
)
def test_one_kind_does_not_silence_another(other: dict[str, Any]) -> None:
    limited = Limited()
    limited.log(100)
    limited.take()
    limited.log(**other)
    assert limited.take() == [None]


def test_what_a_peer_decides_about_makes_no_kind() -> None:
    limited = Limited()
    for number in range(1000):
        limited.log(what=number, peer=f"192.0.2.1:{number}", connection=number, received=number, duration=1.5)
    limited.clock.advance(WINDOW)
    assert limited.take() == [None] * BURST + [1000 - BURST]


def test_all_kinds_together_have_a_limit_too() -> None:
    limited = Limited()
    for number in range(40):
        limited.log(10, endpoint=f"e{number}")
    assert limited.take() == [None] * TOTAL
    limited.clock.advance(WINDOW)
    assert limited.take() == [5] * 20 + [10] * 20
    # The summaries are lines of the next window.
    for number in range(40, 80):
        limited.log(10, endpoint=f"e{number}")
    assert limited.take() == [None] * (TOTAL - 40)


def test_a_quiet_while_gives_every_line_back() -> None:
    limited = Limited()
    for _ in range(2):
        for number in range(30):
            limited.log(BURST, endpoint=f"e{number}")
        limited.clock.advance(WINDOW)
        assert limited.take() == [None] * TOTAL + [BURST] * 10
        limited.clock.advance(WINDOW)
        assert limited.clock.getDelayedCalls() == []


def test_more_kinds_than_are_told_apart_have_a_summary_in_common() -> None:
    limited = Limited()
    for number in range(10_000):
        limited.log(2, endpoint=f"e{number}")
    assert len(limited.limit._counts) == KINDS + 1
    limited.clock.advance(WINDOW)
    summaries = [event for event in limited.seen if "suppressed" in event]
    assert len(limited.seen) - len(summaries) == TOTAL
    assert len(summaries) <= TOTAL
    assert TOTAL + sum(event["suppressed"] for event in summaries) == 20_000
    assert text_line(summaries[-1])[25:].startswith(
        "warn too many kinds of events to distinguish; suppressed 19,8"
    )


@pytest.mark.parametrize("reason", [["a list"], {"a": "table"}, Hostile()], ids=["list", "table", "hostile"])
def test_a_field_that_has_no_hash_makes_a_kind_too(reason: object) -> None:
    limited = Limited()
    limited.log(BURST + 2, reason=reason)
    limited.log(reason=["another"])
    limited.clock.advance(WINDOW)
    assert limited.take() == [None] * (BURST + 1) + [2]


def test_debug_events_are_shown_one_and_all() -> None:
    limited = Limited()
    limited.log(10 * TOTAL, level="debug")
    assert limited.take() == [None] * 10 * TOTAL
    limited.log(BURST)
    assert limited.take() == [None] * BURST


def test_what_was_counted_is_said_at_the_end() -> None:
    limited = Limited()
    limited.log(100)
    limited.limit.flush()
    assert limited.take() == [None] * BURST + [95]
    assert limited.clock.getDelayedCalls() == []
    limited.log(BURST + 1)
    limited.clock.advance(WINDOW)
    assert limited.take() == [None] * BURST + [1], "and it goes on, should anyone go on to log"
    limited.limit.flush()
    assert limited.take() == []


@unhurried
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 30), st.sampled_from([0, 0, 0.3, 1, 2.5]))))
def test_what_is_shown_and_what_is_counted_add_up(steps: list[tuple[int, int, float]]) -> None:
    limited = Limited()
    for kind, times, pause in steps:
        limited.log(times, endpoint=f"e{kind}")
        limited.clock.advance(pause)
        assert len(limited.limit._counts) <= KINDS + 1
        assert limited.limit._lines <= TOTAL
    lines_at_end = len(limited.seen)
    limited.limit.flush()
    assert len(limited.seen) - lines_at_end <= TOTAL
    shown = [event for event in limited.seen if "suppressed" not in event]
    counted = sum(event["suppressed"] for event in limited.seen if "suppressed" in event)
    assert len(shown) + counted == sum(times for _, times, _ in steps)


# 4. Destinations.


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where it is read, and where it is written."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:  # the test has
            continue


def fill(descriptor: int) -> int:
    """Fill a pipe to its last byte; return how many that took."""
    os.set_blocking(descriptor, False)
    count = 0
    try:
        while True:
            count += os.write(descriptor, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(descriptor, True)
        return count


def test_a_pipe_that_nobody_reads_blocks_nobody_and_its_losses_are_counted(pipe: tuple[int, int]) -> None:
    read, write = pipe
    destination = Destination(write, text_line)
    capacity = fill(write)
    for _ in range(12):
        destination(event_of("lost"))
    assert destination.lost == 12
    assert len(read_exactly(read, capacity)) == capacity
    destination(event_of("heard"))
    lines = os.read(read, 65536).decode().splitlines()
    assert [line[25:] for line in lines] == [
        "warn log lines dropped here: 12 (destination not read)",
        "info heard",
    ]
    assert destination.lost == 0


def test_a_line_that_was_torn_does_not_spoil_the_next(pipe: tuple[int, int]) -> None:
    read, write = pipe
    capacity = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    destination = Destination(write, lambda event: str(event["log_format"]))
    destination(event_of("a" * (2 * capacity)))
    assert destination.lost == 1
    torn = read_exactly(read, capacity)
    assert torn == b"a" * len(torn)
    destination(event_of("next"))
    _, _, *rest = os.read(read, 65536).split(b"\n")
    assert rest == [b"next", b""]


def read_exactly(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(descriptor, size - len(data))
    return data


def test_a_pipe_whose_reader_has_gone_costs_lines_only(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    destination = Destination(write, json_line)
    for _ in range(3):
        destination(event_of())
    assert destination.lost == 3


def test_a_disk_without_space_costs_lines_only() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        destination = Destination(full.fileno(), json_line)
        destination(event_of())
        assert destination.lost == 1
        assert destination._why == "No space left on device"


def test_a_terminal_that_is_stopped_blocks_nobody() -> None:
    ours, theirs = os.openpty()
    try:
        opened = logs.reopened(theirs)
        assert os.get_blocking(theirs), "the shell's stays as it is"
        assert not os.get_blocking(opened)
        destination = Destination(opened, text_line)
        termios.tcflow(theirs, termios.TCOOFF)
        destination(event_of("lost"))
        assert destination.lost == 1
        termios.tcflow(theirs, termios.TCOON)
        destination(event_of("heard"))
        assert destination.lost == 0
        assert b"dropped here: 1 (destination not read)\r\n" in os.read(ours, 4096)
        # And one whose other end hangs: it fills up.
        for _ in range(100_000):
            destination(event_of("a" * 1000))
            if destination.lost:
                break
        assert destination.lost == 1
        os.close(opened)
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_the_encoding_does_not_have_is_escaped(pipe: tuple[int, int]) -> None:
    read, write = pipe
    Destination(write, text_line, "ascii")(event_of("\xdb é 中"))  # U+00DB is C3 9B in UTF-8: a CSI to some
    assert os.read(read, 4096).endswith(b"info \\xdb \\xe9 \\u4e2d\n")


# 5. The whole of it.


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> LogPublisher:
    """Where events go that would be everyone's."""
    publisher = LogPublisher()
    stand_in: Any = SimpleNamespace(showwarning=None)
    beginner = LogBeginner(publisher, io.StringIO(), SimpleNamespace(), stand_in)
    monkeypatch.setattr(logs, "globalLogBeginner", beginner)
    return publisher


class Stderr:
    """Standard error that is a descriptor."""

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self.fileno = lambda: descriptor


@pytest.mark.parametrize(
    ("level", "ours", "others"),
    [
        ("debug", "debug info warn error critical", "warn error critical"),
        ("info", "info warn error critical", "warn error critical"),
        ("warn", "warn error critical", "warn error critical"),
        ("error", "error critical", "error critical"),
        ("critical", "critical", "critical"),
    ],
)
def test_the_level_is_for_our_own_and_everyone_else_has_to_warn(
    publisher: LogPublisher,
    monkeypatch: pytest.MonkeyPatch,
    pipe: tuple[int, int],
    level: str,
    ours: str,
    others: str,
) -> None:
    monkeypatch.setattr(sys, "stderr", Stderr(pipe[1]))
    logs.start(SuiteReactor(), Settings("json", level))
    names = ("suite", "suite.engine.tls", "twisted.internet", "suited")
    for namespace in names:
        log = Logger(namespace, observer=publisher)
        for each in LogLevel.iterconstants():
            log.emit(each, f"from {namespace}")
    heard: dict[str, list[str]] = {namespace: [] for namespace in names}
    for line in os.read(pipe[0], 65536).splitlines():
        entry = json.loads(line)
        heard[entry["message"].removeprefix("from ")].append(entry["level"])
    assert [" ".join(levels) for levels in heard.values()] == [ours, ours, others, others]


def test_an_event_that_is_not_shown_is_not_formatted(
    publisher: LogPublisher, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    formatted = []

    class Watched:
        def __str__(self) -> str:
            formatted.append(self)
            return "watched"

        __format__ = None  # type: ignore[assignment]

    monkeypatch.setattr(sys, "stderr", Stderr(pipe[1]))
    logs.start(SuiteReactor(), Settings())
    log = Logger("suite", observer=publisher)
    log.debug("{it!s}", it=Watched(), peer=Watched())
    assert formatted == []
    for _ in range(1000):
        log.info("{it!s}", it=Watched())
    assert len(formatted) == BURST + 1, "the first that is only counted is the summary's example"


def test_the_end_of_the_reactor_says_what_was_only_counted(
    publisher: LogPublisher, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    monkeypatch.setattr(sys, "stderr", Stderr(pipe[1]))
    reactor = SuiteReactor()
    logs.start(reactor, Settings())
    log = Logger("suite", observer=publisher)
    for _ in range(10):
        log.info("again")
    os.read(pipe[0], 65536)
    ((flush, args, kwargs),) = reactor.triggers["after"]["shutdown"]
    flush(*args, **kwargs)
    assert json.loads(os.read(pipe[0], 65536))["suppressed"] == 5
    assert reactor.getDelayedCalls() == []


def test_a_terminal_that_hangs_stops_nobody(publisher: LogPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    opened: list[int] = []

    def reopened(terminal: int) -> int:
        opened.append(reopen(terminal))
        return opened[0]

    reopen = logs.reopened
    monkeypatch.setattr(logs, "reopened", reopened)
    monkeypatch.setattr(sys, "stderr", Stderr(theirs))
    try:
        logs.start(SuiteReactor(), Settings(level="debug"))
        log = Logger("suite", observer=publisher)
        for _ in range(2000):  # more than it can hold, and nobody reads it
            log.debug("a" * 1000)
        assert b"Z debug aaa" in os.read(ours, 100)
    finally:
        for descriptor in (ours, theirs, *opened):
            os.close(descriptor)


def test_without_standard_error_there_is_no_log(
    publisher: LogPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    reactor = SuiteReactor()
    logs.start(reactor, Settings())
    Logger("suite", observer=publisher).error("nobody hears this")
    assert reactor.triggers == {}


def test_settings_that_cannot_be_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match="--log 'xml': no such format; expected json or text"):
        Settings("xml")
    with pytest.raises(UsageError, match="--log-level 'warning': no such level; did you mean warn"):
        Settings(level="warning")


# 6. The running program.

GARBAGE = b"GET / HTTP/1.0\r\n\r\n"


def speak_garbage(suite: RunningSuite) -> int:
    """Say something that is no TLS where TLS is spoken; return the port it was said from."""
    with suite.connect("tls") as sock:
        sock.sendall(GARBAGE)
        read_to_end(sock.recv)
        port: int = sock.getsockname()[1]
        return port


def redirected(to: str) -> tuple[str, ...]:
    """The suite with its standard error somewhere else, in a shell's words."""
    return ("/bin/sh", "-c", f'exec "$0" -m suite "$@" 2>{to}', sys.executable)


def still_echoes(suite: RunningSuite) -> bool:
    with suite.connect("tcp") as sock:
        return echo(sock, b"hola", lambda: sock.shutdown(socket.SHUT_WR)) == b"hola"


@pytest.mark.parametrize("arguments", [(), ("--log", "json")], ids=["by default", "by name"])
def test_a_failed_handshake_is_one_json_line_in_a_pipe(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with running(tmp_path, FOUR_TRANSPORTS, *arguments) as suite:
        port = speak_garbage(suite)
    (event,) = suite.events
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    assert (event["level"], event["reason"], event["peer"]) == ("info", "tls", f"127.0.0.1:{port}")
    assert "http request" in event["message"]


def test_a_failed_handshake_is_one_text_line_when_asked_for(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS, "--log", "text") as suite:
        port = speak_garbage(suite)
    (line,) = suite.errors
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]{12}Z info .+ \(tls, 0 bytes, .+ s\)", line)
    assert f"127.0.0.1:{port}" in line


def test_on_a_terminal_it_is_text(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        terminal = redirected(os.ttyname(theirs))
        with running(tmp_path, FOUR_TRANSPORTS, command=terminal) as suite:
            speak_garbage(suite)
            assert select.select([ours], [], [], 60)[0], "nothing on the terminal"
            assert os.read(ours, 4096).endswith(b" s)\r\n")
    finally:
        os.close(ours)
        os.close(theirs)


def test_warn_leaves_out_what_peers_do(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS, "--log-level", "warn") as suite:
        speak_garbage(suite)
    assert suite.errors == []


def test_an_ordinary_life_is_silent(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite:
        assert still_echoes(suite)
    assert suite.errors == []


def test_2000_bad_clients_are_few_lines_and_none_of_them_is_missing(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite:
        for _ in range(2000):
            speak_garbage(suite)
        # The summary comes when its second is over, and not only at the end.
        wait_until(lambda: any('"suppressed"' in line for line in suite.errors), "a summary appeared")
    assert {event["reason"] for event in suite.events} == {"tls"}
    counted = [event["suppressed"] for event in suite.events if "suppressed" in event]
    assert len(suite.events) - len(counted) + sum(counted) == 2000
    assert len(suite.events) < 400, "a few in the first second, and one in each that followed"


@pytest.mark.parametrize("to", ["/dev/full", "&-", "/dev/null"])
@pytest.mark.parametrize("style", ["text", "json"])
def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, to: str, style: str) -> None:
    with running(tmp_path, FOUR_TRANSPORTS, "--log", style, command=redirected(to)) as suite:
        for _ in range(20):
            speak_garbage(suite)
        assert still_echoes(suite)


@pytest.mark.parametrize("state", ["gone", "stuck"])
def test_a_pipe_that_is_not_read_stops_nothing(tmp_path: Path, state: str) -> None:
    """Its reader has gone, or is there but does not read."""
    (tmp_path / "start.py").write_text(
        "import os, sys\n"
        "read, write = os.pipe()\n"
        "os.set_blocking(write, False)\n"
        "try:\n"
        "    while True:\n"
        "        os.write(write, b'.' * 4096)\n"
        "except BlockingIOError:\n"
        "    os.set_blocking(write, True)\n"
        f"if {state == 'stuck'}:\n"
        "    os.set_inheritable(read, True)\n"
        "os.dup2(write, 2)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'suite', *sys.argv[1:]])\n"
    )
    with running(tmp_path, FOUR_TRANSPORTS, command=[sys.executable, "start.py"]) as suite:
        for _ in range(20):
            speak_garbage(suite)
        assert still_echoes(suite)
