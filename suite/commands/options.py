"""Options that several commands have, and what their values mean.

Rule: next to nothing is imported, because serving has one of them (see `suite.signals`).
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from suite.config.environment import CONFIG, Environment, read_variables
from suite.errors import UsageError
from suite.text import SIZES, UNITS

#: Where `--config` looks, unless `CONFIG` says where.
DEFAULT_CONFIG: Final = Path("config.toml")

#: Seconds of the longest duration on the command line: a day.
LONGEST: Final = 86_400

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|h|d|)")
_SIZE: Final = re.compile(r"([0-9]+)(B|KiB|MiB|GiB|)")


def add_config(parser: argparse.ArgumentParser, default: Any = None) -> None:
    """``--config``, before a command or after it."""
    default = default_config() if default is None else default
    text = f"default: ${CONFIG}, or {DEFAULT_CONFIG}"
    parser.add_argument("--config", metavar="FILE", type=file_path, default=default, help=text)


def file_path(text: str) -> Path:
    """The path *text*; an empty one, such as that of a shell's variable that is not set, is none.

    :raises argparse.ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("'' is empty; expected a path")
    return Path(text)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """``--workers``, of serving and of `check`."""
    parser.add_argument(
        "--workers",
        metavar="N",
        help="how many processes serve, or auto: one a core; default: workers in the configuration, or 1",
    )


def workers_of(options: argparse.Namespace) -> int | None:
    """What ``--workers`` says; None: nothing.

    :raises UsageError: it cannot be used.
    """
    from suite.config.workers import EXPECTED, parse_workers  # noqa: PLC0415  # a slow import

    if options.workers is None:
        return None
    workers = parse_workers(options.workers)
    if workers is None:
        raise UsageError(f"--workers {options.workers!r}: cannot be used; expected {EXPECTED}")
    return workers


def default_config(environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration where no ``--config`` names one."""
    named = environ.get(CONFIG)
    return Path(named) if named else DEFAULT_CONFIG


def environment_of(file: Path, environ: Mapping[str, str] = os.environ) -> Environment:
    """What *environ* declares beside the configuration *file*.

    Only a file that nobody has named may be missing.

    :raises ConfigError: a variable is wrong.
    """
    variables = read_variables(environ)
    return Environment(variables, needs_file=not variables or file is not DEFAULT_CONFIG)


def duration(option: str, text: str, *, zero: bool = False) -> float:
    """*text* in seconds: ``250ms``, ``10s``, ``5m``, or a number of seconds.

    :param zero: whether 0 is accepted.
    :raises UsageError: it is not a duration, or out of range.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UsageError(f"{option} {text!r} is not a duration; expected one such as 250ms, 10s or 5m")
    seconds = float(found[1]) * UNITS[found[2] or "s"]
    if seconds > LONGEST:
        raise UsageError(f"{option} {text!r} is too long; expected 24h at the most")
    if seconds == 0 and not zero:
        raise UsageError(f"{option} {text!r} is too short; expected one such as 250ms, 10s or 5m")
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
