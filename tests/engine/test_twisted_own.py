"""Twisted's own tests of reactors and transports, run on the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers import ROOT


def run(which: str, *names: str) -> dict[str, Any]:
    """The results of Twisted's tests on the reactor named *which*."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.engine.twisted_tests", which, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


#: Twisted's modules, in parts for several processes, and how many tests pass in each at least.
PARTS = {
    "internet": (
        [
            f"twisted.internet.test.test_{name}"
            for name in (
                *("core", "fdset", "tcp", "tls", "udp", "unix", "time", "threads", "endpoints"),
                *("process", "sigchld"),
            )
        ],
        530,
    ),
    "protocols": (["twisted.test.test_tcp", "twisted.test.test_ssl", "twisted.protocols.test.test_tls"], 100),
    "certificates": (["twisted.test.test_sslverify"], 120),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS)
def test_what_passes_on_twisteds_epoll_reactor_passes_on_ours(part: str) -> None:
    """Tests that fail on the engine (some need what sandboxes lack) must fail on Twisted's reactor, too."""
    modules, least = PARTS[part]
    ours = run("engine", *modules)
    assert len(ours["passed"]) >= least, "most of them can run anywhere"
    if ours["failed"]:
        theirs = run("stock", *ours["failed"])
        only_ours = set(ours["failed"]) - set(theirs["failed"])
        assert not only_ours, "\n".join(ours["why"][name] for name in only_ours)
