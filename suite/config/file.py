"""The configuration file: what it may say, and what it says.

Rules: an unknown key is an error, with the nearest known one; paths are relative to the file; what
`load` returns is complete (defaults filled in) and has only values that can be used. What a `listen`
string means is for `suite.endpoints.descriptions` to say.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, TypeVar

from suite.config.limits import Limits, Network
from suite.config.tls import CLIENT_AUTH, TLS, TLS_VERSIONS
from suite.errors import ConfigError, Mistakes
from suite.files import read_file
from suite.text import SIZES, UNITS, shown, suggest

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d{1,15})(B|KiB|MiB|GiB|TiB)")

#: The shortest duration that can be kept to (see `suite.guard.sweep.SWEEP`).
SHORTEST: Final = 0.25

#: The longest keep-alive, in seconds: 9 h. Linux takes 32,767 s at the most (``MAX_TCP_KEEPIDLE``).
LONGEST_KEEPALIVE: Final = 32_400.0

#: How long echoes under way may take when the suite ends, in seconds (nginx and HAProxy wait for ever,
#: Docker and Kubernetes kill after 10 and 30, counted from the same signal).
DEFAULT_DRAIN: Final = 8.0

_TOML_TYPES: Final = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
}


@dataclass(frozen=True)
class Endpoint:
    """One endpoint as declared.

    :ivar own_tls: what its own ``tls`` table says, by key; None if it has no such table.
    :ivar own_limits: what its own ``limits`` table says, by key.
    :ivar optional: whether the others are served if this one cannot be opened.
    """

    name: str
    listen: str
    tls: TLS
    limits: Limits = field(default_factory=Limits)
    own_tls: frozenset[str] | None = None
    own_limits: frozenset[str] = frozenset()
    optional: bool = False

    def limits_key(self, name: str) -> str:
        """Where in the file the limit *name* of this endpoint stands."""
        return f"endpoints.{self.name}.limits.{name}" if name in self.own_limits else f"limits.{name}"

    def tls_key(self, name: str) -> str:
        """Where in the file the TLS setting *name* of this endpoint stands."""
        own = self.own_tls is not None and name in self.own_tls
        return f"endpoints.{self.name}.tls.{name}" if own else f"tls.{name}"


@dataclass(frozen=True)
class Config:
    """A whole configuration file, read from *file*.

    :ivar drain: seconds that echoes under way may take when the suite ends.
    :ivar user: whom the suite becomes once everything is open; None: nobody else.
    :ivar group: the same for its group; None: the primary group of *user*.
    """

    file: Path
    endpoints: tuple[Endpoint, ...]
    drain: float = DEFAULT_DRAIN
    user: str | None = None
    group: str | None = None

    @cached_property
    def directory(self) -> Path:
        """What relative paths in the file are relative to."""
        return directory_of(self.file)


def directory_of(file: Path) -> Path:
    """The directory that *file* is in, without dots on the way; relative if the working directory is gone."""
    with suppress(OSError):
        file = file.absolute()
    return Path(os.path.normpath(file.parent))


class _Reader:
    """Reads tables of one file, so that an error knows where it is.

    A value that cannot be used is left out, and what is wrong with it is in *mistakes*.
    """

    def __init__(self, file: Path, mistakes: Mistakes) -> None:
        self.file = file
        self.mistakes = mistakes
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
                dotted = _dotted(key, name)
                self.mistakes.note(self.error(dotted, f"unknown key{suggest(name, known)}"))
        return {name: item for name, item in value.items() if name in known}

    def values(
        self, table: Mapping[str, Any], key: str, readers: Mapping[str, Callable[[Any, str], object]]
    ) -> dict[str, Any]:
        """What *table* says, each value read by its reader."""
        read = {}
        for name, value in table.items():
            with self.mistakes.noted():
                read[name] = readers[name](value, f"{key}.{name}")
        return read

    def each(self, items: Iterable[Any], key: str, reader: Callable[[Any, str], T]) -> tuple[T, ...]:
        """The items of an array, each read by *reader*."""
        read = []
        for item in items:
            with self.mistakes.noted():
                read.append(reader(item, key))
        return tuple(read)

    def string(self, value: object, key: str, expected: str) -> str:
        if not isinstance(value, str):
            raise self.wrong_type(key, value, expected)
        if not value:
            raise self.error(key, f"{value!r} cannot be used; expected {expected}")
        return value

    def boolean(self, value: object, key: str) -> bool:
        if not isinstance(value, bool):
            raise self.wrong_type(key, value, "true or false")
        return value

    def path(self, value: object, key: str, expected: str = "the path of a PEM file") -> Path:
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

    def client_auth(self, value: object, key: str) -> str:
        known = " or ".join(f'"{word}"' for word in CLIENT_AUTH)
        word = self.string(value, key, known)
        if word not in CLIENT_AUTH:
            raise self.error(key, f"{word!r} is unknown; expected {known}")
        return word

    def protocols(self, value: object, key: str) -> tuple[str, ...]:
        expected = 'an array of protocol names, such as ["http/1.1"]'
        if not isinstance(value, list):
            raise self.wrong_type(key, value, expected)
        return self.each(value, key, self.protocol)

    def protocol(self, name: object, key: str) -> str:
        if not isinstance(name, str) or not name.isascii() or not 1 <= len(name) <= 255:
            raise self.error(key, f"{name!r} is not a protocol name; expected 1 to 255 ASCII characters")
        return name

    def tls(self, value: object, key: str, defaults: TLS) -> tuple[TLS, frozenset[str]]:
        """The settings that *value* makes of *defaults*, and which of them it names."""
        readers: dict[str, Callable[[Any, str], object]] = {
            "client_ca": self.path,
            "client_auth": self.client_auth,
            "minimum": self.version,
            "maximum": self.version,
            "alpn": self.protocols,
            "chain": self.path,
            "password_file": partial(self.path, expected="the path of a file with a password"),
            "keylog": partial(self.path, expected="the path of a file to append to"),
        }
        read = self.values(self.table(value, key, readers), key, readers)
        named = frozenset(read)
        tls = replace(defaults, **read)
        if TLS_VERSIONS.index(tls.minimum) > TLS_VERSIONS.index(tls.maximum):
            culprit = "minimum" if "minimum" in read else "maximum"
            problem = f'minimum "{tls.minimum}" is above maximum "{tls.maximum}"; expected it not to be'
            self.mistakes.note(self.error(f"{key}.{culprit}", problem))
            tls = replace(tls, minimum=TLS().minimum, maximum=TLS().maximum)
        return tls, named

    # The limits.

    def count(self, value: object, key: str) -> int:
        expected = "a whole number, 1 or more"
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong_type(key, value, expected)
        if not 1 <= value < 2**31:
            raise self.error(key, f"{value} is out of range; expected {expected}")
        return value

    def duration(self, value: object, key: str) -> float:
        expected = 'a duration such as "250ms", "10s" or "5m"'
        text = self.string(value, key, expected)
        found = _DURATION.fullmatch(text)
        if not found:
            raise self.error(key, f"{text!r} is not a duration; expected {expected}")
        seconds = float(found[1]) * UNITS[found[2]]
        if seconds < SHORTEST:
            raise self.error(key, f'{text!r} is too short; expected "250ms" or more')
        return seconds

    def flag(self, value: object, key: str) -> bool:
        if not isinstance(value, bool):
            raise self.wrong_type(key, value, "true or false")
        return value

    def no_duration(self, value: object, key: str) -> float | None:
        return None if value == "none" else self.duration(value, key)

    def keepalive(self, value: object, key: str) -> float | None:
        seconds = self.no_duration(value, key)
        if seconds is not None and not 1 <= seconds <= LONGEST_KEEPALIVE:
            raise self.error(key, f'{value!r} is out of range; expected "1s" to "9h", or "none"')
        return seconds

    def no_count(self, value: object, key: str) -> int | None:
        return None if value == "none" else self.count(value, key)

    def size(self, value: object, key: str) -> int | None:
        expected = 'a size such as "64KiB" or "1GiB"'
        if value == "none":
            return None
        text = self.string(value, key, expected)
        found = _SIZE.fullmatch(text)
        if not found or int(found[1]) == 0:
            raise self.error(key, f"{text!r} is not a size; expected {expected}")
        return int(found[1]) * SIZES[found[2]]

    def networks(self, value: object, key: str) -> tuple[Network, ...]:
        if not isinstance(value, list):
            raise self.wrong_type(key, value, NETWORKS)
        return self.each(value, key, self.network)

    def network(self, text: object, key: str) -> Network:
        if not isinstance(text, str):
            raise self.wrong_type(key, text, NETWORKS)
        try:
            network = ip_network(text)
        except ValueError:
            try:
                meant = ip_network(text, strict=False)
            except ValueError:
                meant = None
            hint = f"; did you mean {meant}?" if meant else "; expected one such as 192.0.2.0/24 or ::1"
            raise self.error(key, f"{text!r} is not a network{hint}") from None
        if network.version == 6 and network.prefixlen >= 96:
            # What is mapped into IPv6 is matched as what it is.
            mapped = network.network_address.ipv4_mapped
            if mapped is not None:
                return ip_network(f"{mapped}/{network.prefixlen - 96}")
        return network

    def names(self, value: object, key: str) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise self.wrong_type(key, value, NAMES)
        return self.each(value, key, self.name)

    def name(self, name: object, key: str) -> str:
        if not isinstance(name, str):
            raise self.wrong_type(key, name, NAMES)
        if not name or not name.isprintable():
            raise self.error(key, f"{name!r} cannot be a name; expected {NAMES}")
        return name

    def limits(self, value: object, key: str, defaults: Limits) -> tuple[Limits, frozenset[str]]:
        """The limits that *value* makes of *defaults*, and which of them it names."""
        readers = {name: partial(reader, self) for name, reader in LIMITS.items()}
        read = self.values(self.table(value, key, readers), key, readers)
        return replace(defaults, **read), frozenset(read)

    def endpoints(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong_type("endpoints", value, "a table of endpoints")
        if not value:
            raise self.error(
                "endpoints", 'is empty; expected one endpoint at least, such as tcp = "tcp:1234"'
            )
        return value

    def endpoint(self, name: str, value: object, tls: TLS, limits: Limits) -> Endpoint | None:
        """One endpoint; None if it does not say where it listens."""
        key = f"endpoints.{name}"
        if not _NAME.fullmatch(name):
            raise self.error(
                "endpoints",
                f"{name!r} cannot name an endpoint; expected 1 to 64 letters, digits, '-' or '_'",
            )
        expected = 'an endpoint description, such as "tcp:1234"'
        if isinstance(value, str):
            return Endpoint(name, self.string(value, key, expected), tls, limits)
        if not isinstance(value, dict):
            raise self.wrong_type(key, value, f"{expected}, or a table with `listen`")
        table = self.table(value, key, ("listen", "limits", "optional", "tls"))
        listen: str | None = None
        own_limits: frozenset[str] = frozenset()
        own_tls: frozenset[str] | None = None
        with self.mistakes.noted():
            if "listen" not in value:
                raise self.error(f"{key}.listen", f"missing; expected {expected}")
            listen = self.string(table["listen"], f"{key}.listen", expected)
        with self.mistakes.noted():
            limits, own_limits = self.limits(table.get("limits", {}), f"{key}.limits", limits)
        with self.mistakes.noted():
            if "tls" in table:
                tls, own_tls = self.tls(table["tls"], f"{key}.tls", tls)
                if "client_auth" in own_tls and tls.client_ca is None:
                    raise self.error(f"{key}.tls.client_auth", NO_CLIENT_CA)
        optional = False
        with self.mistakes.noted():
            optional = self.boolean(table.get("optional", False), f"{key}.optional")
        return None if listen is None else Endpoint(name, listen, tls, limits, own_tls, own_limits, optional)


NETWORKS: Final = 'an array of networks, such as ["192.0.2.0/24", "2001:db8::/32"]'
NO_CLIENT_CA: Final = "nobody is asked for a certificate; expected client_ca, a PEM file of CAs, beside it"
NAMES: Final = 'an array of names, such as ["nobody"]'

#: How each limit is read.
LIMITS: Final[Mapping[str, Callable[[_Reader, object, str], object]]] = {
    "connections": _Reader.count,
    "per_peer": _Reader.count,
    "handshake": _Reader.no_duration,
    "idle": _Reader.no_duration,
    "stall": _Reader.no_duration,
    "half_close": _Reader.no_duration,
    "keepalive": _Reader.keepalive,
    "lifetime": _Reader.no_duration,
    "bytes": _Reader.size,
    "rate": _Reader.no_count,
    "burst": _Reader.count,
    "rate_exempt": _Reader.networks,
    "answer_own_ports": _Reader.flag,
    "allow": _Reader.networks,
    "deny": _Reader.networks,
    "users": _Reader.names,
    "groups": _Reader.names,
    "proxy_from": _Reader.networks,
}


def load(file: Path) -> Config:
    """Read the configuration in the TOML *file*.

    :raises ConfigError: it cannot be read, is not TOML, or says something unknown or unusable.
    :raises MistakesError: it has several such mistakes.
    """
    mistakes = Mistakes()
    config = read(file, mistakes)
    mistakes.raise_any()
    return config


def read(file: Path, mistakes: Mistakes) -> Config:
    """Read the configuration in *file* as far as it can be used; the rest is in *mistakes*.

    :raises ConfigError: nothing in it can be used: it cannot be read, or is not TOML.
    """
    document = _document(file)
    mistakes.in_order(_keys(document))
    reader = _Reader(file, mistakes)
    table = reader.table(document, "", ("drain", "endpoints", "group", "limits", "tls", "user"))
    tls, limits, endpoints = TLS(), Limits(), []
    others: dict[str, Any] = {}
    named: frozenset[str] = frozenset()
    with mistakes.noted():
        tls, named = reader.tls(table.get("tls", {}), "tls", tls)
    with mistakes.noted():
        limits, _ = reader.limits(table.get("limits", {}), "limits", limits)
    with mistakes.noted():
        for name, value in reader.endpoints(table.get("endpoints", {})).items():
            with mistakes.noted(f"endpoints.{name}"):
                endpoints.append(reader.endpoint(name, value, tls, limits))
    if "client_auth" in named and all(each is None or each.tls.client_ca is None for each in endpoints):
        mistakes.note(reader.error("tls.client_auth", NO_CLIENT_CA))
    for key in ("user", "group"):
        with mistakes.noted():
            if key in table:
                others[key] = reader.string(table[key], key, f"the name of a {key}")
    with mistakes.noted():
        if "drain" in table:
            others["drain"] = reader.duration(table["drain"], "drain")
    return Config(file, tuple(endpoint for endpoint in endpoints if endpoint is not None), **others)


def _dotted(key: str, name: str) -> str:
    """*name* behind *key*, quoted where it would not be taken for a bare key."""
    word = name if _NAME.fullmatch(name) else repr(name)
    return f"{key}.{word}" if key else word


def _keys(table: Mapping[str, object], key: str = "", depth: int = 4) -> Iterator[str]:
    """The dotted keys in *table*, in the order of the file; none has more parts than an endpoint's limits."""
    for name, value in table.items():
        yield _dotted(key, name)
        if key == "endpoints" and not _NAME.fullmatch(name):
            yield f"{key}.{name}"
        if isinstance(value, dict) and depth > 1:
            yield from _keys(value, _dotted(key, name), depth - 1)


def _document(file: Path) -> dict[str, Any]:
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
