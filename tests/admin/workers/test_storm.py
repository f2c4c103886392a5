"""Workers are killed again and again while others read, change and scrape."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.admin.api.asking_api import API
from tests.admin.asking_http import ask
from tests.admin.metrics.scraping import Scrape
from tests.admin.workers.test_workers import CONFIG, REPLACED, WORKERS, echo, fallen, kill
from tests.running import RunningSuite, running, wait_until


class Storm:
    """Clients that ask and echo until `end`.

    :ivar problems: what should not have been.
    """

    def __init__(self, suite: RunningSuite) -> None:
        self.suite = suite
        self.api = API(suite)
        self.problems: list[str] = []
        self._before: Scrape | None = None
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(work,))
            for work in (self._read, self._change, self._scrape, self._echo, self._echo)
        ]
        self.api("GET", "openapi.json")  # what answers are held to
        for thread in self._threads:
            thread.start()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._ended.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001  # the test says what it was
                self.problems.append(repr(error))
                return

    def _read(self) -> None:
        for path in ("status", "endpoints", "endpoints/tcp", "connections", "faults", "events/recent"):
            self.api("GET", path)

    def _change(self) -> None:
        self.api("POST", "endpoints/udp/faults", {"faults": ["delay=1ms"]})
        self.api("POST", "endpoints/unix/pause")
        self.api("POST", "endpoints/unix/resume")
        self.api("DELETE", "faults")

    def _scrape(self) -> None:
        before, self._before = self._before, Scrape(ask(self.api.tcp, "/metrics").text)
        if before is not None and (found := fallen(before, self._before)):
            self.problems.append(f"less than before: {found}")

    def _echo(self) -> None:
        with suppress(OSError, AssertionError):  # its worker has been killed
            echo(self.suite)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.stress)])
def test_nobody_who_asks_notices_that_workers_are_killed(tmp_path: Path, kills: int) -> None:
    with running(tmp_path, CONFIG, asked_for=[REPLACED]) as suite:
        storm = Storm(suite)
        try:
            for number in range(kills):
                kill(storm.api, storm.api("GET", "status")["workers"][number % WORKERS])
        finally:
            storm.end()
        assert storm.problems == []
        wait_until(lambda: ask(storm.api.tcp, "/readyz").status == 200, "it is ready")
        workers = storm.api("GET", "status")["workers"]
        assert sum(worker["restarts"] for worker in workers) == kills
