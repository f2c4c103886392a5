"""A real browser, Debian's Chromium, which runs in a process of its own with `tests.admin.page.driver`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.running import PATIENCE, cannot_run

_DRIVER: Final = Path(__file__).with_name("driver.py")


class Browsing:
    """What the browser is told, and what it shows; see `tests.admin.page.driver.Driver` for the commands."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.version: str = self._answer()["version"]

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            pytest.fail("the browser has ended")
        return json.loads(line)

    def do(self, command: str, **values: object) -> Any:
        """Have it do *command*; the test fails if that cannot be done."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **values}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            pytest.fail(f"{command} {values}: {answer['error']}")
        return answer["value"]

    def wait(self, selector: str, text: str = "", state: str = "visible") -> str:
        """The text of the element for *selector* that has *text*, once it is there."""
        return str(self.do("wait", selector=selector, text=text, state=state))


def browser_path() -> tuple[Path, str]:
    """The interpreter that has Playwright, and Chromium; where one is missing, the test is skipped."""
    python = Path(sys.prefix) / "browser" / "bin" / "python"
    chromium = shutil.which("chromium")
    if chromium is None:
        cannot_run("chromium is not installed")
    if not python.exists():
        cannot_run("Playwright is not installed; `make .venv/browser/installed` does that")
    return python, chromium


@contextmanager
def browsing() -> Iterator[Browsing]:
    """A browser while the block runs."""
    python, chromium = browser_path()
    pipe = subprocess.PIPE
    process = subprocess.Popen([python, _DRIVER, chromium], stdin=pipe, stdout=pipe, text=True)
    try:
        yield Browsing(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait(PATIENCE)
            process.stdout.close()
