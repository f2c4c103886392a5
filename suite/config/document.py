"""The text of the configuration file: where it is, and what TOML makes of it.

Rule: next to nothing is imported, because a probe of health needs no more than one table of it.
"""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from suite.errors import ConfigError
from suite.files import read_file
from suite.text import shown

#: The byte order marks of UTF-16 (The Unicode Standard, section 23.8).
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")

#: What `tomllib` says of a value that is none.
_VALUE: Final = re.compile(r"^Invalid value \(at line (\d+), column (\d+)\)$")

#: What word processors make of quotation marks.
_TYPOGRAPHIC: Final = tuple("\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u201a")


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
        hint = "; it is UTF-16, as an editor may have saved it" if error.object[:2] in _UTF_16 else ""
        raise ConfigError(
            shown(file), None, f"byte {error.start} is not UTF-8{hint}; expected a TOML file in UTF-8"
        ) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what it does not cover
        raise ConfigError(shown(file), None, f"not TOML: {error}{_hint(text, str(error))}") from None


def _hint(text: str, problem: str) -> str:
    """What is often meant by a value that is not one, as the *problem* has its place in *text*."""
    found = _VALUE.search(problem)
    if found is None:
        return ""
    line = text.split("\n")[int(found[1]) - 1]
    value = line[int(found[2]) - 1 :]
    if value[:1] in _TYPOGRAPHIC:
        return f'; {value[0]} is a typographic quotation mark; expected the plain one, "'
    if re.match(r"[A-Za-z/.]", value):
        return '; expected a string in quotes, such as "tcp:1234"'
    return ""
