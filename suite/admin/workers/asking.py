"""Asking all workers at once.

Rules: a worker that dies while it is asked is left out, and so is one that does not answer in time; what it
has counted is not lost (`suite.admin.workers.told`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from suite.server.workers.link import GoneError

if TYPE_CHECKING:
    from suite.server.workers.supervisor import Supervisor

#: Seconds that a worker may take to answer: its part of the interface waits for its turn, too. Prometheus
#: waits for 10 (``scrape_timeout``).
PATIENCE: Final = 5.0


@dataclass
class Answers:
    """What workers have answered.

    :ivar found: the answers, by the workers' numbers.
    :ivar late: the numbers of those that have not answered in time.
    :ivar pids: the processes of those that have answered, by number.
    """

    found: dict[int, Any] = field(default_factory=dict)
    late: list[int] = field(default_factory=list)
    pids: dict[int, int] = field(default_factory=dict)


async def ask(supervisor: Supervisor, what: str, *arguments: object, patience: float = PATIENCE) -> Answers:
    """Ask all workers that serve.

    :raises SuiteError: one of them could not answer.
    """
    asked = [
        (worker.number, worker.pid, worker.ask(what, *arguments).addTimeout(patience, supervisor.reactor))
        for worker in supervisor.workers
        if worker.state == "serving"
    ]
    results = await DeferredList([answer for _, _, answer in asked], consumeErrors=True)
    answers = Answers()
    for (number, pid, _), (succeeded, value) in zip(asked, cast(Any, results), strict=True):
        if succeeded:
            answers.found[number], answers.pids[number] = value, pid
        elif value.check(defer.TimeoutError):
            answers.late.append(number)
        elif not value.check(GoneError):
            cast(Failure, value).raiseException()
    return answers


def settled(supervisor: Supervisor) -> Deferred[Any]:
    """Fires when what workers have been told until now holds there."""
    return Deferred.fromCoroutine(ask(supervisor, "settled"))
