"""The suite inside a test: in a process of its own, ready when you have it, loud when it is closed too early.

Rules: nothing here imports Twisted, or starts a thread; a `RunningSuite` is ready, or an error says
why it is not; what it has received can be asserted on as soon as an echo of it has come back; when it
is closed, nothing is left of it, and whatever was wrong until then is raised.

With pytest, the fixtures ``echo_suite`` and ``make_echo_suite`` (`suite.pytest_plugin`) are this.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias, cast

from suite.testing.errors import LIMIT, Connection, Counts, CrashError, StartError, StillOpenError
from suite.testing.toml import to_toml

#: For pytest: what goes wrong in here is shown at the line of the test that has called.
__tracebackhide__ = True

#: Where an endpoint listens: host and port, or the path of a UNIX socket (``"\0name"``: an abstract one).
Address: TypeAlias = tuple[str, int] | str

#: What a suite can be made of: nothing (all four transports), TOML text, what such text would say, or
#: the path of a file.
Configuration: TypeAlias = str | Mapping[str, object] | Path | None

FOUR_TRANSPORTS: Final = """\
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:echo.sock"
"""

#: Seconds that connections which are being closed may take to be gone.
PATIENCE: Final = 5.0


#: Seconds between two looks at something that is waited for.
INTERVAL: Final = 0.01

#: Bytes that a temporary directory may have in its path, so that a socket in a directory of ours in it
#: is within the 107 of Linux, and the 103 of the BSDs and macOS.
LONGEST_DIRECTORY: Final = 60


@dataclass(frozen=True)
class _Endpoint:
    name: str
    transport: str
    proxied: bool
    address: Address


class RunningSuite:
    """A suite in a process of its own, from when it is ready until `close`.

    Use it in a ``with`` statement, which closes it. Any thread may use it.

    :param config: what it serves: TOML text, a mapping that says the same, or the path of a file. The
        first two are written to `directory`, and paths in them are relative to it. None: TCP, UDP, TLS
        and UNIX on loopback, each on a port that was free.
    :param patience: seconds that `close` and `check` give connections to end.
    :ivar directory: a temporary one, for the suite's files; it is removed by `close`.
    :ivar addresses: where each endpoint listens, by name, in the order of the configuration.
    :raises StartError: it cannot be started.
    """

    def __init__(self, config: Configuration = None, *, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._lock = threading.Lock()
        self._crash: CrashError | None = None
        self._final_log: str | None = None
        self._resources = ExitStack()
        with ExitStack() as started:
            started.callback(self._release)  # unless all goes well
            directory = tempfile.TemporaryDirectory(prefix="echo-suite-", dir=_short_directory())
            self.directory = Path(self._resources.enter_context(directory))
            file = config.absolute() if isinstance(config, Path) else self._write(config)
            self._certs = file.parent / "certs"
            self._control, theirs = socket.socketpair()
            self._resources.enter_context(self._control).settimeout(LIMIT)
            with theirs, (self.directory / "log").open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603  # it is this Python, and this package
                    # -P: a directory `suite` where the tests run is not this package.
                    [
                        *(sys.executable, "-P", "-m", "suite.testing.server"),
                        *(file, str(theirs.fileno()), self.directory),
                    ],
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is for the tests, which then close us
                )
            self._resources.callback(self._kill)
            try:
                endpoints = [_endpoint(**fields) for fields in self._read()]
            except (OSError, EOFError) as error:
                # Having closed its end it is about to end, and to tell why.
                code = None if isinstance(error, TimeoutError) else self._wait()
                raise StartError(self.log.rstrip("\n"), code) from None
            started.pop_all()
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self.addresses: Mapping[str, Address] = MappingProxyType(
            {endpoint.name: endpoint.address for endpoint in endpoints}
        )

    def _write(self, config: str | Mapping[str, object] | None) -> Path:
        file = self.directory / "config.toml"
        text = FOUR_TRANSPORTS if config is None else config if isinstance(config, str) else to_toml(config)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")  # paths may be undecodable
        return file

    # Where it is.

    def __getitem__(self, endpoint: str) -> Address:
        """Where the endpoint of that name listens."""
        return self._named(endpoint).address

    @property
    def tcp(self) -> tuple[str, int]:
        """Host and port of the first TCP endpoint."""
        return cast(tuple[str, int], self._first("TCP").address)

    @property
    def udp(self) -> tuple[str, int]:
        """Host and port of the first UDP endpoint."""
        return cast(tuple[str, int], self._first("UDP").address)

    @property
    def tls(self) -> tuple[str, int]:
        """Host and port of the first TLS endpoint."""
        return cast(tuple[str, int], self._first("TLS").address)

    @property
    def unix(self) -> str:
        """The path of the first UNIX socket."""
        return cast(str, self._first("UNIX").address)

    def _named(self, name: str) -> _Endpoint:
        try:
            return self._endpoints[name]
        except KeyError:
            raise KeyError(f"no endpoint {name!r}; there is {', '.join(self._endpoints)}") from None

    def _first(self, transport: str) -> _Endpoint:
        for endpoint in self._endpoints.values():
            if endpoint.transport == transport and not endpoint.proxied:
                return endpoint
        raise LookupError(f"no endpoint speaks {transport}; there is {', '.join(self._endpoints)}")

    # Whom to trust, and to be.

    @property
    def ca(self) -> Path:
        """The certificate of the CA that has signed the server's: the suite's development CA."""
        return self._certificate("ca.pem")

    @property
    def client_cert(self) -> tuple[Path, Path]:
        """A client certificate signed by the same CA, and its key."""
        return self._certificate("client.pem"), self._certificate("client.key")

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A new context for clients, which trusts the suite as ``localhost``, ``127.0.0.1`` and ``::1``."""
        return ssl.create_default_context(cafile=self.ca)

    @property
    def client_context(self) -> ssl.SSLContext:
        """A new context for clients, which shows the client certificate as well."""
        context = self.ssl_context
        context.load_cert_chain(*self.client_cert)
        return context

    def _certificate(self, name: str) -> Path:
        path = self._certs / name
        if not path.exists():
            raise LookupError(f"no {path}: the suite has made no certificates, for its endpoints need none")
        return path

    # A client that is ready.

    def connect(self, endpoint: str, *, timeout: float | None = 10) -> socket.socket:
        """A socket connected to the endpoint of that name.

        To a TLS endpoint it is an `ssl.SSLSocket` after its handshake, which has verified
        ``localhost`` and has shown the client certificate if it was asked to. Behind a PROXY header it is
        plain, since nothing comes before the header.

        :param timeout: of every call on the socket, in seconds.
        """
        named = self._named(endpoint)
        if isinstance(named.address, str):
            sock = socket.socket(socket.AF_UNIX)
        else:
            family = socket.AF_INET6 if ":" in named.address[0] else socket.AF_INET
            kind = socket.SOCK_DGRAM if named.transport == "UDP" else socket.SOCK_STREAM
            sock = socket.socket(family, kind)
        try:
            sock.settimeout(timeout)
            sock.connect(named.address)
            if named.transport == "TLS" and not named.proxied:
                return self.client_context.wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise
        return sock

    # What it has seen.

    def connections(self, endpoint: str) -> Counts:
        """How many connections, bytes and datagrams the endpoint of that name has seen."""
        return Counts(*self._ask("counts", self._named(endpoint).name))

    def open_connections(self) -> list[Connection]:
        """The connections of all endpoints that are open, in the order of their opening."""
        return [Connection(*fields) for fields in self._ask("open")]

    def received(self, endpoint: str) -> bytes:
        """What the endpoint of that name has received, in the order of its arrival, whoever has sent it.

        It keeps the last MiB. Whoever has an echo finds here what is echoed; before that, use
        `wait_for`.
        """
        return b64decode(self._ask("received", self._named(endpoint).name))

    def datagrams(self, endpoint: str) -> list[bytes]:
        """The datagrams that the endpoint of that name has received: of the last MiB, the last 10,000."""
        return [b64decode(datagram) for datagram in self._ask("datagrams", self._named(endpoint).name)]

    def wait_for(
        self,
        endpoint: str,
        *,
        opened: int = 0,
        received: int = 0,
        datagrams: int = 0,
        open: int | None = None,  # noqa: A002  # named as in Counts
        timeout: float = 10,
    ) -> Counts:
        """Wait until the endpoint of that name has seen so much.

        :param opened: so many connections accepted, or more.
        :param received: so many bytes received, or more.
        :param datagrams: so many datagrams received, or more.
        :param open: exactly so many connections that have not ended.
        :returns: what it has seen by then.
        :raises TimeoutError: it has not, *timeout* seconds later.
        """
        deadline = time.monotonic() + timeout
        while True:
            late = time.monotonic() >= deadline
            seen = self.connections(endpoint)
            if (
                seen.opened >= opened
                and seen.received >= received
                and seen.datagrams >= datagrams
                and (open is None or seen.open == open)
            ):
                return seen
            if late:
                wanted = Counts(opened, seen.open if open is None else open, received, datagrams)
                raise TimeoutError(f"{endpoint}: after {timeout} s {seen}; expected {wanted}")
            time.sleep(INTERVAL)

    def clear(self) -> None:
        """Forget what has been received and counted so far; open connections stay open, and counted."""
        self._ask("clear")

    @property
    def log(self) -> str:
        """What the suite has written so far: TLS handshakes that have failed, for instance, and why."""
        if self._final_log is not None:
            return self._final_log
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    # Its end.

    def check(self) -> None:
        """Wait until all connections have ended.

        :raises StillOpenError: some have not, `patience` seconds later.
        :raises CrashError: the suite has ended, or has met an error of its own.
        """
        deadline = time.monotonic() + self.patience
        while True:
            late = time.monotonic() >= deadline
            connections = self.open_connections()
            if not connections:
                break
            if late:
                raise StillOpenError(connections)
            time.sleep(INTERVAL)
        self._check_log()

    def close(self) -> None:
        """End the suite, and remove its files; a second time, do nothing.

        :raises StillOpenError: connections were open, `patience` seconds later still.
        :raises CrashError: it has ended by itself, or not when told to, or has met an error of its own.
        :raises ExceptionGroup: both.
        """
        if self._final_log is not None:
            return
        problems: list[Exception] = []
        try:
            self._collect(self.check, problems)
            if problems and self._crash is None:
                self._collect(lambda: self._ask("abort"), problems)  # or their ends would be waited for
            if self._crash is None:
                self._collect(self._terminate, problems)
            if not any(isinstance(problem, CrashError) for problem in problems):
                self._collect(self._check_log, problems)
        finally:
            self._release()
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ExceptionGroup("the suite has not closed well", problems)

    @staticmethod
    def _collect(step: Callable[[], object], problems: list[Exception]) -> None:
        try:
            step()
        except (StillOpenError, CrashError) as problem:
            problems.append(problem)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except (StillOpenError, CrashError, ExceptionGroup) as problem:
            if error is None:
                raise
            problems = problem.exceptions if isinstance(problem, ExceptionGroup) else [problem]
            for each in problems:  # probably because of it
                error.add_note(f"Then, on closing the suite: {each}")

    def _terminate(self) -> None:
        """Have the process end as a user would have it end."""
        self._process.terminate()
        code = self._wait()
        if code is None:
            raise CrashError(f"the suite has not ended within {LIMIT:g} s of SIGTERM", self.log)
        if code != 0:
            raise CrashError(f"the suite has ended with {code}", self.log)

    def _check_log(self) -> None:
        log = self.log
        if "Traceback" in log or '"level": "critical"' in log:
            raise CrashError("the suite has met an error of its own", log)

    def _wait(self) -> int | None:
        """Wait for the process to end; return its exit code, or None if it does not."""
        try:
            return self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            return None

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _release(self) -> None:
        """Keep the log, and let go of everything else."""
        try:
            self._final_log = self.log
        except OSError:  # it has never been there, or somebody has removed it
            self._final_log = ""
        self._resources.close()

    # How it is asked.

    def _ask(self, *question: str) -> Any:
        with self._lock:
            if self._final_log is not None:
                raise RuntimeError("the suite has been closed")
            if self._crash is None:
                try:
                    self._control.sendall(json.dumps(question).encode() + b"\n")
                    return self._read()
                except TimeoutError:
                    self._crash = CrashError(f"the suite has not answered within {LIMIT:g} s", self.log)
                except (OSError, EOFError):
                    code = self._wait()
                    self._crash = CrashError(f"the suite has ended with {code} by itself", self.log)
            raise self._crash

    def _read(self) -> Any:
        """The next line, which is the last that there is."""
        line = b""
        while not line.endswith(b"\n"):
            data = self._control.recv(2**20)
            if not data:
                raise EOFError
            line += data
        return json.loads(line)


class MakeEchoSuite(Protocol):
    """What the fixture ``make_echo_suite`` is: makes a `RunningSuite`, which ends with the test."""

    def __call__(self, config: Configuration = None, *, patience: float = PATIENCE) -> RunningSuite:
        """Start a suite; see `RunningSuite`."""


def _endpoint(name: str, transport: str, proxied: bool, address: Any) -> _Endpoint:
    return _Endpoint(name, transport, proxied, address if isinstance(address, str) else tuple(address))


def _short_directory() -> str:
    """Where temporary files go; if a socket there would have too long a path, where they always can."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST_DIRECTORY else "/tmp"  # noqa: S108  # mkdtemp follows
