"""The process around a suite: its reactor, signals and exit."""

from __future__ import annotations

import gc
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, cast

from twisted.application import reactors
from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from suite import text
from suite.engine.clock import use_monotonic_clock
from suite.errors import EXIT_OK, UsageError
from suite.logs.log import DEFAULT, Settings
from suite.logs.log import start as start_log
from suite.server.plan import Plan
from suite.server.reload import Reloader
from suite.server.service import EchoSuite
from suite.server.status import log_status
from suite.signals import Action, Signals
from suite.system import SELECTABLE, Notifier, adjust_descriptor_limit

log = Logger()


def install_reactor(name: str | None) -> Any:
    """Install the reactor called *name* and return it.

    None means the engine on Linux, and Twisted's default elsewhere. Its clock is monotonic.

    :raises UsageError: there is no reactor of that name, or it does not work here.
    """
    if name is None and sys.platform == "linux":
        name = "echo-engine"
    if name is not None:
        try:
            if name == "echo-engine":  # works even if the package, and so its plugin, is not installed
                from suite.engine import reactor as engine  # noqa: PLC0415  # needs epoll

                engine.install()
            else:
                reactors.installReactor(name)
        except reactors.NoSuchReactor:
            raise UsageError(
                f"--reactor {name!r}: no such reactor{text.suggest(name, _working_reactors())}"
            ) from None
        except Exception as error:  # noqa: BLE001  # ImportError, OSError, or anything else
            raise UsageError(f"--reactor {name!r}: does not work here: {error}") from None
    from twisted.internet import reactor  # noqa: PLC0415  # importing it installs one

    use_monotonic_clock(reactor)
    return reactor


def _working_reactors() -> list[str]:
    """The reactors whose modules can be imported here; those of other systems and toolkits cannot."""
    working = []
    for kind in reactors.getReactorTypes():
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(cast(reactors.Reactor, kind).moduleName)
            working.append(kind.shortName)
    return working


class Controls:
    """What signals do to a running suite.

    :param stop: stops the reactor; called once, with the number of the signal.
    """

    def __init__(
        self,
        reactor: Any,
        suite: EchoSuite,
        notifier: Notifier,
        stop: Callable[[int], None],
    ) -> None:
        self._reactor = reactor
        self._suite = suite
        self._notifier = notifier
        self._reloader = Reloader(suite, notifier)
        self._stop = stop
        self._stopping = False
        suite.operations = self

    def connect(self, signals: Signals) -> None:
        """Have *signals* acted on, in the reactor's turn."""
        self._signals = signals
        signals.connect(lambda number: self._reactor.callFromThread(self.act, number))

    def watch(self) -> None:
        """Look for changes of certificates and of UNIX sockets from now on, until the suite stops."""
        self._reloader.watch()

    def act(self, number: int) -> None:
        """Do what the signal *number* asks for."""
        action = self._signals.action(number)
        if action is Action.STOP:
            self.stop(number)
        elif action is Action.ABORT:
            self._suite.force()
            if not self._stopping:
                self.stop(number)
        elif action is Action.RELOAD:
            self.reload().addErrback(lambda _: None)  # the log has said why
        elif action is Action.REOPEN:
            self._reopen()
        else:
            # Thousands of endpoints take some turns to open, and before that there is nothing to tell.
            self._suite.opened.addCallback(lambda _: self._log_status())

    def reload(self) -> Deferred[str]:
        """`Operations.reload`."""
        return self._reloader.reload()

    def drain(self) -> None:
        """`Operations.drain`."""
        if not self._stopping:
            self.stop(signal.SIGTERM)

    def stop(self, number: int) -> None:
        """Let echoes in progress finish, and end; the second time, do not let them."""
        if self._stopping:
            self._suite.force()
            return
        self._stopping = True
        self._notifier.stopping("letting echoes in progress finish")
        self._stop(number)

    def _log_status(self) -> None:
        logging = Deferred.fromCoroutine(log_status(self._suite))
        logging.addErrback(lambda why: log.failure("no status", why))

    def _reopen(self) -> None:
        file = self._suite.log.file if self._suite.log is not None else None
        if file is None:
            log.info("there is no log file to open again; see --log-file", requested=True)
            return
        try:
            self._suite.reopen_log()
        except OSError as error:
            log.error(
                "log file not opened again: {path}: {error}; the previous one is still in use",
                path=text.shown(file.path),
                error=error.strerror,
            )


def fit_descriptor_limit(reactor: Any) -> None:
    """Allow as many descriptors as the system does and *reactor* can watch."""
    adjust_descriptor_limit(SELECTABLE if isinstance(reactor, SelectReactor) else None)


def run(
    reactor: Any,
    plan: Plan,
    announce: Callable[[str], None],
    settings: Settings = DEFAULT,
    make_suite: Callable[[Any, Plan, Callable[[str], None]], EchoSuite] = EchoSuite,
    signals: Signals | None = None,
) -> int:
    """Serve *plan* on *reactor* until a signal stops it; return the exit code.

    What each signal does is in docs/running.md.

    :param make_suite: makes the service.
    :param signals: remembers the signals that have arrived already; None: they are caught from now on.
    :raises SuiteError: an endpoint cannot be opened, or the process cannot switch to the configured user;
        everything has been closed again. Or the log file cannot be opened.
    """
    signals = Signals() if signals is None else signals
    signals.catch()
    started_log = start_log(reactor, settings)
    fit_descriptor_limit(reactor)
    suite = make_suite(reactor, plan, announce)
    if not gc.isenabled():  # since `suite.__main__`: what is imported stays, and need not be looked at again
        gc.freeze()
        gc.enable()
    suite.log = started_log
    notifier = Notifier()
    controls = Controls(reactor, suite, notifier, lambda _number: reactor.stop())
    failures: list[Failure] = []

    def start() -> None:
        # Again, because the reactor has installed its own handlers.
        signals.catch()
        stopping = signals.stopping
        controls.connect(signals)
        if not stopping:
            suite.startService()
            suite.opened.addCallbacks(ready, stop)

    def ready(_: None) -> None:
        controls.watch()
        notifier.ready(f"serving {len(plan.descriptions)} endpoints")
        if notifier.watchdog_interval is not None:
            LoopingCall(alive).start(notifier.watchdog_interval)

    def alive() -> None:
        suite.look_after()
        notifier.watchdog()

    def stop(failure: Failure) -> None:
        failures.append(failure)
        controls.stop(signal.SIGTERM)

    reactor.callWhenRunning(start)
    reactor.addSystemEventTrigger("before", "shutdown", suite.stopService)
    reactor.run()
    signals.ignore()
    notifier.close()
    for failure in failures:
        failure.raiseException()
    return EXIT_OK
