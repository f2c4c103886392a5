"""``python -m suite load`` as users run it: against a suite, and against servers with known faults."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from suite import cli
from suite.client.histogram import Histogram
from suite.client.load.load import make_room
from suite.client.load.series import COLUMNS
from suite.errors import UsageError
from tests.foreign import datagrams, echo, free_port, program
from tests.helpers import ROOT
from tests.running import (
    FOUR_TRANSPORTS,
    ONE_LINE,
    PATIENCE,
    REACTORS,
    RunningSuite,
    cannot_run,
    check_stderr,
    client_program,
    run_suite,
    running,
    started,
    wait_until,
    wait_until_it_waits,
)

#: How far a load has got, a line each second, where standard error is no terminal.
PROGRESS = r"( +\d+\.\d s [^\n]* messages/s [^\n]*/s  0 errors\n)*"

MUTUAL = """
[endpoints.mutual]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { client_ca = "certs/ca.pem", minimum = "1.3" }
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("suite"), FOUR_TRANSPORTS + MUTUAL) as suite:
        yield suite


def target_of(suite: RunningSuite, endpoint: str) -> str:
    """The target for an endpoint."""
    if endpoint == "unix":
        return "unix:echo.sock"
    host, port = suite.addresses[endpoint]
    return f"{'tls' if endpoint == 'mutual' else endpoint}:{host}:{port}"


def load(directory: Path, target: str, *options: str, code: int = 0) -> dict[str, Any]:
    """Run a load whose exit code must be *code*; return its result as JSON."""
    done = run_suite(directory, "load", target, "--json", *options)
    assert done.returncode == code
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def latencies_of(result: dict[str, Any]) -> Histogram:
    return Histogram.decode(result["latency"]["histogram"])


def at_least(histogram: Histogram, microseconds: int) -> int:
    """How many messages took this long or longer."""
    return sum(count for low, _, count in histogram.rows() if low >= microseconds)


# Servers with known behaviour.


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server with a thread for each connection; yields its target."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(sock: socket.socket) -> None:
        with sock, suppress(OSError):  # the client may disconnect at any time
            handle(sock)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_sockets.append(sock)
                thread = threading.Thread(target=serve, args=[sock])
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(PATIENCE)
        listener.close()
        for sock in open_sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(PATIENCE)


@contextmanager
def answering(answers: Callable[[int, bytes], list[bytes]]) -> Iterator[str]:
    """A UDP server that sends *answers* for its nth message, counted from 1; yields its target.

    What a load asks first, whether anybody is there, does not begin with a number, and is 0.
    """
    number = 0

    def handle(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        nonlocal number
        numbered = data.startswith(b"\0\0")
        number += numbered
        for answer in answers(number if numbered else 0, data):
            sock.sendto(answer, sender)

    with datagrams(handle) as port:
        yield f"udp:127.0.0.1:{port}"


def messages(sock: socket.socket, size: int) -> Iterator[bytes]:
    """The messages that *sock* receives."""
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
        while len(data) >= size:
            yield data[:size]
            data = data[size:]


# Healthy targets.


@pytest.mark.parametrize("endpoint", ["tcp", "tls", "unix", "udp"])
@pytest.mark.parametrize(
    "options",
    # As many datagrams as the kernel's queue of a socket holds, when nobody has a processor for that second.
    [("--window", "4"), ("--rate", "100", "--timeout", "60s")],
    ids=["closed", "open"],
)
def test_every_transport_in_every_manner(
    suite: RunningSuite, endpoint: str, options: tuple[str, ...]
) -> None:
    target = target_of(suite, endpoint)
    result = load(
        suite.directory, target, "--connections", "5", "--size", "700", "--duration", "1s", *options
    )
    assert result["format"] == "echo-suite load 2"
    assert result["target"] == target
    assert (result["errors"], result["lost"], result["interrupted"]) == ({}, 0, False)
    assert result["connections"] == result["options"]["connections"] == 5
    assert result["bytes"] == result["messages"] * 700
    histogram = latencies_of(result)
    assert histogram.total == result["messages"]
    assert result["seconds"] >= 1
    assert result["rate"] <= result["messages"] / 1.0
    assert result["throughput"] == pytest.approx(result["rate"] * 700, rel=0.001)
    for percent, value in result["latency"]["percentiles"].items():
        assert histogram.percentile(float(percent)) == value
    assert result["latency"]["min"] <= result["latency"]["percentiles"]["50"] <= result["latency"]["max"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", result["started"])
    if "--rate" in options:
        assert result["messages"] == 100, "all that were due, and no other"
        assert result["client"]["lag"] >= 0
    else:
        assert result["client"]["lag"] is None


@pytest.mark.parametrize(
    ("endpoint", "options"),
    [
        ("tcp", ("--size", "3MiB", "--window", "2")),
        ("tls", ("--size", "1MiB", "--window", "2")),
        ("unix", ("--size", "1", "--window", "1000")),
        (
            "udp",
            (
                "--size",
                "65507",
            ),
        ),
        ("udp", ("--size", "8", "--window", "9")),
    ],
)
def test_messages_of_any_size(suite: RunningSuite, endpoint: str, options: tuple[str, ...]) -> None:
    result = load(
        suite.directory, target_of(suite, endpoint), "--connections", "2", "--duration", "500ms", *options
    )
    assert result["messages"] > 0
    assert (result["errors"], result["lost"]) == ({}, 0)


@pytest.mark.parametrize("reactor", REACTORS)
def test_on_every_reactor(suite: RunningSuite, reactor: str) -> None:
    target = target_of(suite, "tls")
    options = ("--json", "--duration", "500ms", "--rate", "200")
    done = run_suite(suite.directory, "--reactor", reactor, "load", target, *options)
    assert done.returncode == 0
    assert json.loads(done.stdout)["messages"] == 100


def test_many_connections(suite: RunningSuite) -> None:
    result = load(suite.directory, target_of(suite, "tcp"), "--connections", "700", "--duration", "1s")
    assert result["connections"] == 700
    assert result["messages"] >= 700


def test_datagrams_as_fast_as_they_come_back(suite: RunningSuite) -> None:
    """On the default reactor, whose timer and sockets for datagrams are the engine's."""
    result = load(suite.directory, target_of(suite, "udp"), "--duration", "1s")
    assert result["messages"] > 0
    assert (result["errors"], result["lost"]) == ({}, 0)


def test_every_message_of_a_high_rate_is_sent_and_answered(suite: RunningSuite) -> None:
    """Counted, not timed: a machine that is busy needs longer for what is due, but must not leave any out."""
    options = ("--rate", "20000", "--connections", "64", "--duration", "1s")
    result = load(suite.directory, target_of(suite, "tcp"), *options)
    assert result["messages"] == 20_000
    assert result["errors"] == {}


def test_a_name_with_an_address_where_nobody_listens(suite: RunningSuite) -> None:
    """The servers listen on 127.0.0.1 only, but localhost may resolve to ::1 first."""
    for endpoint in ("tcp", "udp", "tls"):
        target = target_of(suite, endpoint).replace("127.0.0.1", "localhost")
        assert load(suite.directory, target, "--duration", "200ms", "--connections", "3")["messages"] > 0


def test_client_certificates_and_trust(suite: RunningSuite, tmp_path: Path) -> None:
    certs = suite.directory / "certs"
    shown = ("--cert", str(certs / "client.pem"), "--key", str(certs / "client.key"))
    trusted = ("--ca", str(certs / "ca.pem"))
    target = target_of(suite, "mutual")
    assert load(tmp_path, target, "--duration", "200ms", *trusted, *shown)["messages"] > 0
    for options, word in ((trusted, "tls-alert"), (shown, "cert-untrusted")):
        done = run_suite(tmp_path, "load", target, "--duration", "1s", *options, says=ONE_LINE)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{target}: {word}: ")


# Reports for people.


def test_the_report(suite: RunningSuite) -> None:
    target = target_of(suite, "tcp")
    options = ("--duration", "2500ms", "--connections", "1")
    done = run_suite(suite.directory, "load", target, *options, says=PROGRESS)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"{target}: 1 connection, messages of 1 KiB, closed loop, 1 in flight on each"
    assert re.fullmatch(r"[\d,]+ messages in 2\.\d\d s: [\d,]+/s, [\d.]+ .iB/s each way", lines[1])
    for name in ("min", "50 %", "99 %", "99.9 %", "max", "mean"):
        assert any(re.match(rf" +{name}  +[\d.,]+ (µs|ms|s)", line) for line in lines), name
    shares = [float(share) for share in re.findall(r"(?m)^ *< .* ([\d.]+)%  ?[▏▎▍▌▋▊▉█]*$", done.stdout)]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert "█" * 40 in done.stdout
    assert lines[-1] == "no errors" or lines[-1].startswith("note: ")
    assert "no errors" in lines
    assert done.stderr.count("\n") >= 2


def test_on_a_terminal_progress_is_one_line_that_changes(suite: RunningSuite) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "suite",
            "load",
            target_of(suite, "tcp"),
            "--duration",
            "1500ms",
            "--rate",
            "100",
        ],
        cwd=suite.directory,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        os.close(theirs)
        drawn = b""
        with suppress(OSError):  # EIO: the end
            while chunk := os.read(ours, 65536):
                drawn += chunk
        os.close(ours)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "━".encode() in drawn, "a bar"
    assert len(re.findall(rb"[\d,]+ messages/s", drawn)) >= 2
    assert b"\x1b[2K" in drawn, "drawn over"
    assert b"no errors" in output


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["", "workers"])
def test_a_terminal_that_is_stopped_stops_nothing(suite: RunningSuite, options: Sequence[str]) -> None:
    """By Ctrl-S; with Ctrl-Q come the results, and the cursor."""
    ours, theirs = pty.openpty()
    load = (sys.executable, "-m", "suite", "load", target_of(suite, "tcp"), "--rate", "100", *options)
    with subprocess.Popen(
        [*load, "--duration", "4s"],
        cwd=suite.directory,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        os.close(theirs)
        drawn = b""
        while b"messages/s" not in drawn:
            drawn += os.read(ours, 65536)
        os.write(ours, b"\x13")
        wait_until_it_waits(process.pid, 1.5)  # longer than from one progress to the next: it is over
        os.write(ours, b"\x11")
        with suppress(OSError):  # EIO: the end
            while chunk := os.read(ours, 65536):
                drawn += chunk
        os.close(ours)
        assert process.wait(PATIENCE) == 0
    assert b"\r\nno errors\r\n" in drawn
    assert re.search(rb"\r\n400 messages in 4\.", drawn)
    assert drawn.rindex(b"\x1b[?25h") > drawn.rindex(b"\x1b[?25l")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>&1 >result | true", "2> unread"])
def test_progress_that_nobody_takes_stops_nothing(
    redirection: str, suite: RunningSuite, tmp_path: Path
) -> None:
    """A disk is full, standard error is closed, its reader has gone, or does not read."""
    command = f'exec "$0" -m suite load {target_of(suite, "tcp")} --duration 2s --rate 100 >result'
    if redirection == "2> unread":
        os.mkfifo(tmp_path / "unread")
        unread = os.open(tmp_path / "unread", os.O_RDWR | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while os.write(unread, bytes(4096)):
                pass
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} {redirection}", sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE,
        check=False,
    )
    if redirection == "2> unread":
        os.close(unread)
    assert done.returncode == 0
    assert "no errors\n" in (tmp_path / "result").read_text()


# Servers with known latencies.


def test_percentiles_of_a_known_distribution(tmp_path: Path) -> None:
    """Nine of ten answers are immediate; the tenth takes 200 ms."""

    def handle(sock: socket.socket) -> None:
        for number, message in enumerate(messages(sock, 64), 1):
            if number % 10 == 0:
                time.sleep(0.2)
            sock.sendall(message)

    with serving(handle) as target:
        result = load(tmp_path, target, "--connections", "1", "--size", "64", "--duration", "4s")
    histogram = latencies_of(result)
    slow = result["messages"] // 10
    assert slow >= 3
    assert slow <= at_least(histogram, 199_000) <= slow + max(2, slow // 2)
    assert histogram.percentile(50) < 100_000
    assert 199_000 <= histogram.percentile(95) < 2_000_000


def stalling(after: int, seconds: float) -> Callable[[socket.socket], None]:
    """A server that stalls once for *seconds*, *after* that many messages."""

    def handle(sock: socket.socket) -> None:
        for number, message in enumerate(messages(sock, 64), 1):
            if number == after:
                time.sleep(seconds)
            sock.sendall(message)

    return handle


def test_a_stall_is_charged_to_all_that_were_due_meanwhile(tmp_path: Path) -> None:
    """600 messages in 3 s, with a stall of 1.5 s: half of them wait, for half of that on average."""
    with serving(stalling(after=100, seconds=1.5)) as target:
        result = load(
            tmp_path, target, "--connections", "1", "--size", "64", "--duration", "3s", "--rate", "200"
        )
    histogram = latencies_of(result)
    assert result["messages"] == 600
    assert at_least(histogram, 700_000) >= 140, "200 messages a second, for 0.8 s"
    assert histogram.percentile(99) >= 1_300_000
    assert histogram.greatest >= 1_490_000


def test_a_closed_loop_sees_a_stall_once(tmp_path: Path) -> None:
    """A closed loop cannot see a stall: nothing was sent, so nothing waited."""
    with serving(stalling(after=100, seconds=1.5)) as target:
        result = load(tmp_path, target, "--connections", "1", "--size", "64", "--duration", "4s")
    histogram = latencies_of(result)
    assert result["messages"] > 300
    assert histogram.greatest >= 1_490_000
    assert at_least(histogram, 1_490_000) == 1
    assert histogram.percentile(99) < 1_300_000


def test_a_window_and_a_rate_hold_back_messages_but_not_their_clock(tmp_path: Path) -> None:
    with serving(stalling(after=100, seconds=1.5)) as target:
        options = ("--connections", "1", "--size", "64", "--duration", "3s", "--rate", "200", "--window", "1")
        result = load(tmp_path, target, *options)
    assert result["messages"] == 600
    assert at_least(latencies_of(result), 700_000) >= 140


# Servers by others.


FOREIGN = {
    "socat": ("socat", "TCP-LISTEN:{port},fork,reuseaddr,bind=127.0.0.1", "PIPE"),
    "ncat": ("ncat", "--listen", "--keep-open", "127.0.0.1", "{port}", "--exec", "/bin/cat"),
    "socat, TLS": (
        "socat",
        "OPENSSL-LISTEN:{port},fork,reuseaddr,bind=127.0.0.1,verify=0,"
        "certificate=certs/server.pem,key=certs/server.key",
        "PIPE",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_servers_of_others(suite: RunningSuite, name: str) -> None:
    port = free_port()
    command = [word.format(port=port) for word in FOREIGN[name]]
    target = f"{'tls' if 'TLS' in name else 'tcp'}:127.0.0.1:{port}"
    with program(*command, port=port, cwd=suite.directory):
        options = ("--connections", "3", "--size", "5000", "--duration", "1s", "--window", "2")
        result = load(suite.directory, target, *options)
    assert result["connections"] == 3
    assert result["messages"] > 3
    assert result["errors"] == {}


# Failures.


def broken_after(number: int, how: Callable[[socket.socket, bytes], None]) -> Callable[[socket.socket], None]:
    """An echo, except that *how* handles message *number*."""

    def handle(sock: socket.socket) -> None:
        for count, message in enumerate(messages(sock, 100), 1):
            if count == number:
                how(sock, message)
                return
            sock.sendall(message)

    return handle


def reset(sock: socket.socket, _message: bytes) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def flip(sock: socket.socket, message: bytes) -> None:
    sock.sendall(message[:50] + bytes([message[50] ^ 1]) + message[51:])
    sock.recv(1)  # until the client has seen it


def repeat(sock: socket.socket, message: bytes) -> None:
    sock.sendall(message * 2)
    sock.recv(1000)
    sock.recv(1)


def keep(sock: socket.socket, _message: bytes) -> None:
    while sock.recv(65536):
        pass


@pytest.mark.parametrize(
    ("how", "word", "example"),
    [
        (reset, "reset", ""),
        (lambda sock, _: None, "closed", "by the other side, with 1 message unanswered"),
        (flip, "mismatch", "at byte 2050: expected 0x"),
        (repeat, "mismatch", "at byte 210"),
        (keep, "timeout", "no echo within 0.5 s"),
    ],
    ids=["reset", "closed", "mismatch", "repeated", "timeout"],
)
def test_every_failure_has_a_word_and_is_counted(
    tmp_path: Path, how: Callable[[socket.socket, bytes], None], word: str, example: str
) -> None:
    options = ("--connections", "3", "--size", "100", "--duration", "1s", "--timeout", "500ms")
    with serving(broken_after(21, how)) as target:
        result = load(tmp_path, target, *options, code=1)
    assert result["messages"] == 3 * 20
    assert result["errors"] == {word: 3}
    assert result["examples"][word].startswith(example)


def test_what_was_due_and_never_came_is_counted_with_a_rate_too(tmp_path: Path) -> None:
    options = (
        "--connections",
        "2",
        "--size",
        "100",
        "--duration",
        "1s",
        "--rate",
        "100",
        "--timeout",
        "500ms",
    )
    with serving(broken_after(21, keep)) as target:
        result = load(tmp_path, target, *options, code=1)
    assert result["messages"] == 40
    assert result["errors"] == {"timeout": 60}


def test_some_connections_fail_and_the_others_go_on(suite: RunningSuite, tmp_path: Path) -> None:
    """The third connection and all later ones are refused."""
    accepted = []

    def handle(sock: socket.socket) -> None:
        accepted.append(sock)
        if len(accepted) <= 2:
            echo(sock)

    with serving(handle) as target:
        result = load(tmp_path, target, "--connections", "5", "--duration", "1s", code=1)
    assert result["messages"] > 0
    assert sum(result["errors"].values()) == 3
    assert set(result["errors"]) <= {"closed", "reset"}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("tcp:127.0.0.1:{free}", "refused: Connection refused"),
        ("tls:127.0.0.1:{free}", "refused: Connection refused"),
        ("udp:127.0.0.1:{free}", "refused: Connection refused"),
        ("unix:nowhere.sock", "missing: No such file or directory"),
        ("tcp:no-such-host.invalid:1", "dns: "),
    ],
)
def test_no_connection_at_all_is_one_line(tmp_path: Path, target: str, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = target.format(free=listener.getsockname()[1])
    done = run_suite(tmp_path, "load", target, says=ONE_LINE)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"{target}: {says}")


@pytest.mark.parametrize(
    ("target", "word"), [("tcp:127.0.0.1:{free}", "refused"), ("tcp:no-such-host.invalid:1", "dns")]
)
def test_a_dead_target_has_a_document_and_no_figures(tmp_path: Path, target: str, word: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = target.format(free=listener.getsockname()[1])
    result = load(tmp_path, target, "--rate", "100", "--plot", "dead.svg", code=1)
    assert result["errors"] == {word: 1}
    for key in ("started", "seconds", "due", "unanswered", "rate", "throughput"):
        assert result[key] is None, key
    latency = result["latency"]
    assert {latency["min"], latency["max"], latency["mean"], *latency["percentiles"].values()} == {None}
    assert set(result["client"].values()) == {None}
    assert texts_of(tmp_path / "dead.svg").count("no data") == 3


def test_interrupted_while_the_target_hangs(tmp_path: Path) -> None:
    hung = threading.Event()

    def handle(sock: socket.socket) -> None:
        for count, message in enumerate(messages(sock, 1024), 1):
            if count == 20:
                hung.set()
                keep(sock, message)
            sock.sendall(message)

    with (
        serving(handle) as target,
        started(tmp_path, "load", target, "--rate", "200", "--duration", "60m", "--json") as process,
    ):
        assert hung.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    result = json.loads(output)
    assert result["interrupted"] is True
    assert result["unanswered"] == result["due"] - result["messages"] > 0
    assert result["oldest"] > 0


def test_interrupted_twice_it_ends_at_once_and_quietly(tmp_path: Path) -> None:
    """A server whose answers take longer than anybody waits for them after an interruption."""
    asked = threading.Event()

    def handle(sock: socket.socket) -> None:
        sock.recv(1)
        asked.set()
        keep(sock, b"")

    def delivered() -> bool:
        return "ShdPnd:\t0000000000000000" in Path(f"/proc/{process.pid}/status").read_text()

    with (
        serving(handle) as target,
        started(tmp_path, "load", target, "--duration", "60m", "--json") as process,
    ):
        assert asked.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        wait_until(delivered, "the first signal has been delivered, so that they are two")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert json.loads(output)["interrupted"] is True


def test_a_connection_that_breaks_is_opened_again(tmp_path: Path) -> None:
    """Every 21st message ends its connection; all that was due and was not in flight then is answered."""
    options = ("--connections", "2", "--size", "100", "--duration", "2s", "--rate", "100")
    with serving(broken_after(21, lambda sock, _: None)) as target:
        result = load(tmp_path, target, *options, code=1)
    assert result["due"] == 200
    assert 5 <= result["errors"]["closed"] <= 10
    assert 0 < result["unanswered"] < 60
    assert result["messages"] >= 140


THREE_ADDRESSES = """
import sys
from suite.cli import main
from suite.client.dial import addresses
real = addresses._look_up
def look_up(host, *rest):
    hosts = ["127.0.0.1", "127.0.0.2", sys.argv[1]] if host == "three.test" and not rest[-1] else [host]
    return [found for one in hosts for found in real(one, *rest)]
addresses._look_up = look_up
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def two_addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A port at which 127.0.0.1 and 127.0.0.2 are served, over TCP and UDP."""
    port = free_port()
    listens = [
        f"{kind}:{port}:interface={host}" for kind in ("tcp", "udp") for host in ("127.0.0.1", "127.0.0.2")
    ]
    config = "[endpoints]\n" + "".join(f'e{number} = "{listen}"\n' for number, listen in enumerate(listens))
    with running(tmp_path_factory.mktemp("two"), config):
        yield port


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(("third", "counts"), [("127.0.0.3", True), ("::1", False)])
def test_connections_are_spread_over_all_addresses(
    tmp_path: Path, two_addresses: int, transport: str, third: str, *, counts: bool
) -> None:
    """The third refuses: an error, unless it is merely the other family."""
    target = f"{transport}:three.test:{two_addresses}"
    arguments = ("load", target, "--duration", "500ms", "--rate", "100", "--connections", "4", "--json")
    done = subprocess.run(
        [sys.executable, "-c", THREE_ADDRESSES, third, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == int(counts)
    result = json.loads(done.stdout)
    first, second, refusing = result["addresses"]
    assert first["address"] == f"127.0.0.1:{two_addresses}"
    assert second["address"] == f"127.0.0.2:{two_addresses}"
    for each in (first, second):
        assert (each["connections"], each["messages"], each["errors"]) == (2, 25, {})
    assert (refusing["used"], refusing["connections"], refusing["rate"]) == (counts, 0, None)
    assert sum(refusing["errors"].values()) == 1
    assert result["errors"] == (refusing["errors"] if counts else {})
    assert (result["messages"], result["connections"]) == (50, 4)


ECHO_AND_LOAD = """
import socket, sys, threading
from suite.cli import main
def echo(sock):
    while data := sock.recv(65536):
        sock.sendall(data)
def accept():
    while True:
        threading.Thread(target=echo, args=[listener.accept()[0]], daemon=True).start()
def answer():
    while True:
        datagrams.sendto(*datagrams.recvfrom(65536))
listener = socket.create_server(("127.0.0.1", 7))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", 7))
for target in (accept, answer):
    threading.Thread(target=target, daemon=True).start()
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_local_ports_used_up(tmp_path: Path, transport: str) -> None:
    """It names the range, and what can be done."""
    ip, unshare = client_program("ip"), client_program("unshare")
    if subprocess.run([unshare, "--net", "true"], capture_output=True, check=False).returncode:
        cannot_run("networks cannot be unshared here")
    ports = "/proc/sys/net/ipv4/ip_local_port_range"
    prepare = f'{ip} link set lo up && echo 50000 50009 > {ports} && exec "$@"'
    arguments = ("load", f"{transport}:127.0.0.1:7", "--connections", "15", "--duration", "300ms", "--json")
    done = subprocess.run(
        [unshare, "--net", "sh", "-c", prepare, "sh", sys.executable, "-c", ECHO_AND_LOAD, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 1)
    result = json.loads(done.stdout)
    assert result["errors"] == {"system": 5}
    assert result["connections"] == 10
    assert result["examples"]["system"].startswith(
        f"no local port is left for 127.0.0.1:7: all of the range 50000 to 50009 ({ports}) are in use;"
    )


def test_datagrams_that_nobody_answers(tmp_path: Path) -> None:
    with answering(lambda number, data: []) as target:
        done = run_suite(tmp_path, "load", target, "--timeout", "500ms", says=ONE_LINE)
    assert done.returncode == 1
    assert done.stderr == f"{target}: lost: no datagram came back within 0.5 s\n"


def test_lost_datagrams_are_counted_and_do_not_stop_the_others(tmp_path: Path) -> None:
    """Every fifth is dropped."""
    with answering(lambda number, data: [] if number and number % 5 == 0 else [data]) as target:
        options = ("--connections", "2", "--duration", "1s", "--rate", "100", "--timeout", "2s")
        result = load(tmp_path, target, *options, code=1)
        short = ("--duration", "500ms", "--timeout", "500ms")
        done = run_suite(tmp_path, "load", target, *short, says=PROGRESS.replace("0 err", r"\d+ err"))
    assert result["lost"] == 20
    assert result["messages"] == 80
    assert (result["errors"], result["late"]) == ({}, 0)
    assert re.search(r"(?m)^lost: \d+ datagrams$", done.stdout)


def test_datagrams_may_come_late_twice_changed_or_in_another_order(tmp_path: Path) -> None:
    held: list[bytes] = []

    def answers(number: int, data: bytes) -> list[bytes]:
        if number == 10:
            return [data, data]
        if number == 20:
            return [data[:60] + bytes([data[60] ^ 1]) + data[61:]]
        if number == 30:
            return [data[:-1]]
        if number == 40:
            return [b"other"]  # and 40 itself is lost
        if number == 50:
            held.append(data)
            return []
        if number == 230:
            return [data, held.pop()]
        if number in (60, 61):
            held.append(data)
            return [] if number == 60 else [held.pop(), held.pop()]
        return [data]

    with answering(answers) as target:
        options = ("--connections", "1", "--duration", "3s", "--rate", "100", "--timeout", "1s")
        result = load(tmp_path, target, "--size", "100", *options, code=1)
    assert result["errors"] == {"mismatch": 4}
    assert result["lost"] == 2
    assert result["late"] == 1
    assert result["messages"] == 300 - 2 - 2
    assert result["examples"]["mismatch"] == "datagram 9 came back twice"


def test_a_server_of_datagrams_that_goes_away(tmp_path: Path) -> None:
    """ICMP reports that the server is gone; with no connection left, the load ends at once."""
    enough = threading.Event()

    def answers(number: int, data: bytes) -> list[bytes]:
        if number > 100:
            enough.set()
        return [data]

    with answering(answers) as target:
        stack = ExitStack()
        process = stack.enter_context(
            started(tmp_path, "load", target, "--duration", "60m", "--connections", "3", "--json")
        )
        assert enough.wait(PATIENCE)
    with stack:
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    result = json.loads(output)
    assert result["errors"] == {"refused": 3}
    assert result["messages"] >= 100


def test_the_documentation_names_every_key_and_option(measured: Path) -> None:
    documentation = (ROOT / "docs/load.md").read_text()
    result = json.loads((measured / "fast.json").read_text())
    for key in (*result, *result["latency"], *result["client"], *result["addresses"][0], *COLUMNS):
        assert f"`{key}`" in documentation, key
    for option in result["options"]:
        assert re.search(f"`--{option}[ `]", documentation), option


# Interruptions.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_tells_what_was_measured(suite: RunningSuite, number: signal.Signals) -> None:
    arguments = ("load", target_of(suite, "tls"), "--duration", "60m")
    with started(suite.directory, *arguments, says=PROGRESS, text=True) as process:
        wait_until(lambda: "messages/s" in process.said, "it says how far it has got")
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert re.search(r"messages in [\d.]+ s, then interrupted: [\d,]+/s", output)
    assert "no errors" in output


def test_interrupted_its_json_says_so(tmp_path: Path) -> None:
    served = threading.Event()

    def handle(sock: socket.socket) -> None:
        for count, message in enumerate(messages(sock, 1024), 1):
            sock.sendall(message)
            if count == 50:
                served.set()

    with (
        serving(handle) as target,
        started(tmp_path, "load", target, "--duration", "60m", "--json") as process,
    ):
        assert served.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    result = json.loads(output)
    assert result["interrupted"] is True
    assert result["messages"] >= 50
    assert result["errors"] == {}


def test_interrupted_before_anything_was_sent(tmp_path: Path) -> None:
    """A server that never answers a handshake."""
    arrived = threading.Event()

    def handle(sock: socket.socket) -> None:
        sock.recv(1)
        arrived.set()
        sock.recv(100_000)
        sock.recv(1)

    says = r"tls:127.0.0.1:\d+: interrupted before anything was sent\n"
    with serving(handle) as target:
        arguments = ("load", target.replace("tcp:", "tls:"), "--timeout", "60s")
        with started(tmp_path, *arguments, says=says, text=True) as process:
            assert arrived.wait(PATIENCE)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (1, "")


# Plots and comparisons.

#: Two loads, and their options.
MEASURED: dict[str, tuple[str, ...]] = {"fast": (), "slow": ("--rate", "100")}


@pytest.fixture(scope="module")
def measured(suite: RunningSuite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two results."""
    directory = tmp_path_factory.mktemp("measured")
    for name, options in MEASURED.items():
        arguments = (target_of(suite, "tcp"), "--duration", "500ms", "--json", *options)
        done = run_suite(suite.directory, "load", *arguments)
        assert done.returncode == 0
        (directory / f"{name}.json").write_text(done.stdout)
    return directory


def texts_of(svg: Path) -> list[str]:
    """The text in a plot."""
    root = ET.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("options", [(), ("--rate", "100")], ids=["closed", "open"])
def test_a_png_is_one(suite: RunningSuite, tmp_path: Path, options: tuple[str, ...]) -> None:
    file = tmp_path / "curve.png"
    load(suite.directory, target_of(suite, "tcp"), "--duration", "300ms", *options, "--plot", str(file))
    content = file.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[12:16] == b"IHDR"
    width, height = struct.unpack(">II", content[16:24])
    assert width >= 600
    assert height >= 300
    assert content[-8:-4] == b"IEND"


def test_an_svg_has_a_curve_and_its_name(suite: RunningSuite, tmp_path: Path) -> None:
    target = target_of(suite, "unix")
    file = tmp_path / "curve.svg"
    options = ("--duration", "300ms", "--plot", str(file))
    done = run_suite(suite.directory, "load", target, *options, says=PROGRESS)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("wrote ")
    texts = texts_of(file)
    assert target in texts
    assert {"latency", "percentile", "0 %", "90 %"} <= set(texts)


def test_results_are_compared_and_overlaid(measured: Path) -> None:
    done = run_suite(measured, "load", "--compare", "fast.json", "slow.json", "--plot", "both.svg")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"result +messages/s +answered +errors +50 % +90 % +99 % +99.9 % +max", lines[0])
    for line, name in zip(lines[1:3], ("fast.json", "slow.json"), strict=True):
        assert re.fullmatch(rf"{name} +[\d,]+ +100 % +0( +[\d.,]+ (µs|ms|s)){{5}}", line)
    assert lines[3] == "wrote both.svg"
    assert {"fast.json", "slow.json"} <= set(texts_of(measured / "both.svg"))


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from suite.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "load", "tcp:127.0.0.1:1", "--plot", "x.svg"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    check_stderr(done.stderr, ONE_LINE)
    assert done.returncode == 2
    assert done.stderr == "--plot x.svg: needs matplotlib: pip install 'echo-suite[plot]'\n"


def test_a_picture_that_cannot_be_written_is_one_line(measured: Path) -> None:
    (measured / "is_a_directory.svg").mkdir()
    done = run_suite(
        measured, "load", "--compare", "fast.json", "--plot", "is_a_directory.svg", says=ONE_LINE
    )
    assert done.returncode == 1
    assert done.stderr == "--plot is_a_directory.svg: Is a directory\n"


# Usage errors.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "load: expected either a TARGET or --compare FILE"),
        (("tcp:localhost:1", "--compare", "x.json"), "load: expected either a TARGET or --compare FILE"),
        (("http:localhost:1",), "'http:localhost:1': 'http' is not a kind of target; expected tcp:HOST:PORT"),
        (("tcp:localhost:1", "--connections", "0"), "--connections '0' is out of range; expected 1 to"),
        (("tcp:localhost:1", "--connections", "²"), "--connections '²' is not a number; expected 1 to"),
        (("tcp:localhost:1", "--size", "0"), "--size 0 is out of range; expected 1 to 16777216 bytes"),
        (("tcp:localhost:1", "--size", "17MiB"), "--size '17MiB' is out of range; expected at most 16777216"),
        (("tcp:localhost:1", "--size", "many"), "--size 'many' is not a size; expected one such as"),
        (
            ("udp:localhost:1", "--size", "7"),
            "--size 7 is out of range; expected 8 to 65507 bytes for a datagram",
        ),
        (("udp:localhost:1", "--size", "64KiB"), "--size 65536 is out of range; expected 8 to 65507 bytes"),
        (
            ("tcp:localhost:1", "--duration", "soon"),
            "--duration 'soon' is not a duration; expected one such as",
        ),
        (("tcp:localhost:1", "--duration", "0"), "--duration '0' is too short; expected one such as"),
        (
            ("tcp:localhost:1", "--rate", "0"),
            "--rate '0' is out of range; expected 0.001 to 10000000 a second",
        ),
        (("tcp:localhost:1", "--rate", "5..0"), "--rate '5..0' is out of range; expected 0.001 to 10000000"),
        (("tcp:localhost:1", "--rate", "5.."), "--rate '5..' is not a number; expected 0.001 to 10000000"),
        (("tcp:localhost:1", "--rate", "1..2..3"), "--rate '1..2..3' is not a number; expected 0.001"),
        (("tcp:localhost:1", "--warmup", "x"), "--warmup 'x' is not a duration; expected one such as"),
        (("tcp:localhost:1", "--hlog", "no/x.hlog"), "--hlog no/x.hlog: No such file or directory"),
        (("--compare", "x.json", "--hlog", "x"), "--compare reads earlier results; expected no --hlog"),
        (("tcp:localhost:1", "--rate", "nan"), "--rate 'nan' is not a number; expected 0.001 to"),
        (("tcp:localhost:1", "--window", "0"), "--window '0' is out of range; expected 1 to 1000000"),
        (("tcp:localhost:1", "--plot", "x.gif"), "--plot x.gif: expected a name ending in .svg or .png"),
        (("tcp:localhost:1", "--plot", "no/x.svg"), "--plot no/x.svg: no such directory: no"),
        (("tcp:localhost:1", "--cert", "x.pem"), "--cert and --key go together"),
        (("--compare", "missing.json"), "--compare missing.json: No such file or directory"),
        (("--compare", "."), "--compare .: Is a directory"),
        (
            ("--compare", "x.json", "--rate", "5"),
            "--compare reads earlier results; expected no --rate",
        ),
        (("--compare", "x.json", "--json"), "--compare reads earlier results; expected no --json"),
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["load", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(says)
    assert errors.count("\n") == 1


def changed(result: dict[str, Any], path: str, value: Any) -> bytes:
    """*result* with another value at *path*."""
    result = json.loads(json.dumps(result))
    place = result
    *parents, last = path.split(".")
    for parent in parents:
        place = place[parent]
    place[last] = value
    return json.dumps(result).encode()


def test_a_file_that_is_no_result_is_one_line(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    good = json.loads((measured / "fast.json").read_text())
    bad = {
        "empty": b"",
        "binary": b"\xff\xfe\x00",
        "another": b'{"format": "something else"}',
        "list": b"[]",
        "deep": b"[" * 100_000,
        "target": changed(good, "target", 5),
        "rate": changed(good, "rate", "fast"),
        "seconds": changed(good, "seconds", float("nan")),
        "messages": changed(good, "messages", True),
        "size": changed(good, "options.size", None),
        "errors": changed(good, "errors", {"reset": "many"}),
        "examples": changed(good, "examples", {"reset": 5}),
        "client": changed(good, "client", {}),
        "due": changed(good, "due", "all"),
        "rows": changed(good, "over_time.rows", [[0]]),
        "row": changed(good, "over_time.rows", [["0", 1, 1, 1, 1, 1, 1]]),
        "columns": changed(good, "over_time.columns", []),
        "addresses": changed(good, "addresses", [5]),
        "address": changed(good, "addresses", [{}]),
        "total": changed(good, "messages", good["messages"] + 1),
        "latency": changed(good, "latency", {}),
        "histogram": changed(good, "latency.histogram", "HISTFAAA"),
        "lines": changed(good, "latency.histogram", "HISTFAAA\nTraceback"),
    }
    for name, content in bad.items():
        (tmp_path / f"{name}.json").write_bytes(content)
        assert cli.main(["load", "--compare", f"{name}.json"]) == 2, name
        output, errors = capsys.readouterr()
        assert output == "", name
        assert errors.startswith(f"--compare {name}.json: "), name
        assert errors.endswith("; expected what `load --json` has printed\n"), name
        assert errors.count("\n") == 1, name


@pytest.mark.parametrize("call", ["getrlimit", "setrlimit"])
def test_a_sandbox_may_forbid_to_ask_for_room(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(f"resource.{call}", refuse)
    if call == "getrlimit":
        make_room(3000)
        return
    with pytest.raises(UsageError) as caught:
        make_room(3000)
    assert str(caught.value) == (
        "--connections 2936: cannot have more than 1024 open files here (Operation not permitted);"
        " expected at most 960"
    )


def test_more_connections_than_the_system_allows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr("resource.setrlimit", lambda *arguments: calls.append(arguments))
    make_room(500)
    assert not calls
    make_room(3000)
    assert [limits for _, limits in calls] == [(3000, 4096)]
    with pytest.raises(UsageError) as error:
        make_room(5064)
    assert str(error.value) == "--connections 5000: the system allows 4096 open files; expected at most 4032"


def test_it_leaves_the_servers_nothing_to_complain_about(suite: RunningSuite) -> None:
    """Over TLS, each side sends close_notify: a bare FIN would be logged as truncated."""
    before = len(suite.errors)
    load(suite.directory, target_of(suite, "tls"), "--duration", "200ms", "--connections", "20")
    load(suite.directory, target_of(suite, "tcp"), "--duration", "200ms")
    wait_until(lambda: suite.descriptors() < 25, "all connections are closed")
    assert suite.errors[before:] == []


def test_interrupted_before_it_began(tmp_path: Path) -> None:
    """Ctrl-C in the reactor's first turn."""
    code = (
        "import sys; from suite.cli import main; from suite.server import process\n"
        "reactor = process.install_reactor(None)\n"
        "process.install_reactor = lambda name: reactor\n"
        "reactor.callWhenRunning(reactor.stop)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "load", "tcp:127.0.0.1:1", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    result = json.loads(done.stdout)
    assert result["interrupted"] is True
    assert (result["started"], result["due"], result["rate"]) == (None, None, None)
