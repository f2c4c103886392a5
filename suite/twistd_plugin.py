"""``twist echo-suite`` and ``twistd -n echo-suite``: the suite as a Twisted plugin.

Twisted finds `echo_suite` through `suite.dropin`; it refers to this module for `Options` and `makeService`.
`echo_engine` lets any Twisted program run with ``--reactor=echo-engine``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker
from twisted.python import usage
from twisted.python.failure import Failure
from typing_extensions import override

if TYPE_CHECKING:  # `twist` imports this file to list its commands, which should not load the suite
    from suite.server.service import EchoSuite

echo_suite = ServiceMaker(
    "echo suite",
    "suite.twistd_plugin",
    "Echo servers for TCP, UDP, TLS and UNIX sockets, declared in one file.",
    "echo-suite",
)

echo_engine = Reactor(
    "echo-engine", "suite.engine.reactor", "epoll(7), with a lean loop and transports that write at once."
)


class Options(usage.Options):
    """The same ``--config`` and ``--replay`` options as those of ``python -m suite``."""

    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "The configuration file; default: $ECHO_SUITE_CONFIG, or config.toml."],
        ["replay", None, None, "A log whose faults are repeated, whatever the configuration declares."],
    ]

    @override
    def postOptions(self) -> None:
        """Read the configuration; on an error, print one line and exit."""
        from suite.commands.options import default_config, environment_of
        from suite.errors import ConfigError, SuiteError
        from suite.faults.replay import read_log
        from suite.server.plan import Plan
        from suite.text import shown

        file = default_config() if self["config"] is None else Path(self["config"])
        try:
            replay = read_log(self["replay"]) if self["replay"] is not None else None
            environment = environment_of(file)
            self["plan"] = Plan(file, mint=True, replay=replay, environment=environment)
            if self["plan"].workers > 1:
                problem = f"{self['plan'].workers} processes take python -m suite; expected 1 under twist"
                raise ConfigError(shown(file), "workers", problem)
        except SuiteError as error:
            print(error, file=sys.stderr)
            raise SystemExit(error.exit_code) from None


def makeService(options: Options) -> EchoSuite:
    """The service for *options*, on the installed reactor."""
    from signal import SIGINT, SIGTERM

    from twisted.internet import reactor
    from twisted.logger import Logger

    from suite.admin import companions
    from suite.engine.clock import use_monotonic_clock
    from suite.errors import SuiteError
    from suite.server.process import Controls, fit_descriptor_limit
    from suite.server.service import EchoSuite
    from suite.signals import Signals
    from suite.system import Notifier

    use_monotonic_clock(reactor)
    log = Logger(namespace="suite")
    signals = Signals()

    class StartedOrNot(EchoSuite):
        """Opens all endpoints before `startService` returns; Twisted would not notice a later failure."""

        @override
        def startService(self) -> None:
            signals.catch()  # not before `twistd` has had its chance to handle SIGUSR1
            super().startService()
            failures: list[Failure] = []
            self.opened.addErrback(failures.append)
            while not self.opened.called:
                self.reactor.iterate(0.01)
            for failure in failures:
                error = failure.value
                if not isinstance(error, SuiteError):
                    failure.raiseException()
                print(error, file=sys.__stderr__)  # sys.stderr is redirected to the log
                raise SystemExit(error.exit_code)
            # Again, and acted on, once the reactor has installed its own handlers.
            self.reactor.callWhenRunning(self._handle_signals)

        def _handle_signals(self) -> None:
            signals.catch()
            controls = Controls(self.reactor, self, Notifier(), self._stop_reactor)
            controls.watch()
            controls.connect(signals)

        def _stop_reactor(self, number: int) -> None:
            # The reactor's own handlers note the signal, so that `twist` ends by it, as its users expect.
            handlers: dict[int, str] = {SIGINT: "sigInt", SIGTERM: "sigTerm"}
            handler = getattr(self.reactor, handlers.get(number, ""), None)
            if handler is None:
                self.reactor.stop()
            else:
                handler(number, None)

    fit_descriptor_limit(reactor)
    suite = StartedOrNot(reactor, options["plan"], lambda line: log.info("{line}", line=line))
    companions.add(suite)
    return suite
