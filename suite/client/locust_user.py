"""A Locust user (locust.io): load from many machines, with Locust's master and workers.

Rules: one connection per user, one message in flight, every byte compared; failures have the same words as in
`probe` and `load`; sockets are the standard library's, which Locust makes cooperative; no reactor runs.

It needs ``pip install 'echo-suite[locust]'`` and a locustfile such as this one; see docs/load.md::

    from suite.client.locust_user import EchoUser

    class Messages(EchoUser):
        size = 4096
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
from contextlib import ExitStack
from typing import Any, Final

from locust import User, events, task
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner
from typing_extensions import override

from suite.client.dial.failures import TargetError, from_errno
from suite.client.dial.target import Target, parse_target
from suite.errors import UsageError

#: Seconds to wait after a failed connection, so that a target that refuses is not hammered.
PAUSE: Final = 1.0

#: Seconds for the last reports of a master's workers. Locust itself gives them half a second.
REPORTING: Final = 10.0

#: Messages between a master and its workers: a request for the last report, and that it has been sent.
_REPORT, _REPORTED = "echo-suite-report", "echo-suite-reported"

#: OpenSSL's verify errors (x509_vfy.h) that have their own word.
_CERTIFICATE_WORDS: Final = {
    9: "cert-not-yet-valid",
    10: "cert-expired",
    62: "cert-name",
    64: "cert-name",
}


class EchoUser(User):
    """Sends messages to the target that ``--host`` names (``tcp:HOST:PORT``, say), one after another.

    A subclass in the locustfile overrides the settings, Locust's ``wait_time`` included.

    :cvar size: the size of a message in bytes.
    :cvar timeout: seconds for a connection, and for an echo.
    :cvar ca: a PEM file with roots to trust in addition to the system's.
    :cvar certificate: a PEM file with the client's certificate; the private key is in it or in *key*.
    :cvar server_name: the name to request and to expect, if it is not the target's host.
    """

    abstract = True

    size = 1024
    timeout = 5.0
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.target: Target = parse_target(self.host or "")
        self._socket: socket.socket | None = None
        self._payload = os.urandom(self.size)
        self._context = self._tls_context() if self.target.transport == "tls" else None

    @classmethod
    def check(cls, host: str) -> None:
        """Check the settings before anything is started.

        :param host: what ``--host`` says.
        :raises UsageError: a setting cannot be used.
        """
        try:
            target = parse_target(host)
        except UsageError as error:
            raise UsageError(f"--host: {error}") from None
        if target.transport != "tls":
            return
        try:
            cls._tls_context()
        except OSError as error:  # ssl.SSLError, too
            files = " or ".join(repr(file) for file in (cls.ca, cls.certificate, cls.key) if file is not None)
            raise UsageError(
                f"{cls.__name__}: {files} cannot be used: {error.strerror or error}; expected PEM files"
            ) from None

    @classmethod
    def _tls_context(cls) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if cls.ca is not None:
            context.load_verify_locations(cls.ca)
        if cls.certificate is not None:
            context.load_cert_chain(cls.certificate, cls.key)
        return context

    @override
    def on_stop(self) -> None:
        """Close the connection, because Locust stops this user."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @task
    def echo(self) -> None:
        """Send one message; report to Locust how long its echo took, or why it failed."""
        if self._socket is None and not self._try_to_connect():
            time.sleep(PAUSE)
            return
        began = time.perf_counter()
        try:
            self._exchange()
        except TargetError as error:
            self.on_stop()
            self._report(f"echo {self.size} B", began, error)
        else:
            self._report(f"echo {self.size} B", began, None)

    def _try_to_connect(self) -> bool:
        began = time.perf_counter()
        try:
            self._socket = self._connect()
        except TargetError as error:
            self._report("connect", began, error)
            return False
        return True

    def _report(self, name: str, began: float, error: TargetError | None) -> None:
        self.environment.events.request.fire(
            request_type=self.target.transport.upper(),
            name=name,
            response_time=(time.perf_counter() - began) * 1000,
            response_length=0 if error else self.size,
            exception=error,
            context={},
        )

    def _connect(self) -> socket.socket:
        """Connect a socket; if that fails, everything opened so far is closed."""
        target = self.target
        with ExitStack() as opened:
            try:
                if target.transport in {"tcp", "tls"}:
                    sock = socket.create_connection((target.host, target.port), self.timeout)
                    opened.enter_context(sock)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if self._context is not None:
                        name = self.server_name or target.host
                        sock = opened.enter_context(self._context.wrap_socket(sock, server_hostname=name))
                else:
                    family, kind, address = self._address()
                    sock = opened.enter_context(socket.socket(family, kind))
                    sock.settimeout(self.timeout)
                    sock.connect(address)
            except OSError as error:
                raise _as_target_error(error) from None
            opened.pop_all()
            return sock

    def _address(self) -> tuple[int, int, Any]:
        """Family, type and address of a UDP or UNIX target."""
        target = self.target
        if target.transport == "unix":
            return socket.AF_UNIX, socket.SOCK_STREAM, target.path
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
        family, kind, _, _, address = found[0]
        return family, kind, address

    def _exchange(self) -> None:
        assert self._socket is not None  # noqa: S101  # for mypy
        try:
            self._socket.sendall(self._payload)
            echo = self._received(self._socket)
        except OSError as error:
            raise _as_target_error(error) from None
        if echo != self._payload:
            pairs = zip(echo, self._payload, strict=False)
            offset = next((n for n, (one, other) in enumerate(pairs) if one != other), len(echo))
            raise TargetError("mismatch", f"at byte {offset}", {"offset": offset})

    def _received(self, sock: socket.socket) -> bytes:
        """The echo of one message."""
        if self.target.transport == "udp":
            try:
                return sock.recv(65536)
            except TimeoutError:
                raise TargetError("lost", "the datagram did not come back in time") from None
        chunks, missing = [], self.size
        while missing:
            chunk = sock.recv(missing)
            if not chunk:
                raise TargetError("closed", f"with {missing} bytes missing")
            chunks.append(chunk)
            missing -= len(chunk)
        return b"".join(chunks)


@events.init.add_listener
def check_settings(environment: Any, **_: Any) -> None:
    """End with one line if what Locust is to start cannot be; workers learn the target from the master.

    On the page of a master that has one, people may still enter it.
    """
    if isinstance(environment.runner, WorkerRunner):
        return
    for user in environment.user_classes:
        host = environment.host or user.host
        if issubclass(user, EchoUser) and (host or environment.web_ui is None):
            try:
                user.check(host or "")
            except UsageError as error:
                raise SystemExit(str(error)) from None


class LastReports:
    """Has a master wait for what its workers have not reported yet when a run ends: it may be a failure.

    They report every three seconds, so that is up to three seconds of a run.

    :param runner: the master's.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._missing: set[str] = set()

    def on_reported(self, msg: Any, **_: Any) -> None:
        """A worker has sent its last report, which has been counted by now."""
        self._missing.discard(msg.node_id)

    def on_test_stop(self, environment: Any, **_: Any) -> None:
        """Ask for the reports, and wait for them; without one of them, the run has failed."""
        self._missing = self._workers()
        self._runner.send_message(_REPORT)
        deadline = time.monotonic() + REPORTING
        while self._missing and time.monotonic() < deadline:
            time.sleep(0.01)
            self._missing &= self._workers()
        if self._missing:
            text = "%d of the workers did not report within %g s what they sent last"
            logging.getLogger(__name__).error(text, len(self._missing), REPORTING)
            environment.process_exit_code = 1

    def on_quitting(self, **_: Any) -> None:
        """End a run that a signal ends, before the exit code is determined."""
        self._runner.stop(send_stop_to_client=False)

    def _workers(self) -> set[str]:
        return {worker.id for worker in self._runner.clients.all if worker.state != STATE_MISSING}


@events.init.add_listener
def collect_last_reports(environment: Any, **_: Any) -> None:
    """Let a master and its workers exchange the last reports of a run."""
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        last = LastReports(runner)
        runner.register_message(_REPORTED, last.on_reported)
        environment.events.test_stop.add_listener(last.on_test_stop)
        environment.events.quitting.add_listener(last.on_quitting)
    elif isinstance(runner, WorkerRunner):
        runner.register_message(_REPORT, _report)


def _report(environment: Any, **_: Any) -> None:
    """End a worker's users, and report what they did."""
    runner = environment.runner
    runner.stop()
    data: dict[str, Any] = {}
    environment.events.report_to_master.fire(client_id=runner.client_id, data=data)
    runner.send_message("stats", data)
    runner.send_message(_REPORTED)


def _as_target_error(error: OSError) -> TargetError:
    """*error* as a `TargetError` with the suite's word for it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        word = _CERTIFICATE_WORDS.get(error.verify_code, "cert-untrusted")
        return TargetError(word, error.verify_message)
    if isinstance(error, ssl.SSLError):
        alert = "ALERT" in (error.reason or "")
        return TargetError("tls-alert" if alert else "tls-error", error.reason or "unknown")
    if isinstance(error, TimeoutError):
        return TargetError("timeout", "no answer in time")
    if isinstance(error, socket.gaierror):
        return TargetError("dns", error.strerror or "unknown")
    return from_errno(error.errno or 0)
