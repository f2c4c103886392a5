"""From the text of an endpoint description to a checked `Description`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

# `_parse` is the one private name of Twisted's here: its tokenizer has no public name.
# tests/endpoints/test_descriptions.py checks it against its documented syntax.
from twisted.internet.endpoints import (
    _parse,
)
from twisted.internet.interfaces import (
    IStreamServerEndpointStringParser,
)
from twisted.plugin import getPlugins

from suite.answers.table import ANSWERS
from suite.config.fault_text import kind_misfit, misfit
from suite.config.file import Config, Endpoint
from suite.endpoints import meant
from suite.endpoints.descriptions import (
    ANY,
    ANY6,
    APPLIES_TO,
    DEFAULT_KEY,
    LOOPBACK,
    LOOPBACK6,
    MAX_UNIX_PATH,
    OWNED,
    PARAMETERS,
    PATHS,
    SSL_METHODS,
    Claims,
    Description,
    may_speak,
    separate,
)
from suite.endpoints.members import Lookup
from suite.errors import ConfigError, Mistakes
from suite.text import shown, suggest, unencodable

#: Linux's default for ``net.core.somaxconn`` since 5.4, which cuts off what is larger.
DEFAULT_BACKLOG: Final = "4096"

REQUIRED: Final = {
    "unix": ("address",),
    "systemd": ("domain",),
    "fd": ("fileno",),
    "tls": ("path",),
}

DEFAULTS: Final[dict[str, dict[str, str]]] = {
    "tcp": {"interface": LOOPBACK, "backlog": DEFAULT_BACKLOG},
    "tcp6": {"interface": LOOPBACK6, "backlog": DEFAULT_BACKLOG},
    "ssl": {"interface": LOOPBACK, "backlog": DEFAULT_BACKLOG},
    "tls": {"port": "443", "interface": LOOPBACK, "backlog": DEFAULT_BACKLOG},
    "unix": {"mode": "660", "backlog": DEFAULT_BACKLOG, "lockfile": "1"},
    "udp": {"interface": LOOPBACK},
    "udp6": {"interface": LOOPBACK6},
}


#: What is between the colons that separate parameters.
_PART = re.compile(r"((?:\\.|[^:\\])*)(?::|$)", re.DOTALL)


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """The positional and the named parameters of *text*, as Twisted's `_parse` gives them.

    `_parse` looks at each character in turn, which takes most of the time of reading a long configuration;
    without escapes, what it does is this.
    """
    if "\\" in text or not text.isascii():
        parsed: tuple[list[str], dict[str, str]] = _parse(text)
        return parsed
    positional, named = [], {}
    for part in text.split(":"):
        name, equals, value = part.partition("=")
        if equals:
            named[name] = value
        else:
            positional.append(name)
    return positional, named


@lru_cache  # thousands of endpoints have few interfaces
def _shortest(interface: str) -> str | None:
    """The shortest form of an address; what stands for one as it is; None for anything else."""
    try:
        return str(ip_address(interface))
    except ValueError:
        return interface if interface in ("", "localhost") else None


class Parser:
    """Parses one description; an error knows whose it is."""

    def __init__(self, config: Config, endpoint: Endpoint, mistakes: Mistakes, lookup: Lookup) -> None:
        self.config = config
        self.endpoint = endpoint
        self.mistakes = mistakes
        self.lookup = lookup

    def error(self, problem: str) -> ConfigError:
        """The error that says *problem* of the description."""
        if self.endpoint.gallery:
            return ConfigError(shown(self.config.file), "gallery.ports", problem)
        return self.config.listen_error(self.endpoint, problem)

    @property
    def colon(self) -> str:
        """A colon in an address, as it is written where the description is: in TOML, or in a variable."""
        return r"\:" if self.endpoint.variable else r"\\:"

    def refuse(self, problem: str | None) -> None:
        """Refuse the description for this *problem*; None: there is none.

        :raises ConfigError: there is one.
        """
        if problem is not None:
            raise self.error(problem)

    def parse(self) -> Description:
        """The description, checked.

        :raises ConfigError: it cannot be understood.
        """
        text = self.endpoint.listen
        self.refuse(meant.url(text, self.colon))
        try:
            positional, named = _split(text)
        except (RuntimeError, StopIteration):  # a backslash at the end
            raise self.error(
                f"{text!r} ends in the middle of an escape; expected a character after it"
            ) from None
        except UnicodeEncodeError as error:
            raise self.error(f"{error.object!r} is not a parameter of any type; expected ASCII") from None
        if text.count("=") > len(named):  # some are in a value, or a name is there more than once
            names = [name for part in _PART.findall(text) for name in _split(part)[1]]
            for name in named:
                if names.count(name) > 1:
                    raise self.error(f"{name!r} is given twice; expected it once")
        positional[:2] = [word.lower() for word in positional[:1]] + positional[1:2]
        proxied = positional[:1] == ["haproxy"]
        if proxied:
            del positional[0]
        if not positional or not positional[0]:
            raise self.error(f"{text!r} has no type; expected one first, such as tcp:1234")
        kind = positional.pop(0).lower()
        if proxied and kind in ("haproxy", "udp", "udp6"):
            raise self.error(
                f"{text!r}: haproxy: does not go with {kind}:; expected a stream, such as tcp: or ssl:"
            )
        arguments: dict[str, str] = {}
        if kind in PARAMETERS:
            self.refuse(meant.order(kind, positional, self.colon))
            try:
                arguments = self.arguments(kind, positional, named)
            except ConfigError:
                self.refuse(meant.escapes(kind, text, self.colon))
                raise
            if kind == "tls":  # Twisted's name for the same
                kind, arguments["directory"] = "ssl", arguments.pop("path")
        else:
            self.check_plugin(kind)
        if self.endpoint.own_tls is not None and kind != "ssl":
            self.mistakes.note(
                ConfigError(
                    shown(self.config.file),
                    f"endpoints.{self.endpoint.name}.tls",
                    f"does not go with {kind}:; expected listen to be an ssl: description",
                )
            )
        description = Description(self.endpoint, kind, arguments, proxied)
        self.check_limits(description)
        self.check_answer(description)
        description = self.check_faults(description)
        if description.transport not in ("TCP", "UDP", "TLS"):  # a descriptor's or a plugin's may be UNIX
            members = self.lookup.members(self.endpoint.limits, self.note_limit)
            description = replace(description, members=members)
        return description

    def check_limits(self, description: Description) -> None:
        """Note which limits of this endpoint alone mean nothing on *description*."""
        for name in sorted(self.endpoint.own_limits):
            if not description.accepts_limit(name):
                self.note_limit(name, f"does not go with {description.kind}:; only {APPLIES_TO[name]} has it")

    def note_limit(self, limit: str, problem: str) -> None:
        """Note what is wrong with a limit."""
        key = self.endpoint.limits_key(limit)
        self.mistakes.note(ConfigError(shown(self.config.file), key, problem))

    def check_answer(self, description: Description) -> None:
        """Note an answer that does not exist, or not over this transport."""
        name = self.endpoint.answer
        answer = ANSWERS.get(name)
        if answer is None:
            problem = f"{name!r} is not an answer{suggest(name, ANSWERS)}"
        elif answer.datagrams is None and "UDP" in may_speak(description):
            problem = f"{name!r} is not for datagrams; expected listen to be a stream, such as tcp:"
        elif answer.stream is None and may_speak(description) - {"UDP"}:
            problem = f"{name!r} is for datagrams only; expected listen to be a udp: description"
        else:
            return
        key = f"{self.endpoint.key}.answer"
        self.mistakes.note(ConfigError(shown(self.config.file), key, problem))

    def check_faults(self, description: Description) -> Description:
        """*description* without those faults of a profile that its transport has not.

        What is wrong with the others is noted.
        """
        faults = self.endpoint.faults
        transports = may_speak(description)
        kept = []
        for fault in faults.entries:
            problem = misfit(fault, transports, proxied=description.proxied)
            if problem is None:
                kept.append(fault)
            elif not fault.profile or problem[0] == "only":
                self.note_fault(f"faults[{fault.place}].{problem[0]}", problem[1])
        for kind in sorted(faults.allowed):
            unfit = kind_misfit(kind, transports)
            if unfit is not None:
                self.note_fault("allow_faults", f"{kind} {unfit}")
        if len(kept) == len(faults.entries):
            return description
        endpoint = replace(self.endpoint, faults=replace(faults, entries=tuple(kept)))
        return replace(description, endpoint=endpoint)

    def note_fault(self, key: str, problem: str) -> None:
        """Note what is wrong with the faults of this endpoint."""
        key = f"{self.endpoint.key}.{key}"
        self.mistakes.note(ConfigError(shown(self.config.file), key, problem))

    def check_plugin(self, kind: str) -> None:
        """Check that a plugin of Twisted's has the type *kind*.

        :raises ConfigError: none has.
        """
        known = {plugin.prefix.lower() for plugin in getPlugins(IStreamServerEndpointStringParser)}
        if kind.lower() not in known:
            hint = meant.description(self.endpoint.listen, self.colon) or suggest(
                kind, known | PARAMETERS.keys()
            )
            raise self.error(f"{kind!r} is not an endpoint type{hint}")

    def arguments(self, kind: str, positional: list[str], named: dict[str, str]) -> dict[str, str]:
        """The parameters of a description of the type *kind* by name, with defaults.

        :raises ConfigError: one of them cannot be used, or is missing.
        """
        parameters = PARAMETERS[kind]
        if len(positional) > len(parameters):
            raise self.error(
                f"{positional[len(parameters)]!r} is one parameter too many; expected"
                f" {kind}:{':'.join(parameters)} at the most"
            )
        given = dict(zip(parameters, positional, strict=False))
        for name, value in named.items():
            if name not in parameters:
                raise self.error(f"{name!r} is not a parameter of {kind}:{suggest(name, parameters)}")
            if name in given:
                raise self.error(f"{name!r} is given twice; expected it once")
            given[name] = value
        for name in REQUIRED.get(kind, ("port",)):
            if not given.get(name):
                raise self.error(f"{name} is missing; expected {kind}:{name.upper()}…")
        if kind == "ssl" and not self.endpoint.gallery:
            self.check_identity(given)
        arguments = DEFAULTS.get(kind, {}) | given
        for name, value in arguments.items():
            if name in CHECKS:
                arguments[name] = CHECKS[name](self, name, value)
            if name in PATHS:
                arguments[name] = self.path(name, value)
        if kind == "systemd":
            self.check_systemd(arguments)
        if "interface" in arguments and kind in OWNED | {"tls"}:
            arguments["interface"] = self.bind_address(kind, arguments["interface"])
        if "privateKey" in arguments:
            arguments.setdefault("certKey", arguments["privateKey"])
        return arguments

    def check_identity(self, given: dict[str, str]) -> None:
        """Name the default key, unless certificates come from a directory."""
        if "directory" not in given:
            given.setdefault("privateKey", DEFAULT_KEY)
        for name in ("privateKey", "certKey", "extraCertChain"):
            if "directory" in given and name in given:
                raise self.error(
                    f"{name} does not go with directory, where each file has a key, its certificate and the"
                    " chain; expected one of the two"
                )

    # Each of these returns the value, in its shortest form.

    def number(self, name: str, value: str, low: int, high: int) -> str:
        """A whole number from *low* to *high*."""
        if not re.fullmatch("-?[0-9]+", value):
            raise self.error(f"{name} {value!r} is not a number; expected {low} to {high}")
        digits = value.lstrip("0") or "0"
        if not (digits.isdigit() and len(digits) <= 10 and low <= int(digits) <= high):
            raise self.error(f"{name} {value!r} is out of range; expected {low} to {high}")
        return digits

    def check_port(self, name: str, value: str) -> str:
        """The number of a port."""
        return self.number(name, value, 0, 65535)

    def check_backlog(self, name: str, value: str) -> str:
        """The length of a queue."""
        return self.number(name, value, 1, 2**31 - 1)

    def check_index(self, name: str, value: str) -> str:
        """The index of something."""
        return self.number(name, value, 0, 2**31 - 1)

    def check_mode(self, name: str, value: str) -> str:
        """The mode of a file."""
        if not re.fullmatch(r"0?[0-7]{3}", value):
            raise self.error(f"{name} {value!r} is not a file mode; expected three octal digits, such as 660")
        return value

    def check_lockfile(self, name: str, value: str) -> str:
        """Whether there is to be a lock file."""
        if value not in ("0", "1"):
            raise self.error(f"{name} {value!r} is unknown; expected 0 or 1")
        return value

    def check_interface(self, name: str, value: str) -> str:
        """The address of an interface."""
        shortest = _shortest(value)
        if shortest is None:
            raise self.error(
                f"{name} {value!r} is not an address; expected one such as"
                r" 127.0.0.1 or \\:\\:1"
            )
        return shortest

    def bind_address(self, kind: str, interface: str) -> str:
        """The address to bind for *interface*: an address, ``localhost``, or empty for every address."""
        six = kind.endswith("6")
        if not interface:
            return ANY6 if six else ANY
        if interface == "localhost":
            return LOOPBACK6 if six else LOOPBACK
        if six and ":" not in interface:
            raise self.error(
                f"interface {interface!r} is an IPv4 address; expected an IPv6 one for {kind}:, or"
                f" {kind.removesuffix('6')}:"
            )
        return interface

    def check_sslmethod(self, name: str, value: str) -> str:
        """A method of OpenSSL's."""
        if value not in SSL_METHODS:
            raise self.error(
                f"{name} {value!r} is not offered{suggest(value, SSL_METHODS)}; tls.minimum and"
                " tls.maximum choose versions"
            )
        return value

    def check_systemd(self, arguments: dict[str, str]) -> None:
        """Check the parameters of an inherited socket together."""
        if arguments["domain"] not in ("INET", "INET6", "UNIX"):
            raise self.error(f"domain {arguments['domain']!r} is unknown; expected INET, INET6 or UNIX")
        if ("index" in arguments) == ("name" in arguments):
            raise self.error("expected either index= or name=, and not both")

    def path(self, name: str, value: str) -> str:
        """A path, made absolute, or one that the kernel takes for a socket."""
        if not value:
            raise self.error(f"{name} is empty; expected a path")
        abstract = name == "address" and value.startswith("\0")  # unix(7): a name, not a file
        if "\0" in value[abstract:]:
            raise self.error(f"{name} {value!r} cannot be used; expected a path")
        if problem := unencodable(value):
            raise self.error(f"{name} {value!r} {problem}")
        path = value if abstract else os.path.normpath(os.path.join(self.config.directory, value))
        if name == "address":
            # A path that only its directory makes too long can be reached from where we are.
            if len(os.fsencode(path)) > MAX_UNIX_PATH and not abstract:
                path = min(path, os.path.relpath(path), key=len)
            length = len(os.fsencode(path))
            if length > MAX_UNIX_PATH:
                raise self.error(
                    f"{value!r} is too long for a UNIX socket: {length} bytes; expected"
                    f" {MAX_UNIX_PATH} at the most"
                )
        return path


CHECKS: Final[dict[str, Callable[[Parser, str, str], str]]] = {
    "port": Parser.check_port,
    "backlog": Parser.check_backlog,
    "fileno": Parser.check_index,
    "index": Parser.check_index,
    "mode": Parser.check_mode,
    "lockfile": Parser.check_lockfile,
    "interface": Parser.check_interface,
    "sslmethod": Parser.check_sslmethod,
}


def parse(config: Config) -> list[Description]:
    """Parse the descriptions of all endpoints, without opening or reading anything.

    :raises ConfigError: one of them cannot be understood, or two want the same address.
    :raises MistakesError: there are several such mistakes.
    """
    mistakes = Mistakes()
    descriptions = parse_all(config, mistakes)
    mistakes.raise_any()
    return descriptions


def parse_all(config: Config, mistakes: Mistakes) -> list[Description]:
    """Parse the descriptions that can be understood; what is wrong with the others is in *mistakes*."""
    descriptions = []
    claims = Claims()
    lookup = Lookup()
    for endpoint in config.endpoints:
        parser = Parser(config, endpoint, mistakes, lookup)
        with mistakes.noted():
            description = parser.parse()
            descriptions.append(description)
            claim = description.bound_address
            taken = claims.add(claim, endpoint.name) if claim is not None else None
            if taken is not None:
                raise parser.error(
                    f"{description.address} is taken by endpoints.{taken}; expected an address of its own"
                )
    return separate(descriptions, claims)
