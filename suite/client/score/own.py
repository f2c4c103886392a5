"""A gallery of our own, in a process of its own, for the time of a score.

Rules: it is ready once the block begins, and gone once that ends, however it ends; its ports are the system's
choice, so that two scores never meet.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import suite
from suite.client.score.manifest import ManifestError
from suite.text import host_and_port

#: Seconds for starting and for ending; no working gallery comes near them.
LIMIT: Final = 60

_INDEX: Final = re.compile(r"gallery-index +TCP +\[?([^\]\s]+)\]?:(\d+)")


@contextmanager
def own_gallery() -> Iterator[str]:
    """Start a gallery on free ports of loopback; the URL of its index.

    :raises ManifestError: it does not start.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # it is this Python, and this package
            [sys.executable, "-m", "suite", "gallery", "--ports", "0"],
            cwd=Path(suite.__file__).parents[1],  # where this package is found, whatever else is called so
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C goes to us only, who then end it
        )
        too_late = threading.Timer(LIMIT, process.kill)
        too_late.start()
        try:
            url = _ready(process.stdout)
            too_late.cancel()
            if url is None:
                process.kill()
                process.wait()
                log.seek(0)
                last = (log.read().decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
                raise ManifestError("gallery", f"it does not start: {last}")
            yield url
        finally:
            too_late.cancel()
            process.terminate()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _ready(lines: IO[str] | None) -> str | None:
    """The URL of the index, once the gallery that prints *lines* is ready; None: it has ended."""
    url = None
    for line in lines or ():
        if found := _INDEX.match(line):
            url = f"http://{host_and_port(found[1], int(found[2]))}"
        if line.startswith("ready"):
            return url
    return None
