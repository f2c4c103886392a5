"""The running suite: from a configuration to open ports, and back.

Rules: everything that can be wrong in the configuration is found before the first port opens; all
endpoints open or none does; closing removes what opening has made.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.application import reactors
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from typing_extensions import override

from suite import certs, config, endpoints
from suite.echo import EchoDatagram, EchoFactory
from suite.endpoints import Description, Opening
from suite.engine.listeners import with_listeners
from suite.errors import EXIT_OK, ListenError, UsageError
from suite.policy import DatagramPolicy

#: What is sent where a user is told what to try.
HELLO: Final = "echo 'hola mundo...'"


class Plan:
    """A configuration that has been read and checked in full.

    :ivar descriptions: what is to be opened, in the order of the file.
    :ivar minted: the development certificates made on the way, if any were.
    :raises ConfigError: something in it is wrong.
    """

    def __init__(self, file: Path, *, mint: bool) -> None:
        """Read the configuration *file*.

        :param mint: make development certificates when the file names some in ``certs/`` beside it
            that do not exist; otherwise only note in `missing` that serving would.
        """
        self.config = config.load(file)
        self.descriptions = endpoints.parse(self.config)
        self.minted: list[Path] = []
        self.missing: Path | None = None
        self.contexts: list[SSL.Context | None] = []
        directory = self.config.directory / "certs"
        for description in self.descriptions:
            if certs.would_mint(directory, description.credentials()):
                if not mint:
                    self.missing = directory
                    continue
                self.minted = certs.mint(directory)
            self.contexts.append(endpoints.load_context(self.config, description))

    def lines(self) -> list[str]:
        """What serving would do, for people."""
        found = [listening_line(description, description.address) for description in self.descriptions]
        if self.missing is not None:
            found.append(f"serving will make development certificates in {certs.shown(self.missing)}")
        count = len(self.descriptions)
        found.append(f"{certs.shown(self.config.file)}: {count} endpoint{'s' * (count > 1)}, no errors")
        return found


class EchoSuite(Service):
    """The suite as a Twisted service.

    :param reactor: what everything runs on.
    :param plan: what to open.
    :param announce: is given every line that a user should see.
    :ivar opening: fires when every endpoint is open; fails with `ListenError` when one cannot be, and
        what was opened before it is closed again.
    """

    def __init__(self, reactor: Any, plan: Plan, announce: Callable[[str], None]) -> None:
        self.reactor = reactor
        self.plan = plan
        self.announce = announce
        self.ports: list[IListeningPort] = []
        self.factory = EchoFactory()
        self.opening: Deferred[None] = Deferred()

    @override
    def startService(self) -> None:
        """Open every endpoint; see `opening`."""
        super().startService()
        Deferred.fromCoroutine(self._open()).chainDeferred(self.opening)

    def make_factory(self, description: Description) -> IProtocolFactory:  # noqa: ARG002  # for who overrides it
        """What answers on the streams of an endpoint."""
        return self.factory

    def make_datagrams(
        self,
        description: Description,  # noqa: ARG002  # for who overrides it
        policy: DatagramPolicy,
    ) -> DatagramProtocol:
        """What answers on an endpoint for datagrams."""
        return EchoDatagram(policy)

    async def _open(self) -> None:
        reactor = with_listeners(self.reactor)
        datagrams = DatagramPolicy()
        lines = []
        try:
            for description, context in zip(self.plan.descriptions, self.plan.contexts, strict=True):
                make_directory(description)
                factory = self.make_factory(description)
                make_datagrams = partial(self.make_datagrams, description)
                opening = Opening(reactor, description, context, factory, datagrams, make_datagrams)
                port = await opening.listen()
                self.ports.append(port)
                lines.append((description, port))
                if not self.running:  # it has been stopped while a slow one opened
                    await self.stopService()
                    return
        except BaseException:
            await self.stopService()
            raise
        if self.plan.minted:
            self.announce(minted_line(self.plan.minted))
        for description, port in lines:
            self.announce(listening_line(description, bound_address(description, port)))
        self.announce(ready_line(lines))

    @override
    def stopService(self) -> Deferred[None]:
        """Close every endpoint; fires when all are closed."""
        super().stopService()
        ports, self.ports = self.ports, []
        closing = gatherResults([maybeDeferred(port.stopListening) for port in ports])
        return closing.addCallback(lambda _: None)


def install_reactor(name: str | None) -> Any:
    """Install the reactor called *name* and return it.

    None is the engine on Linux, and Twisted's default elsewhere.

    :raises UsageError: there is none of that name, or it does not work here.
    """
    if name is None and sys.platform == "linux":
        name = "echo-engine"
    if name is not None:
        try:
            if name == "echo-engine":  # also where the package, and its plugin with it, is not installed
                from suite.engine import reactor as engine  # noqa: PLC0415  # there is no epoll elsewhere

                engine.install()
            else:
                reactors.installReactor(name)
        except reactors.NoSuchReactor:
            known = [kind.shortName for kind in reactors.getReactorTypes()]
            raise UsageError(f"--reactor {name!r}: no such reactor{config.suggest(name, known)}") from None
        except Exception as error:  # noqa: BLE001  # an ImportError, an OSError: whatever it stumbles on
            raise UsageError(f"--reactor {name!r}: does not work here: {error}") from None
    from twisted.internet import reactor  # noqa: PLC0415  # importing it installs one

    return reactor


def run(
    reactor: Any,
    plan: Plan,
    announce: Callable[[str], None],
    make_suite: Callable[[Any, Plan, Callable[[str], None]], EchoSuite] = EchoSuite,
) -> int:
    """Serve *plan* on *reactor* until a signal ends it; return the exit code.

    :param make_suite: makes the service.
    :raises ListenError: an endpoint cannot be opened; nothing is left open.
    """
    start_logging()
    suite = make_suite(reactor, plan, announce)
    failures: list[Failure] = []

    def start() -> None:
        suite.startService()
        suite.opening.addErrback(stop)

    def stop(failure: Failure) -> None:
        failures.append(failure)
        reactor.stop()

    reactor.callWhenRunning(start)
    reactor.addSystemEventTrigger("before", "shutdown", suite.stopService)
    # Started in the background by a shell without job control, we inherit a SIGINT that is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reactor.run()
    for failure in failures:
        failure.raiseException()
    return EXIT_OK


def start_logging() -> None:
    """Log to standard error: what the suite has to say, and warnings from everyone else."""
    levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    levels.setLogLevelForNamespace("suite", LogLevel.info)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [levels])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def make_directory(description: Description) -> None:
    """Make the directory of a UNIX socket, if it is only that which is missing.

    :raises ListenError: it cannot be made.
    """
    if description.kind != "unix" or description.arguments["address"].startswith("\0"):
        return
    directory = os.path.dirname(description.arguments["address"])
    try:
        if directory and not os.path.isdir(directory):
            os.mkdir(directory)
    except OSError as error:
        raise ListenError(
            description.endpoint.name, description.address, f"{certs.shown(directory)}: {error.strerror}"
        ) from error


def bound_address(description: Description, port: IListeningPort) -> str:
    """Where *port* really listens."""
    host = port.getHost()
    if isinstance(host, (IPv4Address, IPv6Address)):
        return endpoints.host_and_port(host.host, host.port)
    if isinstance(host, UNIXAddress) and host.name:
        return endpoints.shown_socket(os.fsdecode(host.name))
    return description.address


def listening_line(description: Description, address: str) -> str:
    """One endpoint, for people: its name, what it speaks, and where."""
    behind = " (behind a PROXY header)" if description.proxied else ""
    return f"{description.endpoint.name:<12} {description.transport:<5} {address}{behind}"


def minted_line(written: Iterable[Path]) -> str:
    """That development certificates have been made, and which."""
    return "made development certificates: " + " ".join(certs.shown(path) for path in written)


def ready_line(ports: Sequence[tuple[Description, IListeningPort]]) -> str:
    """That everything is open, with a command that shows it."""
    for transport in ("TCP", "UNIX", "TLS", "UDP"):
        for description, port in ports:
            if description.transport == transport and not description.proxied:
                return f"ready; try: {try_command(description, port)}"
    return "ready"


def try_command(description: Description, port: IListeningPort) -> str:
    """A client's command line that reaches *port*."""
    host = port.getHost()
    if isinstance(host, UNIXAddress):
        address = bound_address(description, port)
        if address.startswith("@"):
            return f"{HELLO} | socat - ABSTRACT-CONNECT:{shlex.quote(address[1:])}"
        return f"{HELLO} | nc -NU {shlex.quote(address)}"
    inet = cast(IPv4Address | IPv6Address, host)
    reachable = endpoints.EVERY_HOST.get(inet.host, inet.host)
    if description.transport == "TLS":
        certificate = description.arguments.get("certKey") or description.arguments["path"]
        ca = Path(certificate).with_name("ca.pem")
        trust = f" -CAfile {shlex.quote(certs.shown(ca))}" if ca.exists() else ""
        target = endpoints.host_and_port(reachable, inet.port)
        # s_client leaves at the end of its input, with no eye for what is still on its way.
        if description.endpoint.tls.client_ca is not None:
            client = ca.with_name("client.pem"), ca.with_name("client.key")
            trust += (
                f" -cert {shlex.quote(certs.shown(client[0]))} -key {shlex.quote(certs.shown(client[1]))}"
            )
        return f"({HELLO}; sleep 1) | openssl s_client -quiet -no_ign_eof -connect {target}{trust}"
    return f"{HELLO} | nc {'-u -W 1' if description.transport == 'UDP' else '-N'} {reachable} {inet.port}"
