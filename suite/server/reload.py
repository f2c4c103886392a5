"""Reloading: the new configuration takes effect, or nothing changes.

Rules: files and keys are read in a thread, because a large key or a slow disk must stop no echo, and a disk
that hangs must not keep the suite from ending; a request that arrives meanwhile is one more reload, however
many there are; whatever cannot be served is logged in the words of `check`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from suite.errors import StoppingError, SuiteError
from suite.server.pauses import short_intervals
from suite.server.plan import Plan
from suite.server.service import EchoSuite
from suite.server.threads import defer_to_daemon
from suite.server.watch import Watch
from suite.system import Notifier

log = Logger()

#: Seconds between two looks at the days of the gallery's specimens, which last for days and more.
GALLERY_INTERVAL: Final = 60.0


class Reloader:
    """Reloads *suite* when it is asked to, and renews its files when they change.

    :param notifier: is told what is going on.
    """

    def __init__(self, suite: EchoSuite, notifier: Notifier) -> None:
        self._suite = suite
        self._notifier = notifier
        self._busy = False
        #: Who asked for a reload that has not begun yet.
        self._waiting: list[Deferred[str]] = []
        self._watching_gallery = False
        self._watch = Watch(suite.reactor, suite.stamps, self._renew)

    def watch(self) -> None:
        """Look for changes of certificates and of UNIX sockets from now on, until the suite stops."""
        self._watch.start()
        self._watch_gallery()

    def _watch_gallery(self) -> None:
        """Look at the days of specimens from now on, if there are any."""
        if self._suite.plan.gallery is not None and not self._watching_gallery:
            self._watching_gallery = True
            self._suite.reactor.callLater(GALLERY_INTERVAL, self._look_at_gallery)

    def _look_at_gallery(self) -> None:
        self._watching_gallery = False
        gallery = self._suite.plan.gallery
        due = gallery.due if gallery is not None else []
        renewing = self._renew_gallery(len(due)) if due else None
        if renewing is None:
            self._watch_gallery()
            return
        done = Deferred.fromCoroutine(renewing)
        done.addErrback(lambda why: log.failure("specimens not renewed", why))
        done.addBoth(lambda _: self._watch_gallery())

    async def _renew_gallery(self, count: int) -> None:
        """The day of *count* specimens is passing: mint them again."""
        await self._renew(f"gallery: {count} specimens have been minted again")

    def reload(self) -> Deferred[str]:
        """Read the configuration again and serve it.

        :returns: fires with a summary of the changes, or fails with `SuiteError`: nothing has changed.
        """
        done: Deferred[str] = Deferred()
        self._waiting.append(done)
        if not self._busy:
            self._begin()
        return done

    def _begin(self) -> None:
        self._busy = True
        Deferred.fromCoroutine(self._reload()).addErrback(lambda why: log.failure("not reloaded", why))

    async def _reload(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                reloading = Deferred.fromCoroutine(self._reload_once())
                # However it ends, all who wait are told.
                reloading.addBoth(_tell_all, waiting)
                await reloading
        finally:
            self._busy = False

    async def _reload_once(self) -> str:
        """Reload, and say how that went.

        :raises SuiteError: nothing has changed.
        """
        self._notifier.reloading("reading the configuration")
        try:
            if not self._suite.running:
                raise StoppingError
            what = await self._switch(self._suite.plan.read_again)
        except StoppingError as error:
            log.info("not reloaded: {error}", error=str(error))
            raise
        except SuiteError as error:
            self._suite.reloads.failed(str(error))
            for line in str(error).splitlines():
                log.error("not reloaded: {error}", error=line, requested=True)
            self._notifier.ready("reload failed; serving the previous configuration")
            raise
        self._suite.reloads.succeeded()
        log.info("reloaded: {what}", what=what, requested=True)
        self._notifier.ready(f"reloaded: {what}")
        return what

    async def _switch(self, make_plan: Callable[[], Plan]) -> str:
        """Make a plan in a thread, and switch to it.

        :raises SuiteError: it cannot be served; nothing has changed.
        """

        def make_and_load() -> Plan:
            plan = make_plan()
            self._suite.load(plan)
            return plan

        with short_intervals():
            plan = await defer_to_daemon(self._suite.reactor, make_and_load)
        self._suite.check_change(plan)
        what = await self._suite.reload(plan)
        self._watch_gallery()
        return what

    async def _renew(self, done: str = "files have changed, and are in use") -> bool:
        """Certificates or sockets have changed: read and open them again, under the present configuration.

        A reload that is asked for meanwhile comes afterwards: otherwise the configuration of now could
        replace its new one. Returns whether that was tried.

        :param done: what to log when that has been done.
        """
        if self._busy or not self._suite.running:
            return False
        self._busy = True
        try:
            await self._switch(self._suite.plan.renewed)
        except StoppingError:
            return False
        except SuiteError as error:
            self._suite.reloads.failed(str(error))
            for line in str(error).splitlines():
                log.error("files have changed, and cannot be used: {error}", error=line)
        else:
            self._suite.reloads.succeeded()
            log.info("{done}", done=done)
        finally:
            self._busy = False
            if self._waiting:
                self._begin()
        return True


def _tell_all(result: str | Failure, waiting: list[Deferred[str]]) -> Failure | None:
    """Fire all who are *waiting* with *result*; a failure that is no `SuiteError` is also the caller's."""
    for done in waiting:
        done.callback(result)  # a failure is for the errbacks
    if isinstance(result, Failure) and not result.check(SuiteError):
        return result
    return None
