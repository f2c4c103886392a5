"""Probes as a user runs them: a process, whose JSON is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from suite.client.dial.failures import WORDS
from tests.running import PATIENCE, run_suite

#: Options for probes that must fail by timing out.
SHORT = ("--timeout", "300ms")
#: Options for probes that must time out after a step that must not.
LONGER = ("--timeout", "2s")
#: Options for probes that must not time out.
PATIENT = ("--timeout", f"{PATIENCE}s")
ONCE = ("--count", "1")


def probe(directory: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of a probe, and its report on each target."""
    result = run_suite(directory, "probe", "--json", "--interval", "0", *arguments)
    assert result.stdout.count("\n") == 1
    document = json.loads(result.stdout)
    assert document["ok"] == (result.returncode == 0)
    return result.returncode, document["targets"]


def probe_one(directory: Path, *arguments: str) -> dict[str, Any]:
    """The report of a probe of one target, whose exit code agrees with it."""
    code, (report,) = probe(directory, *arguments)
    assert code == (0 if report["ok"] else 1)
    return report


def failure_of(directory: Path, *arguments: str) -> dict[str, Any]:
    """The only failure of a probe that is sent once."""
    report = probe_one(directory, *ONCE, *arguments)
    assert (report["ok"], report["sent"], report["received"], report["loss"]) == (False, 1, 0, 1.0)
    (failure,) = report["failures"]
    assert failure["word"] in WORDS
    assert failure["sequence"] == 1
    found: dict[str, Any] = failure
    return found
