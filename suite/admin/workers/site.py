"""What answers on the admin interface of a suite with workers: the supervisor, which asks them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import DeferredLock
from typing_extensions import override

from suite.admin import site
from suite.admin.exchange import Call
from suite.admin.faults import FaultRequests
from suite.admin.health import reasons_against, state_of
from suite.admin.route import Route
from suite.admin.workers import merging
from suite.admin.workers.metrics import WholeSnapshot
from suite.admin.workers.told import Ledger
from suite.server.counts import Counts
from suite.server.pauses import Turns
from suite.server.tally import Key
from suite.server.workers.asking import Answers, ask
from suite.server.workers.supervisor import Supervisor

#: Seconds that a worker may take to say how it is: Kubernetes' probes wait for 1 second (``timeoutSeconds``).
HEALTH_PATIENCE: Final = 0.75


async def reasons(supervisor: Supervisor, turns: Turns) -> list[str]:
    """Why a suite with workers is not ready, one line each; none if it is."""
    own = await reasons_against(supervisor, turns)
    if state_of(supervisor) != "serving":
        return own
    answers = await ask(supervisor.crew, "reasons", patience=HEALTH_PATIENCE)
    return merging.reasons(answers.found, own, answers.late)


class Observer:
    """Observes the suite of *site*, one request at a time; see `suite.admin.metrics.observed.Observer`."""

    def __init__(self, site: Site) -> None:
        self.lock = DeferredLock()
        self._site = site

    async def observe(self, turns: Turns) -> WholeSnapshot:
        """What is known now. While one looks, no other may."""
        site = self._site
        answers = await ask(site.supervisor.crew, "tell")
        ready = not await reasons(site.supervisor, turns)
        site.forget()
        endpoints = await site.ledger.endpoints(answers.found, turns, answers.late)
        return WholeSnapshot(site, endpoints, ready, site.ledger, answers.found, answers.late)


class Site(site.Site):
    """The admin interface of a suite with workers while it is open.

    :ivar supervisor: the suite.
    :ivar ledger: what workers have counted.
    """

    def __init__(
        self, supervisor: Supervisor, faults: FaultRequests, ledger: Ledger, routes: Sequence[Route]
    ) -> None:
        super().__init__(supervisor, faults, routes)
        self.supervisor = supervisor
        self.ledger = ledger
        self.observer: Any = Observer(self)

    @override
    def start(self) -> None:
        self.events.start()  # and no clock: nobody waits for this process

    def forget(self) -> None:
        """Forget what has been counted at endpoints that are no longer there."""
        self.ledger.keep_only(
            {Key(name, each.description.transport) for name, each in self.suite.endpoints.items()}
        )

    async def ask_route(self, call: Call, route: tuple[str, str]) -> Answers:
        """What workers answer to *call*: responses.

        :param route: its method and path.
        """
        return await ask(self.supervisor.crew, "admin", *route, call.parameters, call.query)

    async def past(self, answers: Answers, turns: Turns) -> Mapping[Key, Counts]:
        """What has been counted by workers that are gone, or not among those of *answers*."""
        self.forget()
        return await self.ledger.past_counts(answers.pids, turns)


def documents(answers: Answers) -> dict[int, Any]:
    """The documents in the good responses of *answers*, by the workers' numbers."""
    return {
        number: json.loads(response.body)
        for number, response in answers.found.items()
        if response.status < 300
    }
