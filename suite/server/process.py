"""The process around a suite: its reactor, its signals and its end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from twisted.application import reactors
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from suite import logs, text
from suite.errors import EXIT_OK, UsageError
from suite.server.plan import Plan
from suite.server.reload import reload_on_hangup
from suite.server.service import EchoSuite
from suite.system import Notifier, raise_descriptor_limit

#: Signals that end the suite, and all that mean something to it.
ENDING: Final = (signal.SIGINT, signal.SIGTERM)


SIGNALS: Final = (*ENDING, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


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
            raise UsageError(f"--reactor {name!r}: no such reactor{text.suggest(name, known)}") from None
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
        suite.opened.addCallbacks(ready, stop)

    def ready(_: None) -> None:
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
