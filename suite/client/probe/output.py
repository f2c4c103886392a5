"""What a probe prints while it runs, and at its end.

Rules: text is for people, a line for every event; JSON is one document at the end, or, for a probe without an
end of its own, JSON Lines: one object for every payload when its outcome is known, then that document.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from suite.client.dial.failures import TargetError
from suite.client.probe.report import Failed, Report, in_ms


class Output(Protocol):
    """Where the events of a probe go."""

    def say(self, line: str) -> None:
        """Something has happened that people want to read about."""

    def back(self, report: Report, sequence: int, what: str, seconds: float) -> None:
        """Probe number *sequence* has succeeded.

        :param what: what has succeeded, for people.
        """

    def failed(self, report: Report, failed: Failed) -> None:
        """A probe has failed."""

    def finished(self, report: Report) -> None:
        """All that will be known of a target is known."""

    def ended(self, reports: Sequence[Report], *, ok: bool, interrupted: bool) -> None:
        """The run has ended."""


class TextOutput:
    """Output for people.

    :param write: called with every line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.say = write

    def back(self, _report: Report, sequence: int, what: str, seconds: float) -> None:
        """`Output.back`."""
        self.say(f"{what}: seq={sequence} time={1000 * seconds:.3f} ms")

    def failed(self, _report: Report, failed: Failed) -> None:
        """`Output.failed`."""
        number = "" if failed.sequence is None else f"seq={failed.sequence}: "
        address, connect = failed.facts.get("address"), failed.facts.get("connect_ms")
        where = "" if address is None else f" ({address}, connected in {connect:.3f} ms)"
        self.say(f"{number}{TargetError(failed.word, failed.detail)}{where}")

    def finished(self, report: Report) -> None:
        """`Output.finished`."""
        for line in report.lines():
            self.say(line)

    def ended(self, _reports: Sequence[Report], *, ok: bool, interrupted: bool) -> None:
        """`Output.ended`: the lines of each target have said it."""


class JSONOutput:
    """Output for programs.

    :param write: called with every line.
    :param each: whether each probe gets a line (JSON Lines).
    """

    def __init__(self, write: Callable[[str], None], *, each: bool) -> None:
        self._write = write
        self._each = each

    def say(self, line: str) -> None:
        """`Output.say`: for people only."""

    def back(self, report: Report, sequence: int, _what: str, seconds: float) -> None:
        """`Output.back`."""
        self._event(report, {"sequence": sequence, "rtt_ms": in_ms(seconds)})

    def failed(self, report: Report, failed: Failed) -> None:
        """`Output.failed`."""
        self._event(report, failed.as_json())

    def _event(self, report: Report, found: dict[str, Any]) -> None:
        if self._each:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._write(json.dumps({"time": now, "target": report.target.text, **found}))

    def finished(self, report: Report) -> None:
        """`Output.finished`."""

    def ended(self, reports: Sequence[Report], *, ok: bool, interrupted: bool) -> None:
        """`Output.ended`."""
        targets = [report.as_json() for report in reports]
        self._write(json.dumps({"ok": ok, "interrupted": interrupted, "targets": targets}))
