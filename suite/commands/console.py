"""How commands print."""

from __future__ import annotations

import os
import sys

from suite.text import one_line


def warn(line: str) -> None:
    """Print *line*, which is not what was asked for, on standard error."""
    print(one_line(line), file=sys.stderr)


def say(line: str) -> None:
    """Print *line* now, also to a pipe; a reader that has gone away is no reason to stop."""
    try:
        print(one_line(line), flush=True)
    except BrokenPipeError:
        # What Python's documentation advises (library/signal.html, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
