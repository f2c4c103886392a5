"""The metrics that only a suite with workers has."""

from __future__ import annotations

from typing import Any, Final

from suite.admin.metrics.family import PREFIX, SuiteFamily, each

#: The states of a worker.
STATES: Final = ("starting", "serving", "silent", "gone")


def _by_state(snapshot: Any) -> dict[str, int]:
    # One that has stopped to speak serves nobody any more, whether or not its process has ended.
    states = [
        "silent" if worker.number in snapshot.late else worker.state.replace("ending", "gone")
        for worker in snapshot.site.suite.workers
    ]
    return {state: states.count(state) for state in STATES}


def _restarts(snapshot: Any) -> dict[str, int]:
    return {str(worker.number): worker.restarts for worker in snapshot.site.suite.workers}


#: What a snapshot of a suite with workers has beside the others.
WORKERS: Final = (
    SuiteFamily(
        f"{PREFIX}workers",
        "gauge",
        "Workers by what they are doing; silent: it does not answer; gone: it is about to be replaced.",
        ("state",),
        lambda snapshot: each(_by_state(snapshot)),
    ),
    SuiteFamily(
        f"{PREFIX}worker_restarts_total",
        "counter",
        "Workers that have died, and been replaced.",
        ("worker",),
        lambda snapshot: each(_restarts(snapshot)),
    ),
)
