"""The configuration file: what it may say, and what it says.

Rules: an unknown key is an error, with the nearest known one; what `load` returns is complete (defaults
filled in) and has only values that can be used. How values are read is in `suite.config.values`; what a
`listen` string means is for `suite.endpoints.descriptions` to say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

from typing_extensions import override

from suite.config.admin import AdminTable, read_admin
from suite.config.document import directory_of, read_document
from suite.config.environment import NO_ENVIRONMENT, Environment, Variable
from suite.config.fault_tables import ENDPOINT_KEYS, read_faults, read_live, read_profiles, read_seed
from suite.config.faults import NO_FAULTS, Faults, Profile
from suite.config.gallery import GalleryTable, read_gallery
from suite.config.limits import Limits
from suite.config.profiles import PROFILES
from suite.config.tls import TLS
from suite.config.values import NAME, Values, dotted
from suite.config.workers import read_workers
from suite.errors import ConfigError, Mistakes
from suite.text import shown

NO_CLIENT_CA: Final = (
    "clients are not asked for a certificate; expected client_ca, a PEM file of CAs, beside it"
)

#: How long echoes under way may take when the suite ends, in seconds (nginx and HAProxy wait for ever,
#: Docker and Kubernetes kill after 10 and 30, counted from the same signal).
DEFAULT_DRAIN: Final = 8.0

#: What an endpoint answers unless it says otherwise.
DEFAULT_ANSWER: Final = "echo"

#: Keys that are strings, and what each is.
STRINGS: Final = {
    "user": "the name of a user",
    "group": "the name of a group",
    "control": 'a UNIX socket, such as "unix:run/control.sock"',
}

#: How an endpoint description begins.
_DESCRIPTION: Final = re.compile(r"[a-z]+[46]?:")

#: What other programs have as keys, and a description as its parts.
_OF_DESCRIPTIONS: Final = frozenset({"address", "bind", "host", "interface", "listen", "port"})

#: The keys of a file.
TOP_LEVEL: Final = (
    "admin",
    "control",
    "drain",
    "endpoints",
    "faults",
    "gallery",
    "group",
    "lameduck",
    "limits",
    "profiles",
    "seed",
    "tls",
    "user",
    "workers",
)


@dataclass(frozen=True)
class Endpoint:
    """One endpoint as declared.

    :ivar own_tls: what its own ``tls`` table says, by key; None if it has no such table.
    :ivar own_limits: what its own ``limits`` table says, by key.
    :ivar optional: whether the others are served if this one cannot be opened.
    :ivar faults: how it misbehaves on purpose.
    :ivar answer: what it answers: the name of one of `suite.answers.table.ANSWERS`.
    :ivar gallery: what it serves of the gallery: see `suite.gallery.places`; empty: nothing, as most.
    :ivar variable: the environment variable that says where it listens; empty: the file does.
    """

    name: str
    listen: str
    tls: TLS
    limits: Limits = field(default_factory=Limits)
    own_tls: frozenset[str] | None = None
    own_limits: frozenset[str] = frozenset()
    optional: bool = False
    faults: Faults = NO_FAULTS
    answer: str = DEFAULT_ANSWER
    gallery: str = ""
    variable: str = ""

    @property
    def key(self) -> str:
        """Where it stands in the file."""
        return "gallery" if self.gallery else f"endpoints.{self.name}"

    def limits_key(self, name: str) -> str:
        """Where in the file the limit *name* of this endpoint stands."""
        return f"{self.key}.limits.{name}" if name in self.own_limits else f"limits.{name}"

    def tls_key(self, name: str) -> str:
        """Where in the file the TLS setting *name* of this endpoint stands."""
        own = self.own_tls is not None and name in self.own_tls
        return f"{self.key}.tls.{name}" if own else f"tls.{name}"


@dataclass(frozen=True)
class Config:
    """A whole configuration, read from *file*.

    :ivar file: the file, or where one would be.
    :ivar has_file: whether there is one; otherwise everything comes from environment variables.
    :ivar drain: seconds that echoes under way may take when the suite ends.
    :ivar lameduck: seconds before that in which it is no longer ready, but accepts (CoreDNS's `lameduck`).
    :ivar user: whom the suite becomes once everything is open; None: nobody else.
    :ivar group: the same for its group; None: the primary group of *user*.
    :ivar control: the description of the control socket; None: there is none.
    :ivar live_faults: whether a change of faults concerns the connections that are there, too.
    :ivar profiles: the network profiles by name, as `suite.config.fault_text.parse` takes them.
    :ivar gallery: the gallery of bad TLS; None: there is none.
    :ivar admin: the admin interface; None: there is none.
    :ivar workers: how many processes serve; `suite.config.workers.AUTO`: as many as there are cores.
    """

    file: Path
    endpoints: tuple[Endpoint, ...]
    drain: float = DEFAULT_DRAIN
    lameduck: float = 0.0
    user: str | None = None
    group: str | None = None
    control: str | None = None
    live_faults: bool = False
    profiles: Mapping[str, Profile] = field(default_factory=lambda: PROFILES)
    gallery: GalleryTable | None = None
    admin: AdminTable | None = None
    workers: int = 1
    has_file: bool = True

    @cached_property
    def directory(self) -> Path:
        """What relative paths in the file are relative to."""
        return directory_of(self.file)

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        return shown(self.file) if self.has_file else "environment"

    def listen_error(self, endpoint: Endpoint, problem: str) -> ConfigError:
        """The error that says *problem* of where *endpoint* listens."""
        if endpoint.variable:
            return ConfigError(endpoint.variable, None, problem)
        return ConfigError(shown(self.file), f"{endpoint.key}.listen", problem)


class _Endpoints(Values):
    """Reads the endpoints of one file.

    :ivar seed: the seed of endpoints that have none.
    :ivar profiles: the profiles that their faults may name.
    """

    seed: int = 0
    profiles: Mapping[str, Profile] = PROFILES

    @override
    def unknown(self, key: str, name: str, item: object, known: Iterable[str]) -> str:
        """An endpoint outside of its table is told from other unknown keys."""
        listen = item.get("listen") if isinstance(item, dict) else item
        if not key and isinstance(listen, str) and _DESCRIPTION.match(listen):
            return "unknown key; endpoints go below a line `[endpoints]`"
        if not key and name in _OF_DESCRIPTIONS:
            return 'unknown key; expected it in an endpoint, such as tcp = "tcp:1234:interface=127.0.0.1"'
        return super().unknown(key, name, item, known)

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
        if not NAME.fullmatch(name):
            raise self.error(
                "endpoints",
                f"{name!r} cannot name an endpoint; expected 1 to 64 letters, digits, '-' or '_'",
            )
        expected = 'an endpoint description, such as "tcp:1234"'
        if isinstance(value, str):
            return Endpoint(name, self.string(value, key, expected), tls, limits)
        if not isinstance(value, dict):
            raise self.wrong_type(key, value, f"{expected}, or a table with `listen`")
        table = self.table(value, key, ("answer", "listen", "limits", "optional", "tls", *ENDPOINT_KEYS))
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
        faults = read_faults(self, table, key, self.seed, self.profiles)
        answer = DEFAULT_ANSWER
        with self.mistakes.noted():
            if "answer" in table:
                answer = self.string(table["answer"], f"{key}.answer", 'an answer, such as "report"')
        found = (tls, limits, own_tls, own_limits, optional, faults, answer)
        return None if listen is None else Endpoint(name, listen, *found)


def load(file: Path) -> Config:
    """Read the configuration in the TOML *file*.

    :raises ConfigError: it cannot be read, is not TOML, or says something unknown or unusable.
    :raises MistakesError: it has several such mistakes.
    """
    mistakes = Mistakes()
    config = read(file, mistakes)
    mistakes.raise_any()
    return config


def read(file: Path, mistakes: Mistakes, environment: Environment = NO_ENVIRONMENT) -> Config:
    """Read the configuration in *file* as far as it can be used; the rest is in *mistakes*.

    :param environment: declares endpoints, too; default: nothing does but the file.
    :raises ConfigError: nothing in it can be used: it cannot be read, or is not TOML.
    """
    has_file = environment.needs_file or os.path.lexists(file)
    document = read_document(file) if has_file else {}
    mistakes.in_order(_keys(document))
    reader = _Endpoints(file, directory_of(file), mistakes)
    table = reader.table(document, "", TOP_LEVEL)
    tls, limits, endpoints = TLS(), Limits(), []
    others: dict[str, Any] = {}
    named: frozenset[str] = frozenset()
    with mistakes.noted():
        tls, named = reader.tls(table.get("tls", {}), "tls", tls)
    with mistakes.noted():
        limits, _ = reader.limits(table.get("limits", {}), "limits", limits)
    with mistakes.noted():
        if "seed" in table:
            reader.seed = read_seed(reader, table["seed"], "seed")
    with mistakes.noted():
        reader.profiles = read_profiles(reader, table.get("profiles", {}))
    with mistakes.noted():
        others["live_faults"] = read_live(reader, table.get("faults", {}))
    with mistakes.noted():
        if "admin" in table:
            others["admin"] = read_admin(reader, table["admin"])
    with mistakes.noted():
        if "gallery" in table:
            gallery = table["gallery"]
            others["gallery"] = read_gallery(reader, gallery, limits, reader.seed, reader.profiles)
    with mistakes.noted():
        alone = "gallery" in table and "endpoints" not in table
        elsewhere = bool(environment.variables) and not table.get("endpoints", {})
        declared = {} if alone or elsewhere else reader.endpoints(table.get("endpoints", {}))
        for name, value in declared.items():
            with mistakes.noted(f"endpoints.{name}"):
                endpoints.append(reader.endpoint(name, value, tls, limits))
    for variable in environment.variables:
        with mistakes.noted():
            _declare(endpoints, variable, tls, limits)
    if "client_auth" in named and all(each is None or each.tls.client_ca is None for each in endpoints):
        mistakes.note(reader.error("tls.client_auth", NO_CLIENT_CA))
    for key, expected in STRINGS.items():
        with mistakes.noted():
            if key in table:
                others[key] = reader.string(table[key], key, expected)
    with mistakes.noted():
        if "drain" in table:
            others["drain"] = reader.duration(table["drain"], "drain")
    with mistakes.noted():
        if "lameduck" in table:
            others["lameduck"] = reader.no_duration(table["lameduck"], "lameduck") or 0.0
    with mistakes.noted():
        if "workers" in table:
            others["workers"] = read_workers(reader, table["workers"])
    others["profiles"] = reader.profiles
    found = tuple(endpoint for endpoint in endpoints if endpoint is not None)
    return Config(file, found, has_file=has_file, **others)


def _declare(endpoints: list[Endpoint | None], variable: Variable, tls: TLS, limits: Limits) -> None:
    """Have *variable* say where its endpoint listens: one of *endpoints*, or another.

    :raises ConfigError: it could be any of several.
    """
    places = [
        place
        for place, endpoint in enumerate(endpoints)
        if endpoint is not None and variable.means(endpoint.name)
    ]
    if not places:
        endpoints.append(Endpoint(variable.name, variable.listen, tls, limits, variable=variable.variable))
        return
    declared = [cast(Endpoint, endpoints[place]) for place in places]
    if len(places) > 1:
        names = " and ".join(endpoint.name for endpoint in declared)
        raise variable.error(f"the file has {names}, and both could be meant; expected other names there")
    endpoints[places[0]] = replace(declared[0], listen=variable.listen, variable=variable.variable)


def _keys(table: Mapping[str, object], key: str = "", depth: int = 4) -> Iterator[str]:
    """The dotted keys in *table*, in the order of the file; none has more parts than an endpoint's limits."""
    for name, value in table.items():
        yield dotted(key, name)
        if key == "endpoints" and not NAME.fullmatch(name):
            yield f"{key}.{name}"
        if isinstance(value, dict) and depth > 1:
            yield from _keys(value, dotted(key, name), depth - 1)
        for number, item in enumerate(value if isinstance(value, list) else (), start=1):
            if isinstance(item, dict) and depth > 1:
                yield f"{dotted(key, name)}[{number}]"
                yield from _keys(item, f"{dotted(key, name)}[{number}]", 1)
