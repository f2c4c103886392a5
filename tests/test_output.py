"""`suite.output`: lines that cannot be written are counted, and nobody waits for them."""

from __future__ import annotations

import fcntl
import io
import os
import re
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from suite.output import Frames, LineWriter, open_log_file, reopened
from suite.server.announce import Announcer


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):  # the test has closed it
            os.close(end)


def fill(writer: LineWriter) -> None:
    """Write until nothing more can be written."""
    while writer.write("." * 4000):
        pass


def test_a_pipe_that_is_not_read_loses_lines_and_says_how_many(pipe: tuple[int, int]) -> None:
    read, write = pipe
    writer = LineWriter(reopened(write))
    fill(writer)
    for _ in range(9):
        assert not writer.write("lost")
    assert writer.lost == 10
    os.set_blocking(read, False)
    with suppress(BlockingIOError):
        while os.read(read, 2**16):
            pass
    assert writer.write("heard")
    assert os.read(read, 4096).splitlines()[-2:] == [
        b"lines dropped here: 10 (destination not read)",
        b"heard",
    ]
    assert writer.lost == 0
    assert writer.lost_in_all == 10


def test_a_pipe_is_written_to_without_waiting_though_its_owner_would_wait(pipe: tuple[int, int]) -> None:
    """So nobody can fill it between a look at it and the write."""
    descriptor = reopened(pipe[1])
    assert not os.get_blocking(descriptor)
    assert os.get_blocking(pipe[1]), "the description that is shared stays as it is"


def test_a_pipe_whose_reader_has_gone_loses_lines(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LineWriter(reopened(pipe[1]))
    assert not writer.write("lost")
    assert writer.why == "Broken pipe"


def test_a_socket_that_is_not_read_loses_lines() -> None:
    """The journal's is one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = LineWriter(ours.fileno())
        fill(writer)
        assert writer.why == "destination not read"
        assert ours.getblocking()


@pytest.mark.parametrize("path", ["/dev/full", "closed"])
def test_what_cannot_be_written_is_counted(path: str) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    if path == "closed":
        os.close(descriptor)
    writer = LineWriter(descriptor)
    assert [writer.write("lost") for _ in range(3)] == [False] * 3
    assert writer.lost == 3
    assert writer.why == ("Bad file descriptor" if path == "closed" else "No space left on device")


def test_a_terminal_that_is_stopped_loses_frames_but_for_the_last_ones() -> None:
    """As by Ctrl-S (but at once); what has been begun is completed once it goes on."""
    ours, theirs = os.openpty()
    frames = Frames(reopened(theirs), "ascii")

    def draw(frame: str) -> None:
        frames.write(frame[:1])
        frames.write(frame[1:])
        frames.flush()

    try:
        assert (frames.isatty(), frames.encoding) == (True, "ascii")
        draw("1 µ\n")
        termios.tcflow(theirs, termios.TCOOFF)
        for number in range(2, 5):
            draw(f"{number}\n")
        frames.last = True
        draw("last\n")
        draw("end\n")
        assert os.read(ours, 100) == b"1 \\xb5\r\n"
        termios.tcflow(theirs, termios.TCOON)
        frames.flush()
        assert os.read(ours, 100) == b"2\r\nlast\r\nend\r\n"
        frames.last = False
        with suppress(BlockingIOError):
            fcntl.fcntl(ours, fcntl.F_SETFL, os.O_NONBLOCK)
            for _ in range(100):
                draw("." * 1000 + "\n")
            while os.read(ours, 65536):
                pass
        draw("whole\n")  # what is left of the frame before; this one is dropped
        drawn = os.read(ours, 65536)
        draw("whole\n")
        assert re.fullmatch(rb"\.{0,1000}\r\nwhole\r\n", drawn + os.read(ours, 65536))
    finally:
        os.close(ours)
        draw("nobody sees this")
        os.close(theirs)


def test_a_log_file_is_appended_to_and_read_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for word in ("one", "two"):
        descriptor = open_log_file(path)
        LineWriter(descriptor).write(word)
        os.close(descriptor)
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o7777 == 0o640 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_writer_can_be_sent_elsewhere(tmp_path: Path) -> None:
    first = open_log_file(tmp_path / "first")
    writer = LineWriter(first)
    writer.write("one")
    writer.redirect(open_log_file(tmp_path / "second"))
    writer.write("two")
    assert (tmp_path / "first").read_text() == "one\n"
    assert (tmp_path / "second").read_text() == "two\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first)


# Announcements.


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    seen: list[LogEvent] = []
    globalLogPublisher.addObserver(seen.append)  # type: ignore[arg-type]
    yield seen
    globalLogPublisher.removeObserver(seen.append)  # type: ignore[arg-type]


def test_announcements_that_are_lost_are_told_in_the_log_once(
    monkeypatch: pytest.MonkeyPatch, events: list[LogEvent]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        announce = Announcer()
        for _ in range(3):
            announce("ready")
        announce.close()
    assert [formatEvent(event) for event in events if "standard output" in event["log_format"]] == [
        "standard output cannot be written: No space left on device; lines are dropped",
        "standard output: lines dropped: 3",
    ]


def test_a_closed_standard_output_expects_no_announcements(
    monkeypatch: pytest.MonkeyPatch, events: list[LogEvent]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    Announcer()("ready")
    assert events == []


def test_an_announcement_is_one_line_in_the_encoding_that_there_is(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.FileIO(pipe[1], "w", closefd=False), "ascii"))
    Announcer()("café\nready \udcff")
    assert os.read(pipe[0], 4096) == b"caf\\xe9\\nready \\udcff\n"
