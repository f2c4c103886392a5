"""What a running suite has beside its endpoints.

That is what answers questions about it, what can be done with it as a whole, and how its reloads have gone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, Protocol

from twisted.internet.defer import Deferred

from suite.endpoints.sockets import ListeningSocket
from suite.server.plan import Plan


class Companion(Protocol):
    """What answers questions about the suite, beside the endpoints.

    :cvar name: whose sockets of a plan are its own (`Plan.companions`).
    """

    name: ClassVar[str]

    def load(self, plan: Plan) -> None:
        """Import what serving *plan* takes, which may be long: in a thread, while others are served.

        :raises SuiteError: it cannot be imported.
        """

    def serve(self, sockets: list[ListeningSocket], plan: Plan) -> None:
        """Answer on *sockets* from now on, and on no others, as *plan* says; all endpoints are open."""

    def drain(self) -> None:
        """The suite has begun to end: echoes in progress finish."""

    def stop(self) -> None:
        """Answer no more: everything is closed."""


class Operations(Protocol):
    """What can be done with a running suite as a whole."""

    def reload(self) -> Deferred[str]:
        """Read the configuration again and serve it.

        :returns: fires with a summary of the changes, or fails with `SuiteError`: nothing has changed.
        """

    def drain(self) -> None:
        """Let echoes in progress finish, and end, as SIGTERM does."""


@dataclass
class Reloads:
    """How reloads have gone, also those of files that have changed.

    :ivar good: how many took effect.
    :ivar bad: how many did not; the previous configuration is still served.
    :ivar last: when the last one ended, in seconds since the epoch; None: there was none.
    :ivar problem: why the last one had no effect, in one or more lines; empty if it had.
    """

    good: int = 0
    bad: int = 0
    last: float | None = None
    problem: str = ""

    def succeeded(self) -> None:
        """A reload has taken effect."""
        self.good += 1
        self.last, self.problem = time.time(), ""

    def failed(self, problem: str) -> None:
        """A reload has had no effect, because of *problem*."""
        self.bad += 1
        self.last, self.problem = time.time(), problem
