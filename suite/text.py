"""How values are shown to people and read from them: paths, addresses, units, one line at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Final

#: Seconds in the units of durations, and bytes in those of sizes.
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

SIZES: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean …?``, or nothing if *word* resembles none of the *known* ones."""
    found = get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean …?``, or the list of the *known* words."""
    return near(word, known) or f"; expected {' or '.join(sorted(known))}"


def shown(path: str | os.PathLike[str]) -> str:
    """*path* as a user would write it: relative to the working directory if that is shorter and a name.

    Where the working directory has been deleted, as it is.
    """
    try:
        absolute = os.path.abspath(path)
        here = os.getcwd() + os.sep
        # Most are below it, and thousands of endpoints may be shown.
        below = absolute.startswith(here)
        relative = absolute[len(here) :] if below else os.path.relpath(absolute)
    except OSError:
        return one_line(os.fspath(path))
    if os.path.basename(relative) == os.pardir:
        return one_line(absolute)
    return one_line(min(relative, absolute, key=len))


def one_line(text: str) -> str:
    """*text* with control characters escaped, so that a message stays one line."""
    if str.isprintable(text):  # as nearly every text is
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unencodable(path: str) -> str:
    """Why *path* cannot be the name of a file here; empty: it can be."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        return (
            f"has characters that names of files cannot have in this locale ({error.encoding}); expected"
            " LC_ALL=C.UTF-8 in the environment"
        )
    return ""


def host_and_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 host in brackets, no host as ``*``."""
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


def is_address(host: str) -> bool:
    """Whether *host* is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
