"""Reloading on SIGHUP: the new configuration takes effect, or nothing changes."""

from __future__ import annotations

import signal
from typing import Any

from twisted.python.failure import Failure

from suite.errors import SuiteError
from suite.server.plan import Plan
from suite.server.service import EchoSuite, log
from suite.system import Notifier


def reload_on_hangup(reactor: Any, suite: EchoSuite, notifier: Notifier) -> None:
    """Make SIGHUP reload the configuration, on systems that have the signal."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload, suite, notifier))


def reload(suite: EchoSuite, notifier: Notifier) -> None:
    """Read the configuration again and serve it; each mistake in it is logged in the words of `check`."""
    if not suite.running:
        return
    notifier.reloading("reading the configuration")
    try:
        plan = Plan(suite.plan.config.file, mint=True, before=suite.plan)
        suite.check_change(plan)
    except SuiteError as error:
        for line in str(error).splitlines():
            log.error("not reloaded: {error}", error=line)
        notifier.ready("reload failed; serving the previous configuration")
        return

    def done(what: str) -> None:
        log.info("reloaded: {what}", what=what)
        notifier.ready(f"reloaded: {what}")

    def failed(failure: Failure) -> None:
        if failure.check(SuiteError):
            log.error("not reloaded: {error}", error=str(failure.value))
        else:
            log.failure("not reloaded", failure)
        notifier.ready("reload failed; serving the previous configuration")

    suite.reload(plan).addCallbacks(done, failed)
