"""The text of the configuration file: where it is, and what TOML makes of it.

Rule: next to nothing is imported, because a probe of health needs no more than one table of it.
"""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from suite.errors import ConfigError
from suite.files import read_file
from suite.text import shown


def directory_of(file: Path) -> Path:
    """The directory that *file* is in, without dots on the way; relative if the working directory is gone."""
    with suppress(OSError):
        file = file.absolute()
    return Path(os.path.normpath(file.parent))


def read_document(file: Path) -> dict[str, Any]:
    """What the TOML *file* says.

    :raises ConfigError: it cannot be read, or is not TOML.
    """
    if str(file) == "-":
        raise ConfigError(
            "-",
            None,
            "standard input cannot be the configuration; expected a file, which SIGHUP can read again",
        )
    try:
        text = read_file(file).decode("utf-8-sig")  # editors on Windows begin a file with a byte order mark
    except FileNotFoundError:
        raise ConfigError(
            shown(file),
            None,
            "no such file; expected a configuration; to begin, write one with the lines `[endpoints]` and"
            ' `tcp = "tcp:1234"`, or name another with --config',
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            shown(file), None, "is a directory; expected a configuration file, such as config.toml in it"
        ) from None
    except OSError as error:
        raise ConfigError(shown(file), None, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            shown(file), None, f"byte {error.start} is not UTF-8; expected a TOML file"
        ) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what it does not cover
        raise ConfigError(shown(file), None, f"not TOML: {error}") from None
