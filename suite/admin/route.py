"""A path of the admin interface, and what answers it: the rooms of the interface have tuples of these."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from suite.admin.events import Events
from suite.admin.exchange import Call, Response
from suite.admin.faults import FaultRequests
from suite.admin.http import AdminFactory
from suite.admin.lag import Lag
from suite.server.service import EchoSuite

#: Answers a request; the result is None if it has been seen to.
Handler = Callable[[Any, Call], Awaitable[Response | None]]


class Site(Protocol):
    """What handlers know of the interface (`suite.admin.site.Site`).

    :ivar suite: the suite that it is about.
    :ivar faults: answers what is asked about faults.
    :ivar events: what has happened.
    :ivar lag: how late the reactor is.
    :ivar observer: reads what metrics say.
    :ivar routes: all routes.
    :ivar factory: its connections.
    """

    suite: EchoSuite
    faults: FaultRequests
    events: Events
    lag: Lag
    observer: Any
    factory: AdminFactory
    routes: Sequence[Route]


@dataclass(frozen=True)
class Route:
    """A path of the interface.

    :ivar method: ``GET``, which is ``HEAD``, too, ``POST``, or ``DELETE``.
    :ivar path: the path; ``{name}`` stands for a part of it.
    :ivar handler: answers, given the `Site` and the `Call`.
    :ivar changes: whether it changes anything, which takes the token or the UNIX socket.
    :ivar is_open: whether anybody may ask for it, by any name: health.
    :ivar is_public: whether clients on other machines may ask for it without the token, too: metrics.
    """

    method: str
    path: str
    handler: Handler
    changes: bool = False
    is_open: bool = False
    is_public: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a path has to match."""
        parts = re.split(r"\{(\w+)\}", self.path)
        text = "".join(
            re.escape(part) if at % 2 == 0 else f"(?P<{part}>[^/]+)" for at, part in enumerate(parts)
        )
        return re.compile(text)
