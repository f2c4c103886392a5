"""The control socket: a UNIX socket on which a running suite is asked what it does, and told to do otherwise.

Rules: there is none unless the configuration says so (``control = "unix:…"``); the mode of its file decides
who may speak to it, and who may can do anything that is in `Control.requests`; it is opened with the
endpoints, with the privileges of the start, and answers once they do; a reload moves it with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from typing_extensions import override

from suite.admin.conversation import Conversation, RefusedRequestError
from suite.admin.faults import FaultRequests
from suite.endpoints.sockets import ListeningSocket
from suite.engine.listeners import with_listeners
from suite.server.plan import Plan
from suite.server.service import EchoSuite
from suite.text import one_line, suggest

#: The most clients at a time; more than people and their scripts need.
MOST_CLIENTS: Final = 16


class Control(Factory):
    """The control socket of *suite*; see `suite.server.operations.Companion`.

    :param faults: answers what is asked about faults.
    :param settled: see `Conversation`.
    :ivar requests: what each request (``do``) is answered by, and the keys that it may have.
    """

    noisy = False
    name: ClassVar[str] = "control"

    def __init__(
        self,
        suite: EchoSuite,
        faults: FaultRequests,
        settled: Callable[[], Deferred[Any]] | None = None,
    ) -> None:
        self._suite = suite
        self._settled = settled
        self._open: dict[Conversation, None] = {}
        self._sockets: list[ListeningSocket] = []
        self._ports: list[Any] = []
        self.requests: Mapping[str, tuple[Callable[[Mapping[str, Any]], Mapping[str, Any]], tuple[str, ...]]]
        self.requests = faults.requests("the control socket")

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The keys and values of the answer to *request*.

        :raises RefusedRequestError: it cannot be followed; nothing has changed.
        """
        what = request.get("do")
        if what is None:
            raise RefusedRequestError(f"do: missing; expected {' or '.join(sorted(self.requests))}")
        if not isinstance(what, str) or what not in self.requests:
            raise RefusedRequestError(f"do: {what!r} is not a request{suggest(str(what), self.requests)}")
        follow, known = self.requests[what]
        for key in request:
            if key != "do" and key not in known:
                raise RefusedRequestError(f"{one_line(key)}: unknown key{suggest(key, known)}")
        return follow(request)

    # What the suite asks of its companions.

    def load(self, plan: Plan) -> None:  # it is here already
        """There is nothing to import."""

    def serve(self, sockets: list[ListeningSocket], plan: Plan) -> None:  # noqa: ARG002  # it asks the suite
        """Answer on *sockets* from now on, and on no others; open connections stay."""
        if sockets == self._sockets:
            return
        for port in self._ports:
            port.detach()
        listeners = with_listeners(self._suite.reactor)
        reserve = self._suite.surroundings.reserve
        self._sockets = [*sockets]
        self._ports = [listeners.serve_streams(sock.sock, self, None, reserve) for sock in sockets]

    def drain(self) -> None:
        """Answer no more, but for what has been answered: there is nothing left to change."""
        self.serve([], self._suite.plan)
        for conversation in [*self._open]:
            conversation.close()

    def stop(self) -> None:
        """Nothing is left to be done."""

    # Connections.

    @override
    def buildProtocol(self, addr: IAddress | None) -> Conversation:
        full = len(self._open) >= MOST_CLIENTS
        clock, settled = self._suite.reactor, self._settled
        conversation = Conversation(clock, self.answer, self._ended, full=full, settled=settled)
        if not full:
            self._open[conversation] = None
        return conversation

    def _ended(self, conversation: Conversation) -> None:
        self._open.pop(conversation, None)
