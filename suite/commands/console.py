"""How commands print."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from suite.errors import SuiteError
from suite.text import one_line


def prepare_output() -> None:
    """Make standard output and standard error fit to be written to.

    Characters that the encoding of standard output lacks are escaped, as on standard error. The descriptors
    of closed ones (``>&-``) lead nowhere from now on; otherwise the next socket would get such a number, and
    with it whatever a library writes there.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):  # no /dev
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


def warn(line: str) -> None:
    """Print *line*, which is not what was asked for, on standard error, if that is possible."""
    complain(one_line(line))


def complain(lines: object) -> None:
    """Print *lines* on standard error, if that is possible; nobody else could be told that it is not."""
    if sys.stderr is None:  # closed; `print` would use standard output
        return
    try:
        print(lines, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def say(line: str) -> None:
    """Print *line* now, also to a pipe; a reader that has gone away is no reason to stop.

    :raises SuiteError: it cannot be written: a full disk, for instance.
    """
    try:
        print(one_line(line), flush=True)
    except OSError as error:
        _silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise SuiteError(f"standard output: {error.strerror}") from None


def _silence(stream: TextIO) -> None:
    """Write nothing more to *stream*, not even when Python flushes it at its end: the exit code would be 120.

    Python's documentation advises this (library/signal.html, "Note on SIGPIPE").
    """
    with suppress(OSError):  # no /dev
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
