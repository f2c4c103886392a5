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


@pytest.mark.timeout(900)
def test_what_passes_on_twisteds_epoll_reactor_passes_on_ours() -> None:
    """Tests that fail on the engine (some need what sandboxes lack) must fail on Twisted's reactor, too."""
    ours = run("engine")
    assert len(ours["passed"]) > 750, "most of them can run anywhere"
    if ours["failed"]:
        theirs = run("stock", *ours["failed"])
        only_ours = set(ours["failed"]) - set(theirs["failed"])
        assert not only_ours, "\n".join(ours["why"][name] for name in only_ours)
