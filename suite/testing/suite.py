"""The suite for tests: runs in its own process, is ready once constructed, reports problems when closed.

Rules: nothing here imports Twisted or starts a thread; imports of the neighbours are relative, because
pytest's plugin also loads this package where another one is called ``suite``; constructing a `RunningSuite`
succeeds when the suite is ready, and otherwise raises an error that says why; received bytes can be asserted
on as soon as their echo has arrived; closing leaves nothing behind, and raises an error for anything that
went wrong.

With pytest, use the fixtures ``echo_suite`` and ``make_echo_suite`` (`pytest_echo_suite`).
"""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Final, Protocol, Self, cast

from .configuration import FOUR_TRANSPORTS, Address, Configuration, Fault, Faults, short_directory
from .errors import LIMIT, Connection, Counts, CrashError, FaultRecord, StartError, StillOpenError
from .process import ServerProcess, pauses
from .toml import to_toml

#: Makes pytest show errors at the calling line of the test.
__tracebackhide__ = True

#: Seconds that open connections have to end when a suite is checked or closed.
PATIENCE: Final = 5.0


@dataclass(frozen=True)
class _Endpoint:
    name: str
    transport: str
    proxied: bool
    address: Address


class RunningSuite:
    """A suite in its own process, ready from construction until `close`.

    Use it in a ``with`` statement, which closes it. It may be used from any thread.

    :param config: the configuration: TOML text, a mapping with the same content, or the path of a file. The
        first two are written to `directory`, and their paths are relative to it. None: TCP, UDP, TLS and
        UNIX endpoints on loopback, on free ports.
    :param faults: how endpoints misbehave, by name, beside what *config* says of it. They are in force before
        the suite is ready, so that no connection escapes them.
    :param seed: decides what is left to chance in *faults*: the same seed, the same decisions.
    :param patience: seconds that `close` and `check` wait for connections to end.
    :ivar directory: a temporary directory for the suite's files; `close` removes it.
    :ivar addresses: the address of each endpoint by name, in the order of the configuration.
    :raises StartError: the suite could not be started.
    """

    def __init__(
        self,
        config: Configuration = None,
        *,
        faults: Faults | None = None,
        seed: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.patience = patience
        self._lock = threading.Lock()
        self._crash: CrashError | None = None
        self._final_log: str | None = None
        self._log: BinaryIO | None = None
        self._log_lock = threading.Lock()
        self._resources = ExitStack()
        with ExitStack() as started:
            started.callback(self._release)  # unless everything succeeds
            directory = tempfile.TemporaryDirectory(prefix="echo-suite-", dir=short_directory())
            self.directory = Path(self._resources.enter_context(directory))
            file = config.absolute() if isinstance(config, Path) else self._write(config)
            self._certs = file.parent / "certs"
            self._control, theirs = socket.socketpair()
            self._resources.enter_context(self._control).settimeout(LIMIT)
            with theirs:
                self._process = ServerProcess(file, self.directory, theirs)
            self._resources.callback(self._process.kill)
            # Opened now, and certificates looked for: a test may put another file system in place (pyfakefs).
            self._log = self._resources.enter_context((self.directory / "log").open("rb"))
            try:
                endpoints = [_endpoint(**fields) for fields in self._read()]
            except (OSError, EOFError) as error:
                # It has closed its end, so it is about to exit, and its exit code will tell why.
                code = None if isinstance(error, TimeoutError) else self._process.wait()
                raise StartError(self.log.rstrip("\n"), code) from None
            self._has_certificates = (self._certs / "ca.pem").exists()
            self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
            self._add_first(faults or {}, seed)
            started.pop_all()
        self.addresses: Mapping[str, Address] = MappingProxyType(
            {endpoint.name: endpoint.address for endpoint in endpoints}
        )

    def _write(self, config: str | Mapping[str, object] | None) -> Path:
        if isinstance(config, str) and config.endswith(".toml") and "\n" not in config:
            raise TypeError(f"{config!r} is no TOML; expected Path({config!r}) for a file")
        file = self.directory / "config.toml"
        text = FOUR_TRANSPORTS if config is None else config if isinstance(config, str) else to_toml(config)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")  # paths may not be valid UTF-8
        return file

    def _add_first(self, faults: Faults, seed: int | None) -> None:
        """Put *faults* in force, before anybody knows that the suite runs.

        :raises StartError: one of them is wrong.
        """
        try:
            for endpoint, each in faults.items():
                self.add_faults(endpoint, *([each] if isinstance(each, (str, Mapping)) else each), seed=seed)
        except (KeyError, ValueError) as error:
            raise StartError(str(error.args[0]), 2) from None

    # Addresses.

    def __getitem__(self, endpoint: str) -> Address:
        """The address of the endpoint with this name."""
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
            raise KeyError(f"no endpoint {name!r}; expected {' or '.join(self._endpoints)}") from None

    def _first(self, transport: str) -> _Endpoint:
        for endpoint in self._endpoints.values():
            if endpoint.transport == transport and not endpoint.proxied:
                return endpoint
        raise LookupError(f"no {transport} endpoint; the endpoints are {', '.join(self._endpoints)}")

    # Certificates.

    @property
    def ca(self) -> Path:
        """The certificate of the suite's development CA, which signed the server's."""
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
        """A new context for clients, which also presents the client certificate."""
        context = self.ssl_context
        context.load_cert_chain(*self.client_cert)
        return context

    def _certificate(self, name: str) -> Path:
        path = self._certs / name
        if not self._has_certificates:
            raise LookupError(f"no {path}: the suite made no certificates, because no endpoint needs them")
        return path

    # A connected client.

    def connect(self, endpoint: str, *, timeout: float | None = 10) -> socket.socket:
        """A socket connected to the endpoint with this name.

        For a TLS endpoint, it is an `ssl.SSLSocket` whose handshake is complete: it has verified
        ``localhost``, and has presented the client certificate if requested. For an endpoint behind a PROXY
        header, it is a plain socket, because the header must come first.

        :param timeout: the timeout of every call on the socket, in seconds.
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

    # Observations.

    def connections(self, endpoint: str) -> Counts:
        """The counts of the endpoint with this name."""
        return Counts(*self._ask("counts", self._named(endpoint).name))

    def open_connections(self) -> list[Connection]:
        """The open connections of all endpoints, in the order in which they were accepted."""
        return [Connection(*fields) for fields in self._ask("open")]

    def received(self, endpoint: str) -> bytes:
        """The bytes that the endpoint with this name has received from all clients, in order of arrival.

        Only the last MiB is kept. Bytes whose echo has arrived are included; for others, use `wait_for`.
        """
        return b64decode(self._ask("received", self._named(endpoint).name))

    def datagrams(self, endpoint: str) -> list[bytes]:
        """The datagrams that the endpoint with this name has received: the last 10,000, at most 1 MiB."""
        return [b64decode(datagram) for datagram in self._ask("datagrams", self._named(endpoint).name)]

    def faults(self, endpoint: str) -> list[FaultRecord]:
        """What happened to each connection of the endpoint with this name, in the order of their numbers.

        Of an endpoint for datagrams: what happened to each that a fault has struck. The last 10,000 are kept,
        until `clear`. A connection that this process has
        just seen end may still be open at the other side.
        """
        return [FaultRecord(*fields) for fields in self._ask("faults", self._named(endpoint).name)]

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
        """Wait until the counts of the endpoint with this name reach the given values.

        :param opened: at least this many connections accepted.
        :param received: at least this many bytes received.
        :param datagrams: at least this many datagrams received.
        :param open: exactly this many open connections.
        :returns: the counts at that time.
        :raises TimeoutError: they are not reached within *timeout* seconds.
        """
        for _ in pauses(timeout):
            seen = self.connections(endpoint)
            if (
                seen.opened >= opened
                and seen.received >= received
                and seen.datagrams >= datagrams
                and (open is None or seen.open == open)
            ):
                return seen
        wanted = Counts(opened, seen.open if open is None else open, received, datagrams)
        raise TimeoutError(f"{endpoint}: after {timeout} s {seen}; expected {wanted}")

    def clear(self) -> None:
        """Reset all counts and received bytes; open connections stay open, and are still counted as open."""
        self._ask("clear")

    # Faults.

    def add_faults(self, endpoint: str, *faults: Fault, seed: int | None = None) -> None:
        """Add *faults* to those of the endpoint with this name, all at once.

        They are in force for connections that are accepted from now on.

        :param seed: the new seed of this endpoint; None: it stays.
        :raises ValueError: one of them is wrong, and none has been added.
        """
        request: dict[str, object] = {"do": "add", "endpoint": self._named(endpoint).name}
        request["faults"] = [dict(each) if isinstance(each, Mapping) else each for each in faults]
        self._request(request if seed is None else {**request, "seed": seed})

    def clear_faults(self, endpoint: str | None = None) -> None:
        """Remove all faults of the endpoint with this name, or of all; connections keep what they have."""
        where = {} if endpoint is None else {"endpoint": self._named(endpoint).name}
        self._request({"do": "clear", **where})

    def _request(self, request: Mapping[str, object]) -> None:
        answer = self._ask("request", request)
        if not answer["ok"]:
            raise ValueError(answer["error"])

    @property
    def log(self) -> str:
        """The suite's log so far, which shows failed TLS handshakes and their reasons, for instance."""
        if self._final_log is not None:
            return self._final_log
        if self._log is None:  # nothing has been started
            return ""
        with self._log_lock:
            self._log.seek(0)
            return self._log.read().decode("utf-8", "replace")

    # Closing.

    def check(self) -> None:
        """Wait until all connections have ended.

        :raises StillOpenError: some are still open after `patience` seconds.
        :raises CrashError: the suite has exited, or has a traceback in its log.
        """
        for _ in pauses(self.patience):
            connections = self.open_connections()
            if not connections:
                break
        else:
            raise StillOpenError(connections)
        self._check_log()

    def close(self) -> None:
        """Stop the suite and remove its files; a second call does nothing.

        :raises StillOpenError: connections were still open after `patience` seconds.
        :raises CrashError: the suite exited by itself, did not exit on SIGTERM, or logged a traceback.
        :raises ExceptionGroup: both.
        """
        if self._final_log is not None:
            return
        problems: list[Exception] = []
        try:
            self._collect(self.check, problems)
            if problems and self._crash is None:
                self._collect(lambda: self._ask("abort"), problems)  # otherwise the drain would wait for them
            if self._crash is None:
                self._collect(self._terminate, problems)
            if not any(isinstance(problem, CrashError) for problem in problems):
                self._collect(self._check_log, problems)
        finally:
            self._release()
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ExceptionGroup("errors on closing the suite", problems)

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
            for each in problems:  # they probably follow from *error*
                error.add_note(f"Also, on closing the suite: {each}")

    def _terminate(self) -> None:
        """Send SIGTERM and wait for the process to exit."""
        self._process.terminate()
        code = self._process.wait()
        if code is None:
            raise CrashError(f"the suite did not exit within {LIMIT:g} s of SIGTERM", self.log)
        if code != 0:
            raise CrashError(f"the suite exited with code {code}", self.log)

    def _check_log(self) -> None:
        log = self.log
        if "Traceback" in log or '"level": "critical"' in log:
            raise CrashError("the suite logged an error of its own", log)

    def _release(self) -> None:
        """Keep the log, and release everything else."""
        self._final_log = self.log
        self._resources.close()

    # The control socket.

    def _ask(self, *question: object) -> Any:
        with self._lock:
            if self._final_log is not None:
                raise RuntimeError("the suite has been closed")
            if self._crash is None:
                try:
                    self._control.sendall(json.dumps(question).encode() + b"\n")
                    return self._read()
                except TimeoutError:
                    self._crash = CrashError(f"the suite did not answer within {LIMIT:g} s", self.log)
                except (OSError, EOFError):
                    code = self._process.wait()
                    self._crash = CrashError(f"the suite exited by itself with code {code}", self.log)
            raise self._crash

    def _read(self) -> Any:
        """The next line; no further bytes follow it, since there is one answer to each question."""
        line = b""
        while not line.endswith(b"\n"):
            data = self._control.recv(2**20)
            if not data:
                raise EOFError
            line += data
        return json.loads(line)


class MakeEchoSuite(Protocol):
    """The type of the fixture ``make_echo_suite``: makes a `RunningSuite` that is closed after the test."""

    def __call__(
        self,
        config: Configuration = None,
        *,
        faults: Faults | None = None,
        seed: int | None = None,
        patience: float = PATIENCE,
    ) -> RunningSuite:
        """Start a suite; see `RunningSuite`."""


def _endpoint(name: str, transport: str, proxied: bool, address: Any) -> _Endpoint:
    return _Endpoint(name, transport, proxied, address if isinstance(address, str) else tuple(address))
