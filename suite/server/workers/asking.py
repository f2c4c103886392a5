"""Asking all workers at once, and not for ever.

Rules: a worker that dies while it is asked is left out; one that does not answer in time is named, and is not
asked again before it has said that it is alive, so that nobody else waits for it, and nothing piles up. What
it has counted is not lost (`suite.admin.workers.told`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from suite.server.workers.link import GoneError

if TYPE_CHECKING:
    from suite.server.workers.crew import Crew
    from suite.server.workers.member import Worker

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


async def ask(crew: Crew, what: str, *arguments: object, patience: float = PATIENCE) -> Answers:
    """Ask all workers that serve.

    :raises SuiteError: one of them could not answer.
    """
    answers = Answers()
    asked: list[tuple[Worker, int, Deferred[Any]]] = []
    for worker in crew.serving:
        if worker.silent:
            answers.late.append(worker.number)
        else:
            answer = worker.ask(what, *arguments).addTimeout(patience, crew.reactor)
            asked.append((worker, worker.pid, answer))
    results = await DeferredList([answer for _, _, answer in asked], consumeErrors=True)
    for (worker, pid, _), (succeeded, value) in zip(asked, cast(Any, results), strict=True):
        if succeeded:
            answers.found[worker.number], answers.pids[worker.number] = value, pid
        elif value.check(defer.TimeoutError):
            if worker.pid == pid and worker.state == "serving":
                answers.late.append(worker.number)
                worker.doubt()
        elif not value.check(GoneError):
            cast(Failure, value).raiseException()
    answers.late.sort()
    return answers


def settled(crew: Crew) -> Deferred[Any]:
    """Fires when what workers have been told until now holds there."""
    return Deferred.fromCoroutine(ask(crew, "settled"))
