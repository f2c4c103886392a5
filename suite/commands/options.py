"""Options that several commands have, and what their values mean."""

from __future__ import annotations

import argparse
import re
import socket
from pathlib import Path
from typing import Any, Final

from suite.client.dial.dialer import ConnectOptions
from suite.client.dial.tls import TLSOptions, check_options
from suite.errors import UsageError
from suite.text import SIZES, UNITS

#: Where `--config` looks.
DEFAULT_CONFIG: Final = Path("config.toml")

TARGET_HELP: Final = "tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:PATH"

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|)")
_SIZE: Final = re.compile(r"([0-9]+)(B|KiB|MiB|)")


def add_config(parser: argparse.ArgumentParser, default: Any = DEFAULT_CONFIG) -> None:
    """``--config``, before a command or after it."""
    parser.add_argument("--config", metavar="FILE", type=Path, default=default, help="default: config.toml")


def add_reach(parser: argparse.ArgumentParser) -> None:
    """The options that say how to reach a target."""
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    family.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    parser.add_argument(
        "--timeout", metavar="TIME", default="5s", help="time limit for each step; default: 5s"
    )
    parser.add_argument(
        "--ca",
        metavar="FILE",
        type=Path,
        help="trust these roots as well (for targets on this machine, certs/ca.pem is found by itself)",
    )
    parser.add_argument("--cert", metavar="FILE", type=Path, help="present this client certificate")
    parser.add_argument("--key", metavar="FILE", type=Path, help="its private key")
    parser.add_argument(
        "--server-name", metavar="NAME", help="ask for this name, and expect it in the certificate"
    )
    parser.add_argument("--alpn", metavar="NAMES", help="offer these protocols, such as h2,http/1.1")


def duration(option: str, text: str, *, zero: bool = False) -> float:
    """*text* in seconds: ``250ms``, ``10s``, ``5m``, or a number of seconds.

    :param zero: whether 0 is accepted.
    :raises UsageError: it is not a duration.
    """
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * UNITS[found[2] or "s"] if found else -1.0
    if not (0 <= seconds <= 86400) or (seconds == 0 and not zero):
        raise UsageError(f"{option} {text!r} is not a duration; expected one such as 250ms, 10s or 5m")
    return seconds


def size(option: str, text: str, largest: int) -> int:
    """*text* in bytes: ``64``, ``64KiB``, ``1MiB``.

    :raises UsageError: it is not a size, or above *largest*.
    """
    found = _SIZE.fullmatch(text)
    if found is None or len(text) > 20:
        raise UsageError(f"{option} {text!r} is not a size; expected one such as 64, 64KiB or 1MiB")
    value = int(found[1]) * SIZES[found[2] or "B"]
    if value > largest:
        raise UsageError(f"{option} {text!r} is out of range; expected at most {largest}")
    return value


def number(option: str, text: str, largest: int, *, least: int = 0) -> int:
    """The whole number that *text* is, *least* to *largest*.

    :raises UsageError: it is not a number, or out of range.
    """
    if not re.fullmatch("-?[0-9]+", text):
        raise UsageError(f"{option} {text!r} is not a number; expected {least} to {largest}")
    if len(text) > 10 or not least <= int(text) <= largest:
        raise UsageError(f"{option} {text!r} is out of range; expected {least} to {largest}")
    return int(text)


def parse_reach(options: argparse.Namespace) -> ConnectOptions:
    """What the options of `add_reach` mean.

    :raises UsageError: one of them has a value that cannot be used.
    """
    tls = TLSOptions(
        ca=options.ca,
        certificate=options.cert,
        key=options.key,
        server_name=options.server_name,
        alpn=tuple(options.alpn.split(",")) if options.alpn else (),
        directories=(options.config.absolute().parent, Path.cwd()),
    )
    check_options(tls)
    family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(options.family, socket.AF_UNSPEC)
    return ConnectOptions(family, duration("--timeout", options.timeout), tls)
