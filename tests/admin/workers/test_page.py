"""The page of a suite with workers, in a real browser."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.admin.asking_http import ask
from tests.admin.page.browsing import browser_path, browsing
from tests.running import RunningSuite, running, wait_until

pytestmark = pytest.mark.timeout(240)

CONFIG = """
workers = 2
[endpoints]
tcp = "tcp:0"
[admin]
listen = "tcp:0"
"""


def workers(suite: RunningSuite) -> Any:
    return ask(suite.admin[0], "/api/v1/status").json["workers"]


def test_the_page_keeps_up_with_the_workers(tmp_path: Path) -> None:
    browser_path()  # before a suite is started in vain
    with running(tmp_path, CONFIG, asked_for=["another takes its place"]) as suite, browsing() as chromium:
        host, port = suite.admin[0]
        chromium.do("open", url=f"http://{host}:{port}/")
        chromium.wait("#link", "live")
        first, second = workers(suite)
        row = "#workers tbody tr:nth-child({}):has-text('{}')"
        chromium.wait(row.format(1, first["pid"]))
        with ExitStack() as stack:

            def has_some() -> bool:
                client = stack.enter_context(suite.connect("tcp"))
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                return bool(workers(suite)[1]["open"])

            wait_until(has_some, "worker 2 has a connection")
            opened = workers(suite)[1]["open"]
            cell = "document.querySelector('#workers [data-path=\"workers/1/open\"]').textContent"
            chromium.do("wait_for", expression=f"{cell} === '{opened}'")
        os.kill(second["pid"], signal.SIGKILL)
        wait_until(lambda: workers(suite)[1]["restarts"] == 1, "worker 2 is replaced")
        chromium.wait(row.format(2, workers(suite)[1]["pid"]))
        assert chromium.do("axe") == []
        assert not chromium.do("seen")["problems"]
