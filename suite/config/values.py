"""The values in a configuration file: each is checked where it is read, and an error knows its key.

Rule: what a method returns can be used, and is complete; paths are relative to the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, TypeVar

from suite.config.limits import Limits, Network
from suite.config.tls import CLIENT_AUTH, TLS, TLS_VERSIONS
from suite.errors import ConfigError, Mistakes
from suite.text import SIZES, UNITS, shown, suggest, unencodable

T = TypeVar("T")

#: What can name an endpoint, and stands in a dotted key without quotes.
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d{1,15})(B|KiB|MiB|GiB|TiB)")

#: The shortest duration that can be kept to (see `suite.guard.sweep.SWEEP`).
SHORTEST: Final = 0.25

#: The longest keep-alive, in seconds: 9 h. Linux takes 32,767 s at the most (``MAX_TCP_KEEPIDLE``).
LONGEST_KEEPALIVE: Final = 32_400.0

_TOML_TYPES: Final = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
}

NETWORKS: Final = 'an array of networks, such as ["192.0.2.0/24", "2001:db8::/32"]'
NAMES: Final = 'an array of names, such as ["nobody"]'


def dotted(key: str, name: str) -> str:
    """*name* behind *key*, quoted where it would not be taken for a bare key."""
    word = name if NAME.fullmatch(name) else repr(name)
    return f"{key}.{word}" if key else word


def _meant_size(text: str) -> str:
    """``; did you mean …?`` with the unit that *text* has in another spelling; or nothing."""
    found = re.fullmatch(r"(\d{1,15}) ?([kmgt])?i?b?", text, re.IGNORECASE)
    if found is None or int(found[1]) == 0:
        return ""
    return f'; did you mean "{found[1]}{found[2].upper() + "iB" if found[2] else "B"}"?'


def type_of(value: object) -> str:
    """What TOML calls *value*."""
    return _TOML_TYPES.get(type(value), "a date or time")


def as_network(text: str) -> Network:
    """An IP network; one that is mapped into IPv6 is what it is.

    :raises ValueError: *text* is none; says so in one line.
    """
    try:
        network = ip_network(text)
    except ValueError:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            meant = None
        hint = f"; did you mean {meant}?" if meant else "; expected one such as 192.0.2.0/24 or ::1"
        raise ValueError(f"{text!r} is not a network{hint}") from None
    if network.version == 6 and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ip_network(f"{mapped}/{network.prefixlen - 96}")
    return network


class Values:
    """Reads tables of one file, so that an error knows where it is.

    A value that cannot be used is left out, and what is wrong with it is in *mistakes*.
    """

    def __init__(self, file: Path, directory: Path, mistakes: Mistakes) -> None:
        self.file = file
        self.directory = directory
        self.mistakes = mistakes

    def error(self, key: str, problem: str) -> ConfigError:
        """The error that says *problem* of the value at *key*."""
        return ConfigError(shown(self.file), key, problem)

    def wrong_type(self, key: str, value: object, expected: str) -> ConfigError:
        """The error about *value*, which is not of the type *expected*."""
        return self.error(key, f"{value!r} is {type_of(value)}; expected {expected}")

    def table(self, value: object, key: str, known: Iterable[str]) -> dict[str, Any]:
        """The table *value* without unknown keys, each of which is a mistake."""
        if not isinstance(value, dict):
            raise self.wrong_type(key, value, "a table")
        for name in value:
            if name not in known:
                self.mistakes.note(self.error(dotted(key, name), self.unknown(key, name, value[name], known)))
        return {name: item for name, item in value.items() if name in known}

    def unknown(self, _key: str, name: str, _item: object, known: Iterable[str]) -> str:
        """What is wrong with *name* in the table at *key*, where it is not *known*."""
        return f"unknown key{suggest(name, known)}"

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
        """A string that is not empty."""
        if not isinstance(value, str):
            raise self.wrong_type(key, value, expected)
        if not value:
            raise self.error(key, f"{value!r} cannot be used; expected {expected}")
        return value

    def boolean(self, value: object, key: str) -> bool:
        """True or false."""
        if not isinstance(value, bool):
            raise self.wrong_type(key, value, "true or false")
        return value

    def path(self, value: object, key: str, expected: str = "the path of a PEM file") -> Path:
        """A path, made relative to the file."""
        path = self.string(value, key, expected)
        if "\0" in path:
            raise self.error(key, f"{path!r} cannot be used; expected {expected}")
        if problem := unencodable(path):
            raise self.error(key, f"{path!r} {problem}")
        return self.directory / path

    def version(self, value: object, key: str) -> str:
        """A TLS version."""
        known = " or ".join(f'"{version}"' for version in TLS_VERSIONS)
        version = self.string(value, key, f"a TLS version, {known}")
        if version not in TLS_VERSIONS:
            raise self.error(key, f"{version!r} is not a TLS version known here; expected {known}")
        return version

    def client_auth(self, value: object, key: str) -> str:
        """Whether clients must have a certificate."""
        known = " or ".join(f'"{word}"' for word in CLIENT_AUTH)
        word = self.string(value, key, known)
        if word not in CLIENT_AUTH:
            raise self.error(key, f"{word!r} is unknown; expected {known}")
        return word

    def protocols(self, value: object, key: str) -> tuple[str, ...]:
        """The names of ALPN protocols."""
        expected = 'an array of protocol names, such as ["http/1.1"]'
        if not isinstance(value, list):
            raise self.wrong_type(key, value, expected)
        return self.each(value, key, self.protocol)

    def protocol(self, name: object, key: str) -> str:
        """The name of an ALPN protocol."""
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
            problem = (
                f'minimum "{tls.minimum}" is above maximum "{tls.maximum}"; expected the same or a lower one'
            )
            self.mistakes.note(self.error(f"{key}.{culprit}", problem))
            tls = replace(tls, minimum=TLS().minimum, maximum=TLS().maximum)
        return tls, named

    # The limits.

    def count(self, value: object, key: str) -> int:
        """A whole number, 1 or more."""
        expected = "a whole number, 1 or more"
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong_type(key, value, expected)
        if not 1 <= value < 2**31:
            raise self.error(key, f"{value} is out of range; expected {expected}")
        return value

    def duration(self, value: object, key: str) -> float:
        """A duration, in seconds."""
        expected = 'a duration such as "250ms", "10s" or "5m"'
        text = self.string(value, key, expected)
        found = _DURATION.fullmatch(text)
        if not found:
            raise self.error(key, f"{text!r} is not a duration; expected {expected}")
        seconds = float(found[1]) * UNITS[found[2]]
        if seconds < SHORTEST:
            raise self.error(key, f'{text!r} is too short; expected "250ms" or more')
        return seconds

    def no_duration(self, value: object, key: str) -> float | None:
        """A duration, in seconds; None for ``"none"``."""
        return None if value == "none" else self.duration(value, key)

    def keepalive(self, value: object, key: str) -> float | None:
        """A duration, in seconds, that the kernel accepts for keep-alive; None for ``"none"``."""
        seconds = self.no_duration(value, key)
        if seconds is not None and not 1 <= seconds <= LONGEST_KEEPALIVE:
            raise self.error(key, f'{value!r} is out of range; expected "1s" to "9h", or "none"')
        return seconds

    def no_count(self, value: object, key: str) -> int | None:
        """A whole number, 1 or more; None for ``"none"``."""
        return None if value == "none" else self.count(value, key)

    def size(self, value: object, key: str) -> int | None:
        """A size, in bytes; None for ``"none"``."""
        expected = 'a size such as "64KiB" or "1GiB"'
        if value == "none":
            return None
        text = self.string(value, key, expected)
        found = _SIZE.fullmatch(text)
        if found and int(found[1]) == 0:
            raise self.error(key, f"{text!r} is too small; expected {expected}")
        if not found:
            raise self.error(key, f"{text!r} is not a size; expected {expected}{_meant_size(text)}")
        return int(found[1]) * SIZES[found[2]]

    def networks(self, value: object, key: str) -> tuple[Network, ...]:
        """IP networks."""
        if not isinstance(value, list):
            raise self.wrong_type(key, value, NETWORKS)
        return self.each(value, key, self.network)

    def network(self, text: object, key: str) -> Network:
        """An IP network; see `as_network`."""
        if not isinstance(text, str):
            raise self.wrong_type(key, text, NETWORKS)
        try:
            return as_network(text)
        except ValueError as error:
            raise self.error(key, str(error)) from None

    def names(self, value: object, key: str) -> tuple[str, ...]:
        """Names of users or groups."""
        if not isinstance(value, list):
            raise self.wrong_type(key, value, NAMES)
        return self.each(value, key, self.name)

    def name(self, name: object, key: str) -> str:
        """The name of a user or group."""
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


#: How each limit is read.
LIMITS: Final[Mapping[str, Callable[[Values, object, str], object]]] = {
    "connections": Values.count,
    "per_peer": Values.count,
    "handshake": Values.no_duration,
    "idle": Values.no_duration,
    "stall": Values.no_duration,
    "half_close": Values.no_duration,
    "keepalive": Values.keepalive,
    "lifetime": Values.no_duration,
    "bytes": Values.size,
    "rate": Values.no_count,
    "burst": Values.count,
    "rate_exempt": Values.networks,
    "full_reports": Values.networks,
    "answer_own_ports": Values.boolean,
    "allow": Values.networks,
    "deny": Values.networks,
    "users": Values.names,
    "groups": Values.names,
    "proxy_from": Values.networks,
}
