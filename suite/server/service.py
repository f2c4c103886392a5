"""The running suite: from a configuration to open ports, and back.

Rules: everything that can be wrong in the configuration is found before the first port opens; all
endpoints open or none does, and nobody is served before; a change of configuration is made as a whole or
not at all; closing lets echoes under way finish and removes what opening has made.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.application import reactors
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredLock, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from suite import certs, logs
from suite.config import file as config
from suite.config.limits import host_and_port
from suite.echo import EchoDatagram, EchoFactory, Refused
from suite.endpoints import descriptions as endpoints
from suite.endpoints.descriptions import DIRECT, Description, Opening, collide
from suite.engine.accept import AcceptingPort
from suite.engine.listeners import with_listeners
from suite.errors import EXIT_OK, ConfigError, ListenError, SuiteError, UsageError
from suite.guard.datagrams import DatagramPolicy, OwnPorts
from suite.guard.streams import Guard
from suite.system import Identity, Notifier, UnknownIdentityError, become, identity, raise_descriptor_limit

log = Logger()

#: Signals that end the suite, and all that mean something to it.
ENDING: Final = (signal.SIGINT, signal.SIGTERM)
SIGNALS: Final = (*ENDING, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

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
        self.identity = self._identity()
        directory = self.config.directory / "certs"
        for description in self.descriptions:
            if certs.would_mint(directory, description.credentials()):
                if not mint:
                    self.missing = directory
                    continue
                self.minted = certs.mint(directory)
            self.contexts.append(endpoints.load_context(self.config, description))

    def _identity(self) -> Identity | None:
        """Whom to become once everything is open."""
        user, group = self.config.user, self.config.group
        if user is None and group is None:
            return None
        try:
            return identity(user, group)
        except UnknownIdentityError as error:
            raise ConfigError(certs.shown(self.config.file), error.key, error.problem) from None

    def planned(self) -> Iterator[tuple[Description, SSL.Context | None]]:
        """Everything to be opened, with the OpenSSL contexts of those that have one."""
        return zip(self.descriptions, self.contexts, strict=True)

    def lines(self) -> list[str]:
        """What serving would do, for people."""
        found = [listening_line(description, description.address) for description in self.descriptions]
        if self.missing is not None:
            found.append(f"serving will make development certificates in {certs.shown(self.missing)}")
        count = len(self.descriptions)
        found.append(f"{certs.shown(self.config.file)}: {count} endpoint{'s' * (count > 1)}, no errors")
        return found


class Running:
    """One endpoint of a running suite.

    :ivar description: what it is by now.
    :ivar port: where it listens; None: no longer, or not yet.
    :ivar guard: looks after the connections of a stream endpoint.
    :ivar datagrams: decides for a UDP endpoint.
    """

    def __init__(
        self, reactor: Any, description: Description, context: SSL.Context | None, own_ports: OwnPorts
    ) -> None:
        self.description = description
        self.port: IListeningPort | None = None
        self.guard: Guard | None = None
        self.datagrams: DatagramPolicy | None = None
        self._own_ports = own_ports
        limits = description.endpoint.limits
        if description.transport == "UDP":
            self.datagrams = DatagramPolicy(limits, own_ports, name=description.endpoint.name)
            answer: Any = self.make_datagrams(self.datagrams)
        else:
            self.guard = Guard(
                reactor,
                description.endpoint.name,
                limits,
                handshakes=description.transport == "TLS",
                proxied=description.proxied and description.kind == "ssl",
            )
            answer = self.make_factory(self.guard)
        self._opening = Opening(with_listeners(reactor), description, context, answer, self.guard)

    def make_factory(self, guard: Guard) -> EchoFactory:
        """What answers on a stream endpoint."""
        return EchoFactory(guard, None if self.description.kind in DIRECT else Refused)

    def make_datagrams(self, policy: DatagramPolicy) -> EchoDatagram:
        """What answers on a UDP endpoint."""
        return EchoDatagram(policy)

    async def open(self) -> None:
        """Listen, but take nothing yet; see `start`.

        :raises ListenError: it cannot be opened.
        """
        make_directory(self.description)
        self.port = await self._opening.listen()
        pause(self.port)
        # Should it be opened again, it is there that its clients look for it.
        self._opening.description = self.description.bound_to(getattr(self.port.getHost(), "port", 0))
        if self.datagrams is not None:
            self._own_ports.join(cast(Any, self.port.getHost()).port, self.datagrams)

    def start(self) -> None:
        """Serve."""
        resume(self.port)

    def adopt(self, description: Description, context: SSL.Context | None) -> None:
        """Become *description*, which listens at the same place; connections there are stay."""
        self.description = description
        if self._opening.context_factory is not None and context is not None:
            self._opening.context_factory.context = context
        for judge in (self.guard, self.datagrams):
            if judge is not None:
                judge.limits = description.endpoint.limits

    async def close(self) -> None:
        """No longer listen."""
        port, self.port = self.port, None
        if port is None:
            return
        if self.datagrams is not None:
            self._own_ports.leave(cast(Any, port.getHost()).port, self.datagrams)
        await maybeDeferred(port.stopListening)

    def claims(self) -> tuple[str, str, str] | None:
        """What nobody else can have while it listens."""
        host = self.port.getHost() if self.port is not None else None
        return self.description.claims(getattr(host, "port", 0))

    def drain(self, seconds: float) -> Deferred[None]:
        """Let connections finish; fires when there are none."""
        drained: Deferred[None] = Deferred()
        if self.guard is None:
            drained.callback(None)
        else:
            self.guard.drain(seconds, lambda: drained.callback(None))
        return drained

    def line(self) -> str:
        """Where it listens, for people."""
        return listening_line(
            self.description, bound_address(self.description, cast(IListeningPort, self.port))
        )

    def told(self) -> str:
        """What has happened here, for people; nothing, if nothing has."""
        if self.guard is None:
            refusals = self.datagrams.refusals if self.datagrams is not None else Counter()
            return f"{sum(refusals.values()):,} datagrams not answered{counted(refusals)}" if refusals else ""
        if not self.guard.accepted and not self.guard.ends:
            return ""
        return f"{self.guard.accepted:,} connections, {self.guard.received:,} bytes{counted(self.guard.ends)}"


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
        self.endpoints: dict[str, Running] = {}
        self.leaving: list[Running] = []  # no longer listening, but not without connections yet
        self.opening: Deferred[None] = Deferred()
        self._opening: list[Running] = []
        self._closing: list[Running] = []
        self.own_ports = OwnPorts()
        self._lock = DeferredLock()  # opening, reloading and closing come one after the other

    def make_running(self, description: Description, context: SSL.Context | None) -> Running:
        """One endpoint, not open yet."""
        return Running(self.reactor, description, context, self.own_ports)

    # Beginning.

    @override
    def startService(self) -> None:
        """Open every endpoint; see `opening`."""
        super().startService()
        self._lock.run(Deferred.fromCoroutine, self._open()).chainDeferred(self.opening)

    async def _open(self) -> None:
        endpoints = self._opening = [self.make_running(*planned) for planned in self.plan.planned()]
        try:
            for endpoint in endpoints:
                await endpoint.open()
                if not self.running:  # it has been stopped while a slow one opened
                    await endpoint.close()
                    return
            self._become(self.plan)
        except BaseException:
            super().stopService()
            await self._close_all(endpoints)
            raise
        finally:
            self._opening = []
        self.endpoints = {endpoint.description.endpoint.name: endpoint for endpoint in endpoints}
        if self.plan.minted:
            self.announce(minted_line(self.plan.minted))
        for endpoint in endpoints:
            endpoint.start()
            self.announce(endpoint.line())
        self.announce(ready_line([(e.description, cast(IListeningPort, e.port)) for e in endpoints]))

    @staticmethod
    def _become(plan: Plan) -> None:
        """Give up what was needed to open everything."""
        if plan.identity is not None:
            become(plan.identity)

    @staticmethod
    async def _close_all(endpoints: Iterable[Running]) -> None:
        for endpoint in endpoints:
            await endpoint.close()

    # Changing.

    def reload(self, plan: Plan) -> Deferred[str]:
        """Serve *plan* from now on; all of it or, failing with `ListenError`, none.

        Endpoints that listen where they did keep their connections, under the new limits; those no longer
        there are drained. Fires with what has been done, for people.
        """
        return self._lock.run(Deferred.fromCoroutine, self._reload(plan))

    def check_change(self, plan: Plan) -> None:
        """Whether *plan* is one that can be changed to.

        :raises ConfigError: it asks for what only a new process can be.
        """
        for key in ("user", "group"):
            now, then = getattr(self.plan.config, key), getattr(plan.config, key)
            if now != then:
                raise ConfigError(
                    certs.shown(plan.config.file),
                    key,
                    f"{then!r} takes a restart; expected {now!r} as before",
                )

    async def _reload(self, plan: Plan) -> str:
        old = dict(self.endpoints)
        kept: dict[str, tuple[Description, SSL.Context | None]] = {}
        fresh: list[Running] = []
        for description, context in plan.planned():
            before = old.get(description.endpoint.name)
            if before is not None and before.description.place() == description.place():
                kept[description.endpoint.name] = (description, context)
            else:
                fresh.append(self.make_running(description, context))
        gone = [endpoint for name, endpoint in old.items() if name not in kept]
        # What is in the way of a fresh one has to go first, and comes back if that does not help.
        away = [e for e in gone if any(collide(e.claims(), f.description.claims()) for f in fresh)]
        try:
            await self._close_all(away)
            for endpoint in fresh:
                await endpoint.open()
        except BaseException:
            await self._close_all(fresh)
            for endpoint in away:
                await endpoint.open()
                endpoint.start()
            raise
        changed = sum(old[name].description != description for name, (description, _) in kept.items())
        for name, (description, context) in kept.items():
            old[name].adopt(description, context)
        self.plan = plan
        by_name = {endpoint.description.endpoint.name: endpoint for endpoint in fresh}
        self.endpoints = {
            d.endpoint.name: by_name.get(d.endpoint.name) or old[d.endpoint.name] for d in plan.descriptions
        }
        for endpoint in fresh:
            endpoint.start()
            self.announce(endpoint.line())
        await self._close_all(gone)
        for endpoint in gone:
            self._leave(endpoint)
        swapped = len(by_name.keys() & old.keys())
        return (
            f"{len(fresh) - swapped} added, {len(gone) - swapped} removed, {changed + swapped} changed,"
            f" {len(kept) - changed} as before"
        )

    def _leave(self, endpoint: Running) -> None:
        self.leaving.append(endpoint)
        endpoint.drain(self.plan.config.drain).addCallback(lambda _: self.leaving.remove(endpoint))

    # Ending.

    @override
    def stopService(self) -> Deferred[None]:
        """Stop accepting, let echoes under way finish, and close; fires when all is closed."""
        super().stopService()
        if self._opening:  # there is nobody to wait for, and one that opens might take for ever
            return Deferred.fromCoroutine(self._close_all(self._opening))
        return self._lock.run(Deferred.fromCoroutine, self._stop())

    async def _stop(self) -> None:
        endpoints, self.endpoints = list(self.endpoints.values()), {}
        streams = [endpoint for endpoint in endpoints if endpoint.guard is not None]
        for endpoint in streams:
            accept_what_waits(endpoint.port)
        await self._close_all(streams)
        self._closing = [*streams, *self.leaving]
        seconds = self.plan.config.drain
        await gatherResults([endpoint.drain(seconds) for endpoint in self._closing])
        await self._close_all(endpoints)  # UDP answers until the end
        for endpoint in endpoints:
            told = endpoint.told()
            if told:
                log.debug("{told}", told=told, endpoint=endpoint.description.endpoint.name)

    def force(self) -> None:
        """End every connection now."""
        for endpoint in [*self.endpoints.values(), *self.leaving, *self._closing]:
            if endpoint.guard is not None:
                endpoint.guard.abort()


def pause(port: Any) -> None:
    """Let *port* wait with all that arrives."""
    if hasattr(port, "stopReading"):  # not on Windows' IOCP reactor
        port.stopReading()


def resume(port: Any) -> None:
    """Let *port* take what arrives, from now on."""
    if hasattr(port, "startReading"):
        port.startReading()


def accept_what_waits(port: Any) -> None:
    """Take the connections that the kernel has completed already: closing would reset them."""
    if isinstance(port, AcceptingPort):
        port.accept_all()


def counted(what: Mapping[Any, int]) -> str:
    """Counts, for people, the greatest first."""
    pairs = sorted(what.items(), key=lambda pair: -pair[1])
    return f" ({', '.join(f'{name} {count:,}' for name, count in pairs)})" if pairs else ""


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
    settings: logs.Settings = logs.DEFAULT,
    make_suite: Callable[[Any, Plan, Callable[[str], None]], EchoSuite] = EchoSuite,
) -> int:
    """Serve *plan* on *reactor* until a signal ends it; return the exit code.

    SIGTERM and SIGINT let echoes under way finish, a second one does not; SIGHUP reads the configuration
    again.

    :param make_suite: makes the service.
    :raises SuiteError: an endpoint cannot be opened, or we cannot become whom we should; nothing is left
        open.
    """
    logs.start(reactor, settings)
    if not isinstance(reactor, SelectReactor):  # which could not watch so many
        raise_descriptor_limit()
    suite = make_suite(reactor, plan, announce)
    notifier = Notifier()
    failures: list[Failure] = []
    ending = False

    def start() -> None:
        # Here, where the reactor has set its own handlers: these replace them.
        for number in ENDING:
            signal.signal(number, lambda *_: reactor.callFromThread(end))
        reload_on_hangup(reactor, suite, notifier)
        suite.startService()
        suite.opening.addCallbacks(opened, stop)

    def opened(_: None) -> None:
        notifier.ready(f"serving {len(plan.descriptions)} endpoints")
        if notifier.watchdog_interval is not None:
            LoopingCall(notifier.watchdog).start(notifier.watchdog_interval)

    def stop(failure: Failure) -> None:
        failures.append(failure)
        end()

    def end() -> None:
        nonlocal ending
        if ending:
            suite.force()
            return
        ending = True
        notifier.stopping("letting echoes under way finish")
        reactor.stop()

    reactor.callWhenRunning(start)
    reactor.addSystemEventTrigger("before", "shutdown", suite.stopService)
    reactor.run()
    for (
        number
    ) in SIGNALS:  # one more is no reason not to end with 0: Python would let it kill us on the way out
        signal.signal(number, signal.SIG_IGN)
    notifier.close()
    for failure in failures:
        failure.raiseException()
    return EXIT_OK


def reload_on_hangup(reactor: Any, suite: EchoSuite, notifier: Notifier) -> None:
    """Have SIGHUP read the configuration again, where there is such a signal."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload, suite, notifier))


def reload(suite: EchoSuite, notifier: Notifier) -> None:
    """Read the configuration again and serve it; what is wrong with it is told as `check` tells it."""
    if not suite.running:
        return
    notifier.reloading("reading the configuration")
    try:
        plan = Plan(suite.plan.config.file, mint=True)
        suite.check_change(plan)
    except SuiteError as error:
        log.error("not reloaded: {error}", error=str(error))
        notifier.ready("serving the configuration as it was")
        return

    def done(what: str) -> None:
        log.info("reloaded: {what}", what=what)
        notifier.ready(f"reloaded: {what}")

    def failed(failure: Failure) -> None:
        if failure.check(SuiteError):
            log.error("not reloaded: {error}", error=str(failure.value))
        else:
            log.failure("not reloaded", failure)
        notifier.ready("serving the configuration as it was")

    suite.reload(plan).addCallbacks(done, failed)


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
        return host_and_port(host.host, host.port)
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
        target = host_and_port(reachable, inet.port)
        # s_client leaves at the end of its input, with no eye for what is still on its way.
        if description.endpoint.tls.client_ca is not None:
            client = ca.with_name("client.pem"), ca.with_name("client.key")
            trust += (
                f" -cert {shlex.quote(certs.shown(client[0]))} -key {shlex.quote(certs.shown(client[1]))}"
            )
        return f"({HELLO}; sleep 1) | openssl s_client -quiet -no_ign_eof -connect {target}{trust}"
    return f"{HELLO} | nc {'-u -W 1' if description.transport == 'UDP' else '-N'} {reachable} {inet.port}"
