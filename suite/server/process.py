"""The process around a suite: its reactor, signals and exit."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, cast

from twisted.application import reactors
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from suite import logs, text
from suite.errors import EXIT_OK, UsageError
from suite.server.plan import Plan
from suite.server.reload import Reloader
from suite.server.service import EchoSuite
from suite.system import Notifier, raise_descriptor_limit

#: The signals that stop the suite.
ENDING: Final = (signal.SIGINT, signal.SIGTERM)

#: All signals that the suite handles.
SIGNALS: Final = (*ENDING, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


def install_reactor(name: str | None) -> Any:
    """Install the reactor called *name* and return it.

    None means the engine on Linux, and Twisted's default elsewhere.

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


def run(
    reactor: Any,
    plan: Plan,
    announce: Callable[[str], None],
    settings: logs.Settings = logs.DEFAULT,
    make_suite: Callable[[Any, Plan, Callable[[str], None]], EchoSuite] = EchoSuite,
) -> int:
    """Serve *plan* on *reactor* until a signal stops it; return the exit code.

    The first SIGTERM or SIGINT lets echoes in progress finish, a second one aborts them; SIGHUP reloads the
    configuration.

    :param make_suite: makes the service.
    :raises SuiteError: an endpoint cannot be opened, or the process cannot switch to the configured user;
        everything has been closed again.
    """
    logs.start(reactor, settings)
    if not isinstance(reactor, SelectReactor):  # select(2) cannot watch so many
        raise_descriptor_limit()
    suite = make_suite(reactor, plan, announce)
    notifier = Notifier()
    reloader = Reloader(suite, notifier)
    failures: list[Failure] = []
    ending = False

    def start() -> None:
        # Set here, after the reactor has installed its own handlers, to replace them.
        for number in ENDING:
            signal.signal(number, lambda *_: reactor.callFromThread(end))
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reloader.reload))
        suite.startService()
        suite.opened.addCallbacks(ready, stop)

    def ready(_: None) -> None:
        reloader.watch()
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
        notifier.stopping("letting echoes in progress finish")
        reactor.stop()

    reactor.callWhenRunning(start)
    reactor.addSystemEventTrigger("before", "shutdown", suite.stopService)
    reactor.run()
    # During its exit, Python restores the default actions; a late signal would then change the exit code.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    notifier.close()
    for failure in failures:
        failure.raiseException()
    return EXIT_OK
