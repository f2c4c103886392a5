"""The configuration file: what it may say, and what it says.

Rules: an unknown key is an error, with the nearest known one; paths are relative to the file; what
`load` returns is complete (defaults filled in) and has only values that can be used. What a `listen`
string means is for `suite.endpoints` to say.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from suite.certs import shown
from suite.errors import ConfigError

TLS_VERSIONS: Final = ("1.2", "1.3")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_TOML_TYPES: Final = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
}


@dataclass(frozen=True)
class TLS:
    """What an ``ssl:`` description cannot say.

    :ivar client_ca: PEM file of the CAs whose clients are admitted; None: clients need no certificate.
    :ivar minimum: the oldest version spoken, as in `TLS_VERSIONS`.
    :ivar maximum: the newest.
    :ivar alpn: protocols to choose from, the favourite first (RFC 7301).
    :ivar chain: PEM file of the certificates between the server's own and its root.
    """

    client_ca: Path | None = None
    minimum: str = "1.2"
    maximum: str = "1.3"
    alpn: tuple[str, ...] = ()
    chain: Path | None = None

    def files(self) -> dict[str, Path]:
        """The files it names, by key."""
        named = {"client_ca": self.client_ca, "chain": self.chain}
        return {key: path for key, path in named.items() if path is not None}


@dataclass(frozen=True)
class Endpoint:
    """One endpoint as declared.

    :ivar own_tls: what its own ``tls`` table says, by key; None if it has no such table.
    """

    name: str
    listen: str
    tls: TLS
    own_tls: frozenset[str] | None = None

    def tls_key(self, name: str) -> str:
        """Where in the file the TLS setting *name* of this endpoint stands."""
        own = self.own_tls is not None and name in self.own_tls
        return f"endpoints.{self.name}.tls.{name}" if own else f"tls.{name}"


@dataclass(frozen=True)
class Config:
    """A whole configuration file, read from *file*."""

    file: Path
    endpoints: tuple[Endpoint, ...]

    @property
    def directory(self) -> Path:
        """What relative paths in the file are relative to."""
        return directory_of(self.file)


def directory_of(file: Path) -> Path:
    """The directory that *file* is in, without dots on the way."""
    return Path(os.path.normpath(file.absolute().parent))


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean …?``, or which words are known."""
    known = sorted(known)
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; expected {' or '.join(known)}"


class _Reader:
    """Reads tables of one file, so that an error knows where it is."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.directory = directory_of(file)

    def error(self, key: str, problem: str) -> ConfigError:
        return ConfigError(shown(self.file), key, problem)

    def wrong_type(self, key: str, value: object, expected: str) -> ConfigError:
        what = _TOML_TYPES.get(type(value), "a date or time")
        return self.error(key, f"{value!r} is {what}; expected {expected}")

    def table(self, value: object, key: str, known: Iterable[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong_type(key, value, "a table")
        for name in value:
            if name not in known:
                word = name if _NAME.fullmatch(name) else repr(name)
                dotted = f"{key}.{word}" if key else word
                raise self.error(dotted, f"unknown key{suggest(name, known)}")
        return value

    def string(self, value: object, key: str, expected: str) -> str:
        if not isinstance(value, str):
            raise self.wrong_type(key, value, expected)
        if not value:
            raise self.error(key, f"{value!r} cannot be used; expected {expected}")
        return value

    def path(self, value: object, key: str) -> Path:
        expected = "the path of a PEM file"
        path = self.string(value, key, expected)
        if "\0" in path:
            raise self.error(key, f"{path!r} cannot be used; expected {expected}")
        return self.directory / path

    def version(self, value: object, key: str) -> str:
        known = " or ".join(f'"{version}"' for version in TLS_VERSIONS)
        version = self.string(value, key, f"a TLS version, {known}")
        if version not in TLS_VERSIONS:
            raise self.error(key, f"{version!r} is not a TLS version known here; expected {known}")
        return version

    def protocols(self, value: object, key: str) -> tuple[str, ...]:
        expected = 'an array of protocol names, such as ["http/1.1"]'
        if not isinstance(value, list):
            raise self.wrong_type(key, value, expected)
        for name in value:
            if not isinstance(name, str) or not name.isascii() or not 1 <= len(name) <= 255:
                raise self.error(key, f"{name!r} is not a protocol name; expected 1 to 255 ASCII characters")
        return tuple(value)

    def tls(self, value: object, key: str, defaults: TLS) -> TLS:
        readers = {
            "client_ca": self.path,
            "minimum": self.version,
            "maximum": self.version,
            "alpn": self.protocols,
            "chain": self.path,
        }
        table = self.table(value, key, readers)
        read: Mapping[str, Any] = {n: readers[n](v, f"{key}.{n}") for n, v in table.items()}
        tls = replace(defaults, **read)
        if TLS_VERSIONS.index(tls.minimum) > TLS_VERSIONS.index(tls.maximum):
            culprit = "minimum" if "minimum" in read else "maximum"
            raise self.error(
                f"{key}.{culprit}",
                f'minimum "{tls.minimum}" is above maximum "{tls.maximum}"; expected it not to be',
            )
        return tls

    def endpoint(self, name: str, value: object, defaults: TLS) -> Endpoint:
        key = f"endpoints.{name}"
        if not _NAME.fullmatch(name):
            raise self.error(
                "endpoints",
                f"{name!r} cannot name an endpoint; expected 1 to 64 letters, digits, '-' or '_'",
            )
        expected = 'an endpoint description, such as "tcp:1234"'
        if isinstance(value, str):
            return Endpoint(name, self.string(value, key, expected), defaults)
        if not isinstance(value, dict):
            raise self.wrong_type(key, value, f"{expected}, or a table with `listen`")
        table = self.table(value, key, ("listen", "tls"))
        if "listen" not in table:
            raise self.error(f"{key}.listen", f"missing; expected {expected}")
        listen = self.string(table["listen"], f"{key}.listen", expected)
        if "tls" not in table:
            return Endpoint(name, listen, defaults)
        tls = self.tls(table["tls"], f"{key}.tls", defaults)
        return Endpoint(name, listen, tls, frozenset(table["tls"]))


def load(file: Path) -> Config:
    """Read the configuration in the TOML *file*.

    :raises ConfigError: it cannot be read, is not TOML, or says something unknown or unusable.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            shown(file), None, "no such file; expected a configuration; --config names another"
        ) from None
    except OSError as error:
        raise ConfigError(shown(file), None, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            shown(file), None, f"byte {error.start} is not UTF-8; expected a TOML file"
        ) from None
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what it does not cover
        raise ConfigError(shown(file), None, f"not TOML: {error}") from None
    reader = _Reader(file)
    table = reader.table(document, "", ("endpoints", "tls"))
    defaults = reader.tls(table.get("tls", {}), "tls", TLS())
    endpoints = table.get("endpoints", {})
    if not isinstance(endpoints, dict):
        raise reader.wrong_type("endpoints", endpoints, "a table of endpoints")
    if not endpoints:
        raise reader.error("endpoints", 'is empty; expected one endpoint at least, such as tcp = "tcp:1234"')
    return Config(file, tuple(reader.endpoint(name, value, defaults) for name, value in endpoints.items()))
