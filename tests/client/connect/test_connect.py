"""``connect``: exact bytes through a pipe, and lines at a terminal."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.client.connect.hexdump import Dump, from_hex, hex_lines
from suite.errors import UsageError
from tests.foreign import Authority, datagrams, echo, receive, reset, serving, silent
from tests.forking import ForkedSuite
from tests.measuring import MEASURING
from tests.running import (
    FOUR_TRANSPORTS,
    ONE_LINE,
    PATIENCE,
    RunningSuite,
    check_stderr,
    client_program,
    running,
    started,
    wait_until,
)

HELLO = b"hola mundo...\n"

#: The sequence that switches the terminal to bracketed paste before every prompt.
PROMPTED = b"\x1b[?2004h"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CTRL_C, CTRL_D, UP, ENTER = b"\x03", b"\x04", b"\x1b[A", b"\r"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("suite"), FOUR_TRANSPORTS) as suite:
        yield suite


def target_of(suite: RunningSuite, endpoint: str) -> str:
    address = suite.addresses[endpoint]
    return f"unix:{address}" if isinstance(address, str) else f"{endpoint}:{address[0]}:{address[1]}"


def connect(
    directory: Path, *arguments: str, data: bytes = b"", code: int = 0, says: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run ``connect`` with *data* on its standard input."""
    pipe = subprocess.PIPE
    with ForkedSuite("connect", *arguments, cwd=directory, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        output, errors = process.communicate(data, timeout=PATIENCE)
    check_stderr(errors, ONE_LINE if code else says)
    assert process.returncode == code
    return subprocess.CompletedProcess(process.args, code, output, errors)


# In a pipe.


@pytest.mark.parametrize("endpoint", ["tcp", "tls", "unix"])
def test_bytes_are_bytes(suite: RunningSuite, endpoint: str) -> None:
    """All bytes are sent as they are and come back unchanged, lines or not, large or empty."""
    for data in (HELLO, b"\r\n\0\xff no newline", b"", os.urandom(3 * 2**20)):
        assert connect(suite.directory, target_of(suite, endpoint), data=data).stdout == data


def test_a_line_is_a_datagram(suite: RunningSuite) -> None:
    received: list[bytes] = []

    def answer(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        received.append(data)
        sock.sendto(data.upper(), sender)

    with datagrams(answer) as port:
        result = connect(suite.directory, f"udp:127.0.0.1:{port}", data=b"one\n\ntwo\nthree")
    assert received == [b"one\n", b"\n", b"two\n", b"three"]
    assert result.stdout == b"ONE\n\nTWO\nTHREE"


def test_a_line_that_is_no_datagram_is_too_long(suite: RunningSuite) -> None:
    """Also one that does not end: it is not collected in memory until it does."""
    target = target_of(suite, "udp")
    assert connect(suite.directory, target, data=bytes(65_506) + b"\n").stdout == bytes(65_506) + b"\n"
    for data in (bytes(65_507) + b"\n", bytes(65_508)):
        assert b": too-long: " in connect(suite.directory, target, data=data, code=1).stderr
    endless = f"cat /dev/zero | {sys.executable} -m suite connect {target}"
    result = subprocess.run(
        ["bash", "-c", endless], cwd=suite.directory, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
    assert b": too-long: " in result.stderr


def test_many_datagrams_come_back(suite: RunningSuite) -> None:
    """More than a socket's buffer holds: each write waits for the previous one."""
    data = b"".join(b"%d %s\n" % (number, b"x" * 1000) for number in range(1000))
    assert connect(suite.directory, target_of(suite, "udp"), data=data).stdout == data


def test_standard_input_may_be_a_file(suite: RunningSuite, tmp_path: Path) -> None:
    """Files, which epoll cannot watch; here the output is one, too."""
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(300_000))
    with sent.open("rb") as source, (tmp_path / "returned").open("wb") as sink:
        result = subprocess.run(
            [sys.executable, "-m", "suite", "connect", target_of(suite, "tls")],
            cwd=suite.directory,
            stdin=source,
            stdout=sink,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    check_stderr(result.stderr)
    assert result.returncode == 0
    assert (tmp_path / "returned").read_bytes() == sent.read_bytes()


def test_standard_input_may_be_closed(suite: RunningSuite) -> None:
    command = f"{sys.executable} -m suite connect {target_of(suite, 'tcp')} <&-"
    result = subprocess.run(
        ["/bin/sh", "-c", command], cwd=suite.directory, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_standard_output_must_not_be_closed(suite: RunningSuite) -> None:
    command = f"echo hola | {sys.executable} -m suite connect {target_of(suite, 'tcp')} >&-"
    result = subprocess.run(
        ["/bin/sh", "-c", command], cwd=suite.directory, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
    )
    assert (result.returncode, result.stderr) == (1, b"standard output: Bad file descriptor\n")


def test_it_leaves_its_input_as_it_was(suite: RunningSuite) -> None:
    """Not non-blocking, which would affect every process that shares it."""
    reader, writer = os.pipe()
    try:
        os.write(writer, HELLO)
        with started(suite.directory, "connect", target_of(suite, "tcp"), stdin=reader) as process:
            assert process.stdout is not None
            assert process.stdout.read(len(HELLO)) == HELLO
            assert os.get_blocking(reader)
            os.close(writer)
            writer = -1
            assert process.wait(PATIENCE) == 0
    finally:
        for fd in (reader, writer):
            if fd >= 0:
                os.close(fd)


def test_what_comes_is_shown_at_once_and_our_end_is_a_half_close(tmp_path: Path) -> None:
    ended: list[bytes] = []

    def ask(sock: socket.socket) -> None:
        sock.sendall(b"name? ")
        name = receive(sock, 4)
        sock.sendall(b"hello " + name)
        ended.append(sock.recv(1))
        sock.sendall(b", and bye")

    with (
        serving(ask) as port,
        started(tmp_path, "connect", f"tcp:127.0.0.1:{port}", stdin=subprocess.PIPE, bufsize=0) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(6) == b"name? "
        process.stdin.write(b"Rosa")
        assert read_exactly(process.stdout.fileno(), 10) == b"hello Rosa"
        process.stdin.close()
        assert read_exactly(process.stdout.fileno(), 9) == b", and bye"
        assert process.wait(PATIENCE) == 0
    assert ended == [b""]


def read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def test_it_ends_when_the_other_side_does(tmp_path: Path) -> None:
    """Even if the input has not ended."""
    with (
        serving(lambda sock: sock.sendall(b"bye\n")) as port,
        started(tmp_path, "connect", f"tcp:127.0.0.1:{port}", stdin=subprocess.PIPE) as process,
    ):
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b"bye\n"


def test_a_slow_reader_is_waited_for(suite: RunningSuite) -> None:
    """A full output stops reading from the target, and then from the input."""
    data = os.urandom(16 * 2**20)
    with started(suite.directory, "connect", target_of(suite, "unix"), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        sent = 0
        while sent < len(data):
            if not select.select([], [process.stdin], [], 1)[1]:
                break  # it accepts no more
            sent += os.write(process.stdin.fileno(), data[sent : sent + 65536])
        assert sent < 12 * 2**20
        process.stdin.close()
        returned = process.stdout.read()
        assert process.wait(PATIENCE) == 0
    assert returned == data[:sent]


def test_a_reader_that_goes_away_is_no_error(suite: RunningSuite) -> None:
    connect = f"{sys.executable} -m suite connect {target_of(suite, 'tcp')}"
    command = f"{connect} < /dev/zero | head -c 5; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        [client_program("bash"), "-c", command],
        cwd=suite.directory,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"\0" * 5, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_one_line(suite: RunningSuite) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "suite", "connect", target_of(suite, "tcp")],
            cwd=suite.directory,
            input=HELLO,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == b"standard output: No space left on device\n"


def test_hexadecimal(suite: RunningSuite) -> None:
    data = b"68 6f6c 61\n00 FF 0a 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n\n7e"
    result = connect(suite.directory, target_of(suite, "udp"), "--hex", data=data)
    assert result.stdout.decode().splitlines() == [
        "00000000  68 6f 6c 61                                       |hola|",
        "00000004  00 ff 0a 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|",
        "00000014  00                                                |.|",
        "00000015  7e                                                |~|",
    ]


def test_what_is_not_hexadecimal_is_one_line(suite: RunningSuite) -> None:
    result = connect(suite.directory, target_of(suite, "tcp"), "--hex", data=b"6x\n", code=2)
    assert result.stderr == b"'6x' is not hexadecimal; expected digits, such as 68 6f\n"


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("tcp:127.0.0.1:1", "refused"),
        ("udp:127.0.0.1:1", "refused"),
        ("unix:nowhere", "missing"),
        ("tcp:nowhere.invalid:1", "dns"),
        ("tcp:255.255.255.255:9", "unreachable"),
    ],
)
def test_who_cannot_be_reached_is_one_line_with_the_word(tmp_path: Path, target: str, word: str) -> None:
    result = connect(tmp_path, target, "--timeout", "3s", data=HELLO, code=1)
    assert result.stderr.decode().startswith(f"{target}: {word}: ")


def test_what_breaks_on_the_way_has_its_word(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with serving(reset) as port:
        assert b": reset: " in connect(tmp_path, f"tcp:127.0.0.1:{port}", data=HELLO, code=1).stderr
    with datagrams(lambda *_: None) as port:
        result = connect(tmp_path, f"udp:127.0.0.1:{port}", "--timeout", "300ms", data=HELLO, code=1)
        assert b": lost: nothing came back within 0.3 s" in result.stderr
    with serving(echo, authority.context("example.org")) as port:
        target = f"tls:127.0.0.1:{port}"
        assert b": cert-untrusted: " in connect(tmp_path, target, data=HELLO, code=1).stderr
        trust = ("--ca", str(authority.file))
        assert b": cert-name: " in connect(tmp_path, target, *trust, data=HELLO, code=1).stderr
        named = (*trust, "--server-name", "example.org")
        done = connect(tmp_path, target, *named, data=HELLO, says=ONE_LINE)
        assert done.stdout == HELLO
        assert done.stderr.decode() == (
            f"{target}: ended without close_notify, so bytes may be missing at the end\n"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["localhost:1"],
            b"'localhost:1': 'localhost' is not a kind of target; did you mean tcp:localhost:1",
        ),
        (
            ["tcp:localhost:1", "--timeout", "never"],
            b"--timeout 'never' is not a duration; expected one such",
        ),
        (["tls:localhost:1", "--key", "x"], b"--cert and --key go together; expected both or neither"),
        (["tls:localhost:1", "--ca", "nowhere.pem"], b"nowhere.pem: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, arguments: list[str], message: bytes) -> None:
    assert connect(tmp_path, *arguments, code=2).stderr.startswith(message)


def test_an_interrupted_pipe_is_no_success(tmp_path: Path) -> None:
    def greet(sock: socket.socket) -> None:
        sock.sendall(b"!")
        silent(sock)

    with (
        serving(greet) as port,
        started(tmp_path, "connect", f"tcp:127.0.0.1:{port}", stdin=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.read(1) == b"!"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 1


def test_descriptors_that_do_not_block_lose_nothing(suite: RunningSuite) -> None:
    """On EAGAIN, both are waited for; they stay non-blocking, since others share them."""
    data = os.urandom(3 * 2**20)
    source, feed = os.pipe()
    drain, sink = os.pipe()
    os.set_blocking(source, False)
    os.set_blocking(sink, False)
    command = [sys.executable, "-m", "suite", "connect", target_of(suite, "tcp")]
    process = subprocess.Popen(
        command, cwd=suite.directory, stdin=source, stdout=sink, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    os.close(sink)

    def write() -> None:
        with os.fdopen(feed, "wb") as stream:
            stream.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(drain, "rb") as returned, process.stderr:
        first = returned.read(1)
        wait_until(lambda: stuck_on(drain), "the output is full")
        assert first + returned.read() == data
        assert (process.wait(PATIENCE), process.stderr.read()) == (0, b"")
    writer.join(PATIENCE)
    assert not os.get_blocking(source)
    os.close(source)


def stuck_on(pipe: int, size: int = 65536 - 2 * select.PIPE_BUF) -> bool:
    """Whether *pipe*, or a terminal, has so much to read that it is as good as full."""
    waiting = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return waiting[0] >= size  # pages are not filled to the last byte


def pour(sock: socket.socket) -> None:
    """Send without an end."""
    while True:
        sock.sendall(bytes(65536))


@pytest.mark.parametrize("command", ["connect", "probe"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_nobody_reads_the_output(tmp_path: Path, command: str, number: int) -> None:
    arguments = ("--count", "0", "--interval", "0") if command == "probe" else ()
    with (
        serving(echo if arguments else pour) as port,
        started(tmp_path, command, f"tcp:127.0.0.1:{port}", *arguments, stdin=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        wait_until(lambda: stuck_on(pipe), "the output is full")
        process.send_signal(number)
        assert process.wait(PATIENCE) == (0 if arguments else 1)


@pytest.mark.parametrize("command", ["connect", "probe"])
def test_it_ends_when_nobody_reads_any_more(suite: RunningSuite, command: str) -> None:
    """Also ``connect`` while nothing more comes, neither from its input nor from the target."""
    arguments = ("--count", "0", "--interval", "10ms") if command == "probe" else ()
    with started(
        suite.directory, command, target_of(suite, "tcp"), *arguments, stdin=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(HELLO)
        said = b""
        while b"hola" not in said and b"back" not in said:
            said += process.stdout.read(1)
        process.stdout.close()
        assert process.wait(PATIENCE) == 0


def test_an_input_that_cannot_be_read_is_one_line(suite: RunningSuite) -> None:
    says = "standard input: Bad file descriptor\n"
    with (
        open(os.devnull, "wb") as unreadable,
        started(suite.directory, "connect", target_of(suite, "tcp"), stdin=unreadable, says=says) as process,
    ):
        assert process.wait(PATIENCE) == 1


@pytest.mark.parametrize("late", [False, True], ids=["what is late", "what comes in time"])
def test_the_other_side_has_so_long_after_our_end(tmp_path: Path, late: bool) -> None:
    """Everything that was sent has arrived when the time is over."""
    received: list[bytes] = []

    def collect(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            received.append(data)
        if late:
            assert not sock.recv(1)
            over.wait(PATIENCE)
        else:
            sock.sendall(b"done")

    over = threading.Event()
    data = os.urandom(2**20)
    with serving(collect) as port:
        result = connect(tmp_path, f"tcp:127.0.0.1:{port}", "--wait", "100ms" if late else "60s", data=data)
        over.set()
        assert result.stdout == (b"" if late else b"done")
    assert b"".join(received) == data


def test_answers_over_udp_have_so_long_after_our_end(tmp_path: Path) -> None:
    def twice(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        sock.sendto(b"1", sender)
        sock.sendto(b"2", sender)

    with datagrams(twice) as port:
        result = connect(tmp_path, f"udp:127.0.0.1:{port}", "--wait", "1s", data=b"once")
    assert result.stdout == b"12"


def test_ctrl_c_leaves_no_traceback_from_the_first_moment(tmp_path: Path) -> None:
    """As soon as it handles SIGTERM, which Python does not by itself."""
    command = [sys.executable, "-m", "suite", "connect", "tcp:127.0.0.1:1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stderr=pipe) as process:
        status = Path(f"/proc/{process.pid}/status")
        wait_until(
            lambda: bool(int(re.findall(r"SigCgt:\s+(\w+)", status.read_text())[0], 16) & 1 << 14),
            "it handles SIGTERM",
        )
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    check_stderr(errors, ONE_LINE)


# At a terminal.


class Terminal:
    """``connect`` with a terminal as its input and output, and a user who types."""

    def __init__(self, directory: Path, *arguments: str, blocking: bool = True) -> None:
        self.fd, theirs = pty.openpty()
        os.set_blocking(theirs, blocking)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "suite", "connect", *arguments],
            cwd=directory,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | MEASURING | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        os.close(theirs)
        self.unread = b""

    def read(self) -> bool:
        """Read the output so far; return whether more may follow."""
        if not select.select([self.fd], [], [], PATIENCE)[0]:
            pytest.fail(f"nothing more comes after {self.unread!r}")
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # Linux: the other end is closed
            return False
        self.unread += data
        return bool(data)

    def expect(self, text: bytes) -> bytes:
        """Read up to *text*; return the output before it."""
        while text not in self.unread:
            assert self.read(), f"it ended after {self.unread!r}"
        before, _, self.unread = self.unread.partition(text)
        return before

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def enter(self, keys: bytes) -> None:
        """Type *keys* at the prompt, and Enter."""
        self.expect(PROMPTED)
        self.type(keys + ENTER)
        self.expect(b"\x1b[?2004l")  # the prompt has ended

    def line(self, keys: bytes, shown: str) -> None:
        """Type *keys* at the prompt, and Enter; then *shown* is a line."""
        self.enter(keys)
        while (
            shown
            not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.unread.decode("utf-8", "replace")).splitlines()
        ):
            assert self.read(), f"it ended after {self.unread!r}"

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self.read():
            pass
        return self.process.wait(PATIENCE)


@contextmanager
def terminal(directory: Path, *arguments: str, blocking: bool = True) -> Iterator[Terminal]:
    opened = Terminal(directory, *arguments, blocking=blocking)
    try:
        yield opened
    finally:
        if opened.process.poll() is None:
            opened.process.kill()
            opened.process.wait(PATIENCE)
        os.close(opened.fd)


@pytest.mark.parametrize("endpoint", ["tcp", "tls", "unix", "udp"])
def test_a_line_sent_and_its_echo_shown(suite: RunningSuite, endpoint: str) -> None:
    with terminal(suite.directory, target_of(suite, endpoint)) as user:
        user.expect(f"connected to {target_of(suite, endpoint)}; Ctrl-D ends".encode())
        user.line(b"hola mundo...", "hola mundo...")
        user.line("¿qué tal?".encode(), "¿qué tal?")
        user.expect(PROMPTED)
        user.type(CTRL_D)
        assert user.end() == 0


def test_history_and_editing(suite: RunningSuite) -> None:
    with terminal(suite.directory, target_of(suite, "tcp")) as user:
        user.line(b"one", "one")
        user.line(b"two", "two")
        user.line(UP + UP, "one")
        user.line(b"orld\x01w", "world")  # Ctrl-A: to the beginning
        user.expect(PROMPTED)
        user.type(CTRL_C)
        assert user.end() == 1


def test_hexadecimal_at_a_terminal(suite: RunningSuite) -> None:
    with terminal(suite.directory, target_of(suite, "tcp"), "--hex") as user:
        user.line(b"68 6f 6c 61", "00000000  68 6f 6c 61                                       |hola|")
        user.line(b"xyz", "'xyz' is not hexadecimal; expected digits, such as 68 6f")
        user.line(b"00", "00000004  00                                                |.|")
        user.expect(PROMPTED)
        user.type(CTRL_D)
        assert user.end() == 0


def test_control_characters_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    def attack(sock: socket.socket) -> None:
        receive(sock, 3)
        sock.sendall(b"\x1b[2J\x07\xff\r\n")
        silent(sock)

    with serving(attack) as port, terminal(tmp_path, f"tcp:127.0.0.1:{port}") as user:
        user.line(b"hi", r"\x1b[2J\x07\xff\r")
        user.expect(PROMPTED)
        user.type(CTRL_C)
        assert user.end() == 1


def test_what_comes_unasked_is_shown_above_the_prompt(tmp_path: Path) -> None:
    """Also while a line is being typed, which is kept; and `connect` exits when the other side closes."""

    def news(sock: socket.socket) -> None:
        receive(sock, 3)
        prompted.wait(PATIENCE)
        sock.sendall(b"news\n")
        assert receive(sock, 6) == b"typed\n"

    prompted = threading.Event()
    with serving(news) as port, terminal(tmp_path, f"tcp:127.0.0.1:{port}") as user:
        user.enter(b"go")
        user.expect(PROMPTED)
        user.type(b"typ")
        prompted.set()
        user.expect(b"news")
        user.type(b"ed" + ENTER)
        assert user.end() == 0


def test_the_end_of_the_other_side_ends_a_prompt(tmp_path: Path) -> None:
    prompted = threading.Event()
    with (
        serving(lambda _: prompted.wait(PATIENCE)) as port,
        terminal(tmp_path, f"tcp:127.0.0.1:{port}") as user,
    ):
        user.expect(PROMPTED)
        user.type(b"in the middle of")
        user.expect(b"of")
        prompted.set()
        assert user.end() == 0


def test_at_a_terminal_a_reset_has_its_word(tmp_path: Path) -> None:
    with serving(reset) as port, terminal(tmp_path, f"tcp:127.0.0.1:{port}") as user:
        user.enter(b"hola")
        user.expect(b": reset: ")
        assert user.end() == 1


def test_at_a_terminal_what_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    with terminal(tmp_path, "tcp:127.0.0.1:1") as user:
        user.expect(b"tcp:127.0.0.1:1: refused: Connection refused")
        assert user.end() == 1


def test_what_is_no_utf_8_is_sent_as_it_is_typed(tmp_path: Path) -> None:
    received: list[bytes] = []
    with (
        serving(lambda sock: received.append(receive(sock, 5))) as port,
        terminal(tmp_path, f"tcp:127.0.0.1:{port}") as user,
    ):
        user.expect(PROMPTED)
        user.type(b"a\xff\xc3z" + ENTER)
        assert user.end() == 0
    assert received == [b"a\xff\xc3z\n"]


def test_a_terminal_that_does_not_block_shows_everything(tmp_path: Path) -> None:
    """As others who share it may leave it. What comes faster than it can be shown waits."""
    lines = b"".join(b"%06d\n" % number for number in range(100_000))
    asked = threading.Event()

    def answer(sock: socket.socket) -> None:
        receive(sock, 3)
        asked.set()
        sock.sendall(lines)

    with serving(answer) as port, terminal(tmp_path, f"tcp:127.0.0.1:{port}", blocking=False) as user:
        user.expect(PROMPTED)
        user.type(b"go" + ENTER)
        assert asked.wait(PATIENCE)
        wait_until(lambda: stuck_on(user.fd, 4095), "the terminal is full")
        assert user.end() == 0
        shown = ESCAPE.sub("", user.unread.decode())
        assert re.sub(r"\D", "", shown) == lines.decode().replace(
            "\n", ""
        )  # pieces are on lines of their own


def test_ctrl_c_ends_a_flood_at_a_terminal(tmp_path: Path) -> None:
    with serving(pour) as port, terminal(tmp_path, f"tcp:127.0.0.1:{port}") as user:
        user.expect(PROMPTED)
        while user.read():
            user.unread = b""
            user.type(CTRL_C)  # again, because it is a signal and no key while something is being shown
        assert user.process.wait(PATIENCE) == 1


def test_sigterm_ends_it_while_nobody_reads_the_terminal(tmp_path: Path) -> None:
    with serving(pour) as port, terminal(tmp_path, f"tcp:127.0.0.1:{port}") as user:
        user.expect(PROMPTED)
        wait_until(lambda: stuck_on(user.fd, 4095), "the terminal is full")
        user.process.terminate()
        assert user.process.wait(PATIENCE) == 1


def test_a_lost_datagram_does_not_end_the_talk(tmp_path: Path) -> None:
    def second_only(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        if data == b"two\n":
            sock.sendto(data, sender)

    with (
        datagrams(second_only) as port,
        terminal(tmp_path, f"udp:127.0.0.1:{port}", "--timeout", "2s") as user,
    ):
        user.line(b"one", "lost: nothing came back within 2 s")
        user.line(b"two", "two")
        user.expect(PROMPTED)
        user.type(CTRL_D)
        assert user.end() == 0


# Pure parts.


@given(st.binary(max_size=100), st.integers(0, 2**20))
def test_a_dump_shows_every_byte(data: bytes, offset: int) -> None:
    lines = list(hex_lines(data, offset))
    assert b"".join(from_hex(line[10:58]) for line in lines) == data
    assert [int(line[:8], 16) for line in lines] == list(range(offset, offset + len(data), 16))
    assert all(line[60] == line[-1] == "|" for line in lines)


def test_a_dump_goes_on_where_it_was() -> None:
    dump = Dump()
    assert dump(b"abc").startswith(b"00000000  61 62 63  ")
    assert dump(b"") == b""
    assert dump(b"d").startswith(b"00000003  64  ")


@pytest.mark.parametrize("text", ["6", "6x", "é", "68,6f"])
def test_what_is_not_hexadecimal(text: str) -> None:
    with pytest.raises(UsageError, match="is not hexadecimal; expected digits"):
        from_hex(text)
