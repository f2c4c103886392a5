"""``status``: what a running suite does, from the command line, in a pipe and on a terminal."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.client.admin.canned import canned, http
from tests.running import PATIENCE, RunningSuite, run_suite, running, started, wait_until, wait_until_it_waits

pytestmark = pytest.mark.usefixtures("measured")

CONFIG = """
[admin]
listen = ["unix:run/admin.sock", "tcp:0"]

[endpoints]
tcp = "tcp:0"
udp = "udp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:echo.sock"

[endpoints.full]
listen = "tcp:0"
limits = { connections = 1 }
faults = [{ latency = "1ms" }]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("status"), CONFIG, asked_for=["refused"]) as suite:
        yield suite


def said(suite: RunningSuite, *words: str) -> list[str]:
    """What ``status`` prints."""
    result = run_suite(suite.directory, "status", *words)
    assert result.returncode == 0
    return result.stdout.splitlines()


@contextmanager
def connected(suite: RunningSuite, endpoint: str) -> Iterator[socket.socket]:
    """A client that has had an echo, and stays."""
    with suite.connect(endpoint) as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        yield sock


# The four questions.


def test_who_is_connected(suite: RunningSuite) -> None:
    with connected(suite, "tcp") as first, connected(suite, "full") as second:
        peers = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (first, second)]
        title, *rows = said(suite, "--connections")
        assert title.split() == ["id", "peer", "state", "received", "owed", "age", "quiet", "faults"]
        assert {tuple(row.split()[1:3]) for row in rows} == {(peer, "answering") for peer in peers}
        (row,) = said(suite, "--connections", "tcp")[1:]
        assert re.match(rf"tcp/\d+ +{peers[0]} +answering +4 B", row)
        detail = said(suite, "full")
        assert "full: TCP 127.0.0.1:" in detail[0]
        assert any(re.match(r"limits +connections 1, ", line) for line in detail)
        assert any(re.match(r"faults +\d+: latency=1ms", line) for line in detail)
        assert any(peers[1] in line for line in detail)
    wait_until(lambda: said(suite, "--connections") == ["nobody is connected"], "they have gone")
    assert said(suite, "--connections", "udp") == ["nobody is connected"]


def test_who_was_refused_and_why(suite: RunningSuite) -> None:
    with connected(suite, "full"), suite.connect("full") as late:
        assert late.recv(1) == b""
        peer = f"127.0.0.1:{late.getsockname()[1]}"
        lines = said(suite, "--refused", "full")
    assert any(peer in line and "connections" in line for line in lines[1:]), lines
    assert said(suite, "--refused", "tcp") == ["nobody was refused lately"]
    overview = said(suite)
    assert any(re.match(r"refused +\d+: \d+ connections", line) for line in overview)
    assert any(re.search(r"full .* \d+ connections", line) for line in overview)
    assert any(peer in line for line in overview)


def test_whether_it_is_well_and_when_certificates_end(suite: RunningSuite) -> None:
    lines = said(suite)
    assert re.match(r"suite +echo-suite [\d.]+, serving, ready, for .*, process \d+$", lines[0])
    assert lines[1].split() == ["config", "config.toml:", "5", "endpoints"]
    (row,) = [line for line in lines if re.match(r"20\d\d-\d\d-\d\d +82\d +tls +CN=localhost", line)]
    assert row
    names = [line.split()[0] for line in lines if re.search(r" (TCP|UDP|TLS|UNIX) +", line)]
    assert sorted(names) == ["full", "tcp", "tls", "udp", "unix"]


# In a pipe.


def test_there_are_no_escapes_in_a_pipe(suite: RunningSuite) -> None:
    for words in ([], ["tcp"], ["--connections"], ["--refused"]):
        text = "\n".join(said(suite, *words))
        assert "\x1b" not in text
        assert "…" not in text


def test_json_is_a_document_a_line(suite: RunningSuite) -> None:
    with connected(suite, "tcp"):
        (line,) = said(suite, "--json")
        document = json.loads(line)
        assert document["status"]["connections"]["open"] == 1
        assert len(document["endpoints"]) == 5
        (line,) = said(suite, "tcp", "--json")
        document = json.loads(line)
        assert document["endpoint"]["name"] == "tcp"
        assert [each["received"] for each in document["connections"]] == [4]
        (line,) = said(suite, "--connections", "--json")
        assert [each["endpoint"] for each in json.loads(line)["connections"]] == ["tcp"]
        (line,) = said(suite, "--refused", "--json")
        assert isinstance(json.loads(line)["events"], list)


@pytest.mark.parametrize("form", ["text", "json"])
def test_it_watches_in_a_pipe_until_nobody_reads(suite: RunningSuite, form: str) -> None:
    words = ["--json"] if form == "json" else []
    with started(suite.directory, "status", "--watch", "20ms", *words) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(60 if form == "text" else 3)]
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
    if form == "json":
        uptimes = [json.loads(line)["status"]["uptime"] for line in lines]
        assert uptimes == sorted(set(uptimes))
    else:
        assert sum(line.startswith("suite ") for line in lines) > 1
        assert any(re.search(r"accepted \(\d+(\.\d)?/s\)", line) for line in lines), (
            "rates, from the second on"
        )
        assert "\x1b" not in "".join(lines)
        assert "\n" in lines, "an empty line between two"


def test_ctrl_c_ends_it_well_in_a_pipe(suite: RunningSuite) -> None:
    with started(suite.directory, "status", "--watch", "20ms") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"suite ")
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(PATIENCE) == 0


def test_in_a_pipe_the_end_of_the_suite_is_the_end(tmp_path: Path) -> None:
    says = r"run/admin\.sock: no suite is listening there; [^\n]*\n"
    with (
        running(tmp_path, CONFIG) as suite,
        started(
            tmp_path, "status", "--watch", "20ms", "--json", says=rf"{says}|[^\n]* closed [^\n]*\n"
        ) as process,
    ):
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["status"]["ready"] is True
        suite.stop()
        process.stdout.read()
        assert process.wait(PATIENCE) == 1


# On a terminal.


class Terminal:
    """``status`` on a terminal.

    :ivar text: what it has written so far.
    """

    def __init__(
        self, directory: Path, *words: str, columns: int = 80, lines: int = 24, term: str = "xterm-256color"
    ) -> None:
        self.text = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name not in ("COLUMNS", "LINES", "NO_COLOR")
            },
            "TERM": term,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "suite", "status", *words],
            cwd=directory,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        with suppress(OSError):  # EIO: what Linux says when nobody has the other side any more
            while data := os.read(self._master, 65536):
                self.text += decoder.decode(data)

    def press(self, keys: bytes) -> None:
        """Type *keys*."""
        os.write(self._master, keys)

    def wait(self) -> int:
        """Its exit code, once all that it has written has been read."""
        code = self.process.wait(PATIENCE)
        self._thread.join(PATIENCE)
        os.close(self._master)
        return code

    def wait_for(self, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, self.text) is not None, pattern)


@pytest.fixture
def terminals() -> Iterator[Callable[..., Terminal]]:
    """Makes terminals; what still runs on one at the end of a test is killed."""
    made: list[Terminal] = []

    def make(*arguments: Any, **options: Any) -> Terminal:
        made.append(Terminal(*arguments, **options))
        return made[-1]

    yield make
    for terminal in made:
        terminal.process.kill()
        terminal.process.wait(PATIENCE)


SCREEN, MAIN = "\x1b[?1049h", "\x1b[?1049l"
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_once_on_a_terminal_it_is_in_color_and_fits(
    suite: RunningSuite, terminals: Callable[..., Terminal]
) -> None:
    terminal = terminals(suite.directory)
    assert terminal.wait() == 0
    assert SCREEN not in terminal.text
    assert "\x1b[32mserving" in terminal.text
    assert all(len(line) <= 80 for line in without_escapes(terminal.text).splitlines())


def test_on_a_terminal_it_is_refreshed_in_place_until_ctrl_c(
    suite: RunningSuite, terminals: Callable[..., Terminal]
) -> None:
    terminal = terminals(suite.directory, "--watch", "50ms", lines=50)
    terminal.wait_for(r"every 0\.05 s; Ctrl-C ends")
    before = terminal.text.count("every 0.05 s")
    with connected(suite, "unix"):
        terminal.wait_for(r"unix +UNIX  echo\.sock +1 ")
    wait_until(lambda: terminal.text.count("every 0.05 s") > before + 1, "it goes on")
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.wait() == 0
    text = terminal.text
    assert (text.count(SCREEN), text.count(MAIN)) == (1, 1)
    assert text.rindex(SHOWN) > text.rindex(HIDDEN)
    last = without_escapes(text[text.index(MAIN) :])
    assert "suite        echo-suite" in last, "the last snapshot stays"
    assert "Traceback" not in text


def test_sigterm_leaves_the_terminal_as_it_was(
    suite: RunningSuite, terminals: Callable[..., Terminal]
) -> None:
    terminal = terminals(suite.directory, "tcp", "--watch", "10s")
    terminal.wait_for("every 10 s")
    terminal.process.terminate()
    assert terminal.wait() == 128 + signal.SIGTERM
    assert terminal.text.count(MAIN) == 1
    assert terminal.text.rindex(SHOWN) > terminal.text.rindex(HIDDEN)
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_nobody_reads_the_terminal(
    suite: RunningSuite, terminals: Callable[..., Terminal], number: signal.Signals
) -> None:
    """As when it is stopped by Ctrl-S, or behind a connection that hangs."""
    terminal = terminals(suite.directory, "--watch", "20ms")
    terminal.wait_for("every 0.02 s")
    terminal.press(b"\x13")
    wait_until_it_waits(terminal.process.pid, 0.3)  # fifteen refreshes
    terminal.process.send_signal(number)
    assert terminal.wait() == 128 + number


def test_on_a_terminal_a_suite_that_restarts_is_waited_for(
    tmp_path: Path, terminals: Callable[..., Terminal]
) -> None:
    with running(tmp_path, CONFIG):
        terminal = terminals(tmp_path, "--watch", "50ms", columns=200, lines=50)
        terminal.wait_for("serving")
    terminal.wait_for(r"no suite is listening there; .* below is the last answer|closed without an answer")
    with running(tmp_path, CONFIG) as suite:
        terminal.wait_for(rf"process {suite.process.pid}")
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.wait() == 0


def test_a_terminal_that_is_none_of_those_gets_an_error_and_no_screen(
    tmp_path: Path, terminals: Callable[..., Terminal]
) -> None:
    """What is wrong from the start is said as everywhere."""
    (tmp_path / "config.toml").write_text(CONFIG)
    terminal = terminals(tmp_path, "--watch")
    assert terminal.wait() == 1
    assert "run/admin.sock: no suite is listening there" in without_escapes(terminal.text)
    assert terminal.text.count(SCREEN) == terminal.text.count(MAIN)


def test_a_terminal_that_cannot_be_refreshed_is_as_good_as_a_pipe(
    suite: RunningSuite, terminals: Callable[..., Terminal]
) -> None:
    terminal = terminals(suite.directory, "--watch", "50ms", term="dumb")
    terminal.wait_for(r"(?s)suite .*suite ")
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.wait() == 0
    assert "\x1b" not in terminal.text


# What goes wrong.


def test_documents_of_another_version_are_one_line(tmp_path: Path) -> None:
    answers = [http('{"pid": 1}'), http('{"endpoints": [], "next": null}'), http('{"events": []}')]
    says = (
        r"[^\n]*admin\.sock: its answer cannot be understood \(KeyError\('version'\)\); expected a [^\n]*\n"
    )
    with canned(tmp_path, *answers) as (place, _):
        where = f"unix:{place.addresses[0].path}"
        assert run_suite(tmp_path, "status", "--admin", where, says=says).returncode == 1


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["ful"], 2, "'ful' is not an endpoint; did you mean full?"),
        (["a/b"], 2, "'a/b' is not an endpoint; expected the name of one"),
        (["", "--connections"], 2, "'' is not an endpoint; expected the name of one"),
        (["--connections", "ful"], 2, "'ful' is not an endpoint; did you mean full?"),
        (["--refused", "ful"], 2, "'ful' is not an endpoint; did you mean full?"),
        (["--watch", "tcp"], 2, "--watch 'tcp' is not a duration; expected one such as 2s, or the ENDPOINT"),
        (["--watch", "0"], 2, "--watch '0' is too short"),
        (["--connections", "--refused"], 2, "python -m suite status: argument --refused: not allowed with"),
        (["tcp", "udp"], 2, "python -m suite status: unexpected argument 'udp'"),
        (["--admin", "unix:none.sock"], 1, "none.sock: no suite is listening there"),
        (["--admin", "unix:echo.sock"], 1, "echo.sock: it does not answer as an admin interface does"),
        (["--config", "none.toml"], 2, "none.toml: no such file"),
        (["--token-file", "none"], 2, "none: cannot be read: No such file or directory; expected the file"),
    ],
)
def test_what_goes_wrong_is_one_line(suite: RunningSuite, words: list[str], code: int, error: str) -> None:
    result = run_suite(suite.directory, "status", *words, says=rf"{re.escape(error)}[^\n]*\n")
    assert (result.returncode, result.stdout) == (code, "")
