"""`suite.logs.log`: destinations that fail, and the log of a running program."""

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
from typing import Any

import pytest
from twisted.logger import LogBeginner, Logger, LogLevel, LogPublisher

from suite.errors import UsageError
from suite.logs import log as log_module
from suite.logs.limit import BURST
from suite.logs.lines import json_line, text_line
from suite.logs.log import Destination, Settings, start
from suite.output import LineWriter, reopened
from tests.helpers import SuiteReactor
from tests.logs.events import event_of
from tests.running import FOUR_TRANSPORTS, RunningSuite, echo, read_to_end, running, wait_until

# Destinations.


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
    destination = Destination(LineWriter(write), text_line)
    capacity = fill(write)
    for _ in range(12):
        destination(event_of("lost"))
    assert destination.writer.lost == 12
    assert len(read_exactly(read, capacity)) == capacity
    destination(event_of("heard"))
    lines = os.read(read, 65536).decode().splitlines()
    assert [line[25:] for line in lines] == [
        "warn log lines dropped here: 12 (destination not read)",
        "info heard",
    ]
    assert destination.writer.lost == 0


def test_a_line_that_was_torn_does_not_spoil_the_next(pipe: tuple[int, int]) -> None:
    read, write = pipe
    capacity = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    destination = Destination(LineWriter(write), lambda event: str(event["log_format"]))
    destination(event_of("a" * (2 * capacity)))
    assert destination.writer.lost == 1
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
    destination = Destination(LineWriter(write), json_line)
    for _ in range(3):
        destination(event_of())
    assert destination.writer.lost == 3


def test_a_disk_without_space_costs_lines_only() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        destination = Destination(LineWriter(full.fileno()), json_line)
        destination(event_of())
        assert destination.writer.lost == 1
        assert destination.writer.why == "No space left on device"


def test_a_terminal_that_is_stopped_blocks_nobody() -> None:
    ours, theirs = os.openpty()
    try:
        opened = reopened(theirs)
        assert os.get_blocking(theirs), "the shell's stays as it is"
        assert not os.get_blocking(opened)
        destination = Destination(LineWriter(opened), text_line)
        termios.tcflow(theirs, termios.TCOOFF)
        destination(event_of("lost"))
        assert destination.writer.lost == 1
        termios.tcflow(theirs, termios.TCOON)
        destination(event_of("heard"))
        assert destination.writer.lost == 0
        assert b"dropped here: 1 (destination not read)\r\n" in os.read(ours, 4096)
        # And one whose other end hangs: it fills up.
        for _ in range(100_000):
            destination(event_of("a" * 1000))
            if destination.writer.lost:
                break
        assert destination.writer.lost == 1
        os.close(opened)
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_the_encoding_does_not_have_is_escaped(pipe: tuple[int, int]) -> None:
    read, write = pipe
    Destination(LineWriter(write, "ascii"), text_line)(
        event_of("\xdb é 中")
    )  # U+00DB is C3 9B in UTF-8: a CSI to some
    assert os.read(read, 4096).endswith(b"info \\xdb \\xe9 \\u4e2d\n")


# The whole of it.


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> LogPublisher:
    """Where events go that would be everyone's."""
    publisher = LogPublisher()
    stand_in: Any = SimpleNamespace(showwarning=None)
    beginner = LogBeginner(publisher, io.StringIO(), SimpleNamespace(), stand_in)
    monkeypatch.setattr(log_module, "globalLogBeginner", beginner)
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
    start(SuiteReactor(), Settings("json", level))
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
    start(SuiteReactor(), Settings())
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
    started = start(reactor, Settings())
    assert (started.suppressed, started.lost, started.file) == (0, 0, None)
    log = Logger("suite", observer=publisher)
    for _ in range(10):
        log.info("again")
    assert (started.suppressed, started.lost) == (10 - BURST, 0)
    os.read(pipe[0], 65536)
    ((flush, args, kwargs),) = reactor.triggers["after"]["shutdown"]
    flush(*args, **kwargs)
    assert json.loads(os.read(pipe[0], 65536))["suppressed"] == 5
    assert reactor.getDelayedCalls() == []


def test_a_terminal_that_hangs_stops_nobody(publisher: LogPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    opened: list[int] = []

    def remembered(terminal: int) -> int:
        opened.append(reopened(terminal))
        return opened[0]

    monkeypatch.setattr(log_module, "reopened", remembered)
    monkeypatch.setattr(sys, "stderr", Stderr(theirs))
    try:
        start(SuiteReactor(), Settings(level="debug"))
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
    start(reactor, Settings())
    Logger("suite", observer=publisher).error("nobody hears this")
    assert reactor.triggers == {}


def test_settings_that_cannot_be_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match="--log 'xml': no such format; expected json or text"):
        Settings("xml")
    with pytest.raises(UsageError, match="--log-level 'warning': no such level; did you mean warn"):
        Settings(level="warning")


# The running program.

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
