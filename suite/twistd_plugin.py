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
    """The same ``--config`` option as that of ``python -m suite``."""

    optParameters: ClassVar[list[list[Any]]] = [["config", "c", "config.toml", "The configuration file."]]

    @override
    def postOptions(self) -> None:
        """Read the configuration; on an error, print one line and exit."""
        from suite.errors import SuiteError
        from suite.server.plan import Plan

        try:
            self["plan"] = Plan(Path(self["config"]), mint=True)
        except SuiteError as error:
            print(error, file=sys.stderr)
            raise SystemExit(error.exit_code) from None


def makeService(options: Options) -> EchoSuite:
    """The service for *options*, on the installed reactor."""
    import signal

    from twisted.internet import reactor
    from twisted.logger import Logger

    from suite.errors import SuiteError
    from suite.server.reload import Reloader
    from suite.server.service import EchoSuite
    from suite.system import Notifier

    log = Logger(namespace="suite")

    class StartedOrNot(EchoSuite):
        """Opens all endpoints before `startService` returns; Twisted would not notice a later failure."""

        @override
        def startService(self) -> None:
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
            reloader = Reloader(self, Notifier())
            reloader.watch()
            if hasattr(signal, "SIGHUP"):
                signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(reloader.reload))

    return StartedOrNot(reactor, options["plan"], lambda line: log.info("{line}", line=line))
