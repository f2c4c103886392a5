"""SIGHUP: the configuration is read again and served, or nothing changes."""

from __future__ import annotations

import signal
from typing import Any

from twisted.python.failure import Failure

from suite.errors import SuiteError
from suite.server.plan import Plan
from suite.server.service import EchoSuite, log
from suite.system import Notifier


def reload_on_hangup(reactor: Any, suite: EchoSuite, notifier: Notifier) -> None:
    """Have SIGHUP read the configuration again, where there is such a signal."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload, suite, notifier))


def reload(suite: EchoSuite, notifier: Notifier) -> None:
    """Read the configuration again and serve it; each mistake in it is logged in the words of `check`."""
    if not suite.running:
        return
    notifier.reloading("reading the configuration")
    try:
        plan = Plan(suite.plan.config.file, mint=True)
        suite.check_change(plan)
    except SuiteError as error:
        for line in str(error).splitlines():
            log.error("not reloaded: {error}", error=line)
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
