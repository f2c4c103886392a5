"""The server's process, as the tests' process sees it.

Rules: what the tests have done to their own process does not reach it: another ``suite`` on ``sys.path``,
``PYTHONWARNINGS``, a frozen clock.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .errors import LIMIT

#: Makes pytest show errors at the calling line of the test.
__tracebackhide__ = True

#: The longest pause between two checks of a condition that is waited for, in seconds; pauses grow to it.
INTERVAL: Final = 0.01


def pauses(seconds: float) -> Iterator[None]:
    """Yield at once, and again after each pause, until the pauses add up to *seconds*.

    They are added up, because a test may have frozen all clocks of its process (freezegun), or replaced
    ``time.sleep``.
    """
    pause, paused = INTERVAL / 16, 0.0
    yield
    while paused < seconds:
        select.select([], [], [], pause)
        paused += pause
        pause = min(2 * pause, INTERVAL)
        yield


class ServerProcess:
    """The process of `suite.testing.server`.

    :param file: the configuration.
    :param directory: where it runs, and has its log.
    :param control: the socket on which it answers questions.
    :ivar popen: the process itself.
    """

    def __init__(self, file: Path, directory: Path, control: socket.socket) -> None:
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)])
        with (directory / "log").open("wb") as log:
            self.popen = subprocess.Popen(  # noqa: S603  # it is this Python, and this package
                [
                    *(sys.executable, "-I", Path(__file__).with_name("launch.py"), path),
                    *(file, str(control.fileno()), directory),
                ],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[control.fileno()],
                start_new_session=True,  # Ctrl-C goes to the tests only, which then close the suite
            )

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.popen.terminate()

    def wait(self) -> int | None:
        """Wait for the process to exit; return its exit code, or None if it does not exit."""
        for _ in pauses(LIMIT):
            code = self.popen.poll()
            if code is not None:
                return code
        return None

    def kill(self) -> None:
        """Make sure that the process has exited."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
