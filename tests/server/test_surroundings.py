"""Nothing outside stops a suite: standard output, the working directory, limits, files that are no files."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_doors import TWIST
from tests.helpers import write_config
from tests.running import (
    ONE_LINE,
    PATIENCE,
    RunningSuite,
    listens,
    read_to_end,
    run_suite,
    running,
    wait_until,
)

ONE = '[endpoints]\none = "unix:one.sock"\n'
OTHER = '[endpoints]\nother = "unix:other.sock"\n'


def unix_echoes(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        sock.sendall(b"hola")
        sock.shutdown(socket.SHUT_WR)
        return read_to_end(sock.recv) == b"hola"


class Served:
    """A suite in a directory, whose log is a file, and which may have any standard output.

    :ivar process: the process.
    """

    def __init__(self, directory: Path, config: str, command: list[str], **options: Any) -> None:
        self.directory = directory
        self.log = directory / "log"
        write_config(directory, config)
        self.process = subprocess.Popen([*command, "--log-file", "log"], cwd=directory, **options)

    def reload(self, config: str, answer: str = "reloaded: ") -> None:
        """Have it read *config*, and wait for its answer."""
        write_config(self.directory, config)
        before = self.logged(answer)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.logged(answer) > before, f"it says {answer}")

    def logged(self, text: str) -> int:
        """How many lines of its log contain *text*."""
        return self.log.read_text().count(text)


@contextmanager
def serving(
    directory: Path, config: str, *, command: list[str] | None = None, **options: Any
) -> Iterator[Served]:
    """A suite that must end well, with a socket called ``one.sock``, and nothing on its standard error."""
    with (directory / "stderr").open("w+") as stderr:
        options = {"stderr": stderr, **options}
        served = Served(directory, config, command or [sys.executable, "-m", "suite"], **options)
        with served.process:
            try:
                wait_until(lambda: listens(directory / "one.sock"), "it listens")
                yield served
                served.process.send_signal(signal.SIGTERM)
                assert served.process.wait(PATIENCE) == 0
            finally:
                served.process.kill()
    assert (directory / "stderr").read_text() == ""
    assert not list(directory.glob("*.sock"))
    assert "Traceback" not in served.log.read_text()


def shell(redirection: str) -> list[str]:
    """The suite, with what a shell does to its descriptors."""
    return ["/bin/sh", "-c", f'exec "$0" -m suite "$@" {redirection}', sys.executable]


@pytest.mark.parametrize(
    "redirection",
    [">/dev/full", ">&-", "2>/dev/full", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"],
)
def test_a_reload_takes_effect_wherever_output_goes(tmp_path: Path, redirection: str) -> None:
    with serving(tmp_path, ONE, command=shell(redirection)) as served:
        assert unix_echoes(tmp_path / "one.sock")
        served.reload(OTHER)
        wait_until(lambda: not (tmp_path / "one.sock").exists(), "what was removed is closed")
        assert unix_echoes(tmp_path / "other.sock")
        lost = served.logged("standard output cannot be written: No space left on device")
        assert lost == (">/dev/full" in redirection.replace("2>/dev/full", ""))
        for number in range(3):
            assert os.path.exists(f"/proc/{served.process.pid}/fd/{number}"), "nobody else gets that number"
            assert "socket" not in os.readlink(f"/proc/{served.process.pid}/fd/{number}")


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_a_reload_takes_effect_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    with serving(tmp_path, ONE, env=environment, stdout=subprocess.PIPE) as served:
        served.reload('[endpoints]\nother = "unix:中é.sock"\n')
        wait_until(lambda: not (tmp_path / "one.sock").exists(), "what was removed is closed")
        assert unix_echoes(tmp_path / "中é.sock")
        served.process.terminate()
        assert served.process.stdout is not None
        last = served.process.stdout.read().splitlines()[-1]
        assert (
            last
            == rb"other        UNIX  \u4e2d" + (b"\xe9" if encoding == "latin-1" else rb"\xe9") + b".sock"
        )


def test_a_standard_output_that_nobody_reads_stops_nobody(tmp_path: Path) -> None:
    """Neither a reload, nor an echo, nor the end."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    many = "".join(f'{"e" * 50}{number} = "unix:{number}.sock"\n' for number in range(100))
    with os.fdopen(read, "rb", 0) as unread, serving(tmp_path, ONE, stdout=write) as served:
        os.close(write)
        for config in (ONE + many, ONE) * 3:
            served.reload(config)
            assert unix_echoes(tmp_path / "one.sock")
        assert served.logged("standard output cannot be written: destination not read") == 1
        assert b"one " in unread.read(4096)
        served.reload(ONE + many)
        assert re.match(
            rb".*lines dropped here: \d\d\d \(destination not read\)\neee", unread.read(4096), re.DOTALL
        )


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">/dev/full 2>/dev/full"])
def test_an_error_that_nobody_can_read_has_its_exit_code(tmp_path: Path, redirection: str) -> None:
    for config, arguments, code in (
        ("[endpoints", (), 2),
        ('[endpoints]\ntcp = "unix:/proc/x"', (), 1),
        (ONE, ("--reactor", "xyz"), 2),
        (ONE, ("--nonsense",), 2),
    ):
        write_config(tmp_path, config)
        command = [*shell(redirection), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


#: The suite in the background of a terminal that stops those who write to it from there.
IN_THE_BACKGROUND = """
import os, pty, sys, termios

child, terminal = pty.fork()
if not child:
    attributes = termios.tcgetattr(0)
    attributes[3] |= termios.TOSTOP
    termios.tcsetattr(0, termios.TCSANOW, attributes)
    suite = os.fork()
    if not suite:
        os.setpgid(0, 0)
        os.execv(sys.executable, [sys.executable, "-m", "suite"])
    print(suite, flush=True)
    os._exit(os.waitpid(suite, os.WUNTRACED)[1] != 0)
print(os.read(terminal, 100).decode().split()[0], flush=True)
try:
    while os.read(terminal, 1000):
        pass
except OSError:  # the end of a terminal
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_in_the_background_of_a_terminal_it_is_not_stopped_for_what_it_prints(tmp_path: Path) -> None:
    write_config(tmp_path, ONE)
    command = [sys.executable, "-c", IN_THE_BACKGROUND]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        suite = int(process.stdout.readline())
        try:
            wait_until(lambda: unix_echoes(tmp_path / "one.sock") or bool(process.poll()), "it echoes")
        finally:
            os.kill(suite, signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


# Files.


def test_a_configuration_that_became_a_pipe_changes_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, ONE) as served:
        config = tmp_path / "config.toml"
        config.unlink()
        os.mkfifo(config)
        served.process.send_signal(signal.SIGHUP)
        said = "not reloaded: config.toml: cannot be read: it is a named pipe; expected a regular file"
        wait_until(lambda: served.logged(said) == 1, "it says so")
        assert unix_echoes(tmp_path / "one.sock")
        config.unlink()
        served.reload(ONE)


def test_a_log_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    write_config(tmp_path, ONE)
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        ("no/log", "No such file or directory"),
        (".", "Is a directory"),
        ("pipe", "No such dev"),
    ):
        done = run_suite(tmp_path, "--log-file", path, says=ONE_LINE)
        assert done.returncode == 1
        assert done.stderr.startswith(f"--log-file '{path}': cannot be written: {why}")


# The working directory.

GONE = (
    sys.executable,
    "-c",
    "import os, sys\n"
    "os.mkdir('gone')\n"
    "os.chdir('gone')\n"
    "os.rmdir('../gone')\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'suite', *sys.argv[1:]])",
)


def test_a_working_directory_may_be_deleted(tmp_path: Path) -> None:
    """At the start, and before a reload: what is named in full is found."""
    config = write_config(
        tmp_path,
        f'[endpoints]\none = "unix:{tmp_path}/one.sock"\ntls = "ssl:0:certs/server.key:certs/server.pem"\n',
    )
    with subprocess.Popen(
        [*GONE, "--log", "text", "--config", str(config)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            lines = iter(process.stdout.readline, "")
            assert any(line.startswith("ready") for line in lines), process.stderr.read()
            assert unix_echoes(tmp_path / "one.sock")
            process.send_signal(signal.SIGHUP)
            assert "reloaded: 0 added" in process.stderr.readline()
            config.write_text("[endpoints")
            process.send_signal(signal.SIGHUP)
            assert f"not reloaded: {config}: not TOML" in process.stderr.readline()
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("command", "code"), [((), 2), (("check",), 2), (("probe",), 2), (("certs",), 1)], ids=str
)
def test_without_a_working_directory_an_error_is_one_line(
    tmp_path: Path, command: tuple[str, ...], code: int
) -> None:
    done = subprocess.run(
        [*GONE, *command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == code
    assert re.fullmatch(ONE_LINE, done.stderr)
    assert "No such file" in done.stderr or "no such file" in done.stderr


# Limits.


@contextmanager
def soft_limit(count: int) -> Iterator[None]:
    """Processes may open *count* descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_select_sheds_what_it_cannot_watch(tmp_path: Path) -> None:
    """A thousand connections are served; the next ones are refused, a reload fails, and it ends well."""
    config = '[endpoints]\ntcp = "tcp:0"\n[limits]\nper_peer = 5000\n'
    asked_for = ["descriptors", "not reloaded: config.toml: cannot be read: Too many open files"]
    with soft_limit(3000), ExitStack() as stack:
        suite = stack.enter_context(running(tmp_path, config, "--reactor", "select", asked_for=asked_for))
        assert resource.prlimit(suite.process.pid, resource.RLIMIT_NOFILE)[0] == 1024
        first = stack.enter_context(suite.connect("tcp"))
        connections = [stack.enter_context(suite.connect("tcp")) for _ in range(1100)]
        for sock in connections:
            sock.sendall(b"hola")
        heard = [_exchange(sock) for sock in connections]
        assert heard[:900] == [b"hola"] * 900
        assert heard[-50:] == [b""] * 50
        (tmp_path / "config.toml").write_text(config.replace("[limits]", 'more = "tcp:0"\n[limits]'))
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any("not reloaded" in line for line in suite.errors), "the reload fails")
        first.sendall(b"hola")
        assert first.recv(4) == b"hola"
        assert not any('"level": "error"' in line for line in suite.errors if "not reloaded" not in line)
        for sock in connections:
            sock.close()
        assert suite.stop(signal.SIGTERM) == 0


def _exchange(sock: socket.socket) -> bytes:
    try:
        return sock.recv(4)
    except ConnectionResetError:
        return b""


#: The suite in a sandbox that forbids it to ask for limits, or to set them (seccomp(2)), by x86-64's numbers.
SANDBOX = """
import ctypes, os, struct, sys

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
forbidden = (97, 160, 302)  # getrlimit, setrlimit, prlimit64
program = [(LOAD, 0, 0, 0)]
for place, number in enumerate(forbidden):
    program.append((EQUAL, len(forbidden) - place, 0, number))
program += [(RETURN, 0, 0, 0x7FFF0000), (RETURN, 0, 0, 0x00050000 | 1)]  # allow; EPERM
code = b"".join(struct.pack("HBBI", *one) for one in program)
held = ctypes.create_string_buffer(code)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(held)))
assert libc.prctl(22, 2, filter) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
import resource
try:
    resource.getrlimit(resource.RLIMIT_NOFILE)
except OSError:
    os.execv(sys.executable, [sys.executable, "-m", "suite", *sys.argv[1:]])
sys.exit("the sandbox is open")
"""


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the sandbox knows the system calls of x86-64 only"
)
@pytest.mark.parametrize("reactor", ["echo-engine", "select", "asyncio"])
def test_a_sandbox_may_forbid_limits(tmp_path: Path, reactor: str) -> None:
    command = [sys.executable, "-c", SANDBOX]
    with serving(tmp_path, ONE, command=[*command, "--reactor", reactor]) as served:
        assert unix_echoes(tmp_path / "one.sock")
        served.reload(OTHER)
        assert unix_echoes(tmp_path / "other.sock")


def test_select_is_limited_under_twist_too(tmp_path: Path) -> None:
    command = (TWIST[0], "--reactor", "select", *TWIST[1:])
    with soft_limit(3000):
        suite = RunningSuite(tmp_path, ONE, command=command)
        assert resource.prlimit(suite.process.pid, resource.RLIMIT_NOFILE)[0] == 1024
        assert suite.stop() == -signal.SIGTERM
