"""How commands print."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from suite.errors import SuiteError
from suite.text import one_line


def escape_output() -> None:
    """Have standard output escape characters that its encoding lacks, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def warn(line: str) -> None:
    """Print *line*, which is not what was asked for, on standard error."""
    print(one_line(line), file=sys.stderr)


def say(line: str) -> None:
    """Print *line* now, also to a pipe; a reader that has gone away is no reason to stop.

    :raises SuiteError: it cannot be written: a full disk, for instance.
    """
    try:
        print(one_line(line), flush=True)
    except OSError as error:
        # What Python's documentation advises (library/signal.html, "Note on SIGPIPE"): nothing more is
        # written, not even when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise SuiteError(f"standard output: {error.strerror}") from None


def announce(line: str) -> None:
    """Print *line* if that is possible: a server serves with or without it."""
    with suppress(SuiteError):
        say(line)
