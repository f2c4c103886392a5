"""A suite in a process of its own, and clients that share no code with it."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

from tests.forking import ForkedSuite

REACTORS = ("echo-engine", "epoll", "poll", "select", "asyncio")

#: The engine with everything on its ring, `tests.on_ring`, is as good as a reactor of its own.
ON_RING = "echo-engine, on the ring"

#: What a process may leave on standard error, as a pattern for all of it: one line.
ONE_LINE = r"[^\n]+\n"

#: The levels of log events that say that all is well.
HARMLESS = ("debug", "info")

#: How long anything may take before a test gives up on it, in seconds.
PATIENCE = 60

FOUR_TRANSPORTS = """
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:echo.sock"
"""

TCPAddress = tuple[str, int]


class RunningSuite:
    """``python -m suite`` on a configuration, from when it is ready until `stop`.

    :ivar addresses: where each endpoint listens, by name: ``(host, port)``, or the path of a socket.
    :ivar admin: where its admin interface listens, in the order of the configuration: as in `addresses`.
    :ivar lines: what it has printed.
    :ivar errors: what it has logged.
    :ivar asked_for: fragments of log lines above the level ``info`` that this test provokes.
    :param command: what to execute instead of forking for *module*.
    """

    def __init__(
        self,
        directory: Path,
        config: str,
        *arguments: str,
        command: Sequence[str] = (),
        module: str = "suite",
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.directory = directory
        (directory / "config.toml").write_text(config)
        arguments = (*arguments, "--config", "config.toml")
        options: dict[str, Any] = {
            "cwd": directory,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "pass_fds": pass_fds,
        }
        self.process: subprocess.Popen[Any] = (
            subprocess.Popen([*command, *arguments], **options)
            if command
            else ForkedSuite(*arguments, module=module, **options)
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.asked_for: list[str] = []
        self.addresses: dict[str, Any] = {}
        self.admin: list[Any] = []
        self._ready = threading.Event()
        self._threads = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        if not self._ready.wait(PATIENCE) or not self.lines:
            self.stop(signal.SIGKILL)
            pytest.fail(f"not ready: {self.lines} {self.errors}")

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            found = re.search(r"(\S+) +(TCP|UDP|TLS|UNIX) +(\S+)", line)
            if found:
                name, transport, address = found.groups()
                host, _, port = address.rpartition(":")
                self.addresses[name] = (
                    str(self.directory / address) if transport == "UNIX" else (host.strip("[]"), int(port))
                )
            found = re.search(r"admin +HTTP +(\S+)", line)
            if found:
                host, _, port = found[1].rpartition(":")
                at = (host.strip("[]"), int(port)) if port.isdigit() else str(self.directory / found[1])
                self.admin.append(at)
            if "ready" in line:
                self._ready.set()
        self._ready.set()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(line.rstrip("\n") for line in self.process.stderr)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it has logged as JSON."""
        return [json.loads(line) for line in self.errors]

    def complaints(self) -> list[str]:
        """What is on its standard error and should not be.

        Only log events belong there; those above the level ``info`` only if they have been asked for, those
        with a traceback never.
        """
        return [line for line in self.errors if not self._is_fine(line)]

    def _is_fine(self, line: str) -> bool:
        level, traceback = level_of(line)
        if level is None or traceback:
            return False
        return level in HARMLESS or any(fragment in line for fragment in self.asked_for)

    def connect(self, endpoint: str) -> socket.socket:
        """A connected stream or datagram socket, plain even where the endpoint speaks TLS.

        The endpoint may be one of a reload that has been logged: its line is read by another thread.
        """
        wait_until(lambda: endpoint in self.addresses, f"{endpoint} is announced")
        address = self.addresses[endpoint]
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            kind = socket.SOCK_DGRAM if endpoint.startswith("udp") else socket.SOCK_STREAM
            sock = socket.socket(family, kind)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def client_context(self, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A context that trusts the suite's development CA."""
        context = ssl.create_default_context(cafile=str(self.directory / "certs/ca.pem"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        # Some builds of Python take a bare FIN for a proper end, unless they are told not to.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        return context

    def memory(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal *number*; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def level_of(line: str) -> tuple[str | None, bool]:
    """The level of a line of the log, in either format, and whether it has a traceback with it.

    The level of what is no log event is None.
    """
    if found := re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+) ", line):
        return found[1], "Traceback" in line
    try:
        event = json.loads(line)
    except ValueError:
        return None, False
    if not isinstance(event, dict) or not {"time", "level", "message"} <= event.keys():
        return None, False
    return event["level"], "failure" in event


@contextmanager
def running(
    directory: Path,
    config: str,
    *arguments: str,
    command: Sequence[str] = (),
    module: str = "suite",
    pass_fds: Sequence[int] = (),
    asked_for: Sequence[str] = (),
) -> Iterator[RunningSuite]:
    """A `RunningSuite` that must end well, without `RunningSuite.complaints`."""
    suite = RunningSuite(directory, config, *arguments, command=command, module=module, pass_fds=pass_fds)
    suite.asked_for.extend(asked_for)
    try:
        yield suite
    finally:
        code = suite.stop()
    assert code == 0
    assert not suite.complaints(), "\n".join(["the suite has logged:", *suite.complaints()])


def running_on(reactor: str, directory: Path, config: str) -> AbstractContextManager[RunningSuite]:
    """`running` on one of `REACTORS`, or `ON_RING`."""
    if reactor == ON_RING:
        return running(directory, config, module="tests.on_ring")
    return running(directory, config, "--reactor", reactor)


def check_stderr(stderr: str | bytes, says: str = "") -> None:
    """Fail unless all of *stderr* matches *says*; a traceback always fails."""
    text = stderr if isinstance(stderr, str) else stderr.decode(errors="replace")
    assert "Traceback" not in text, text
    assert re.fullmatch(says, text, re.DOTALL), f"on standard error: {text!r}; expected {says!r}"


def run_suite(directory: Path, *arguments: str, says: str = "") -> subprocess.CompletedProcess[str]:
    """``python -m suite`` with *arguments*, to its end.

    :param says: what it must leave on standard error, as a pattern for all of it.
    """
    pipe = subprocess.PIPE
    with ForkedSuite(*arguments, cwd=directory, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()
            raise
    check_stderr(errors, says)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


class StartedSuite(ForkedSuite):
    """``python -m suite`` while it runs, with its standard output in a pipe.

    :param stderr: an open file for its standard error.
    """

    def __init__(self, directory: Path, *arguments: str, stderr: IO[bytes], **options: Any) -> None:
        self._stderr = stderr
        super().__init__(*arguments, cwd=directory, stdout=subprocess.PIPE, stderr=stderr, **options)

    @property
    def said(self) -> str:
        """What is on its standard error by now."""
        return os.pread(self._stderr.fileno(), 2**24, 0).decode()


@contextmanager
def started(directory: Path, *arguments: str, says: str = "", **options: Any) -> Iterator[StartedSuite]:
    """A `StartedSuite`, killed at the end if it has not ended by itself.

    :param says: what it must leave on standard error, as a pattern for all of it.
    :param options: of `subprocess.Popen`.
    """
    with tempfile.TemporaryFile() as stderr:
        with StartedSuite(directory, *arguments, stderr=stderr, **options) as process:
            try:
                yield process
            finally:
                process.kill()
        check_stderr(process.said, says)


def read_to_end(receive: Callable[[int], bytes], size: int = 65536) -> bytes:
    """Everything that *receive* gives before its end."""
    chunks = []
    while chunk := receive(size):
        chunks.append(chunk)
    return b"".join(chunks)


def echo(
    sock: socket.socket, data: bytes, end: Callable[[], object], *, read_size: int = 65536, late: bool = False
) -> bytes:
    """Send *data* on a stream, then call *end*; return all that comes back.

    :param late: read nothing before everything is sent, or the peer makes us wait because nothing is read.
    """
    received: list[bytes] = []
    sent = threading.Event()

    def read() -> None:
        if late:
            _wait_for_a_standstill(getattr(sock, "sock", sock), sent)
        received.append(read_to_end(sock.recv, read_size))

    reader = threading.Thread(target=read)
    reader.start()
    sock.sendall(data)
    end()
    sent.set()
    reader.join(PATIENCE)
    assert received, "no end of the echo"
    return received[0]


def _wait_for_a_standstill(sock: socket.socket, sent: threading.Event) -> None:
    """Return once *sent* is set, or *sock* has taken nothing more for several looks."""
    looks = 0
    while looks < 5 and not sent.wait(0.02):
        looks = 0 if select.select([], [sock], [], 0)[1] else looks + 1


class TLSClient:
    """The standard library's TLS on a socket, with every byte of it in the test's hands.

    :ivar end: how the peer has ended its side: ``"close_notify"`` or ``"fin"``.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str = "localhost") -> None:
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._lock = threading.Lock()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self.end = ""
        self._early = b""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if encrypted := sock.recv(65536):
                    self._in.write(encrypted)
                else:
                    self._in.write_eof()
            else:
                self._flush()
                break

    def _flush(self) -> None:
        if data := self._out.read():
            self.sock.sendall(data)

    def sendall(self, data: bytes) -> None:
        """Send *data*."""
        for start in range(0, len(data), 65536):
            with self._lock:
                self.tls.write(data[start : start + 65536])
                encrypted = self._out.read()
            self.sock.sendall(encrypted)

    def recv(self, size: int) -> bytes:
        """Return what there is, *size* bytes at the most; nothing at the end."""
        while True:
            with self._lock:
                if self._early:
                    data, self._early = self._early, b""
                    return data
                try:
                    if data := self.tls.read(size):
                        return data
                    self.end = "close_notify"
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    self.end = "close_notify"
                except ssl.SSLError as error:  # SSLEOFError in some builds of Python
                    if error.reason != "UNEXPECTED_EOF_WHILE_READING":
                        raise
                    self.end = "fin"
                if self.end:
                    return b""
            encrypted = self.sock.recv(size)
            with self._lock:
                if encrypted:
                    self._in.write(encrypted)
                else:
                    self._in.write_eof()

    def close_notify(self) -> None:
        """End our side of the TLS connection."""
        with self._lock:
            # Python's unwrap would look for the peer's close_notify, and refuse data before it.
            with suppress(ssl.SSLWantReadError):
                while data := self.tls.read(65536):  # nothing: the peer has ended its side already
                    self._early += data
            with suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
            encrypted = self._out.read()
        self.sock.sendall(encrypted)

    def fin(self) -> None:
        """End our side of the TCP connection."""
        self.sock.shutdown(socket.SHUT_WR)

    def close_notify_and_fin(self) -> None:
        """End both."""
        self.close_notify()
        self.fin()


def cannot_run(reason: str) -> NoReturn:
    """Skip the test for *reason*; in CI, where everything is there, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def optional_program(name: str) -> str:
    """The path of the program *name*, which CI does not install either; without it the test is skipped."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def client_program(name: str) -> str:
    """The path of a real client; without it the test is skipped, and in CI it fails."""
    return shutil.which(name) or cannot_run(f"{name} is not installed")


def make(directory: Path, *arguments: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run make in *directory*, but not as a part of the make that may be running the tests."""
    return subprocess.run(
        [client_program("make"), "--silent", *arguments],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )


def states_of(port: int) -> dict[str, int]:
    """How many TCP sockets are bound to the local *port*, by state (``/proc/net/tcp``: 08 is CLOSE_WAIT)."""
    states: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if int(local.rpartition(":")[2], 16) == port:
                states[state] = states.get(state, 0) + 1
    return states


def stuck(suite: RunningSuite, stack: ExitStack) -> socket.socket:
    """A client of ``tcp`` that has sent as much as it could, and does not read: it holds up a drain."""
    sock = stack.enter_context(suite.connect("tcp"))
    sock.setblocking(False)
    while select.select([], [sock], [], 1)[1]:
        sock.send(bytes(65536))
    return sock


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Return as soon as *true* is; fail when it has not become so within `PATIENCE`."""
    waiting = threading.Event()
    for _ in range(PATIENCE * 50):
        if true():
            return
        waiting.wait(0.02)
    pytest.fail(f"it never happened that {what}")


def wait_until_it_waits(pid: int, seconds: float) -> None:
    """Return when the process *pid* has done nothing for *seconds*, since somebody lets it wait."""
    status = Path(f"/proc/{pid}/status")

    def waits() -> bool:
        before = status.read_text()
        time.sleep(seconds)
        return status.read_text() == before  # it has not even been scheduled

    wait_until(waits, f"process {pid} waits")


def is_gone(pid: int) -> bool:
    """Whether no process *pid* runs any more; a zombie, which nobody has asked for yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or after
        return True


def listens(path: Path) -> bool:
    """Whether a UNIX stream socket accepts connections; its file is there a moment before it does."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True
