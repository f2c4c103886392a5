"""Endpoint description strings: what they may say, and the endpoint each one stands for.

Rules: Twisted's own syntax and quoting; what Twisted knows is checked here before anything opens,
so that a mistake is named in the user's words; what only a plugin knows is left to it. Two defaults
differ from Twisted's: everything binds loopback unless told otherwise, and the backlog is 4096.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

# `_parse` is the one private name of Twisted's here: its tokenizer has no public door.
# tests/endpoints/test_descriptions.py holds it to its documented syntax.
from twisted.internet.endpoints import (
    quoteStringArgument,
)

from suite.config.file import Endpoint
from suite.text import host_and_port, one_line, shown

#: The longest path in a ``sockaddr_un`` (Linux, unix(7); the BSDs and macOS: 103), without its NUL.
MAX_UNIX_PATH: Final = 107 if sys.platform == "linux" else 103


LOOPBACK: Final = "127.0.0.1"
LOOPBACK6: Final = "::1"

#: Interfaces that stand for all of them, and an address that reaches one of them.
EVERY_HOST: Final = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": LOOPBACK6}  # noqa: S104  # compared only

#: Parameters by position, as Twisted's parsers take them, for each type that is checked here.
PARAMETERS: Final = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": (
        "port",
        "privateKey",
        "certKey",
        "sslmethod",
        "interface",
        "backlog",
        "extraCertChain",
        "dhParameters",
    ),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "udp": ("port", "interface"),
    "udp6": ("port", "interface"),
    "systemd": ("domain", "index", "name"),
    "fd": ("fileno",),
    "tls": ("path", "port", "backlog", "interface"),
}


#: Parameters that are paths, relative to the configuration file.
PATHS: Final = {"privateKey", "certKey", "extraCertChain", "dhParameters", "address", "path"}

#: Parameters that make an OpenSSL context, which can be replaced under an open port.
CREDENTIALS: Final = {"privateKey", "certKey", "sslmethod", "extraCertChain", "dhParameters"}

#: `sslmethod` values, which Twisted still takes, and the one version each of them means, if one.
SSL_METHODS: Final = {"TLS_METHOD": None, "SSLv23_METHOD": None, "TLSv1_2_METHOD": "1.2"}

#: What each limit applies to; see `Description.accepts_limit`.
APPLIES_TO: Final = {
    "connections": "streams",
    "per_peer": "addresses of streams",
    "handshake": "TLS",
    "idle": "streams",
    "stall": "streams",
    "half_close": "streams",
    "lifetime": "streams",
    "bytes": "streams",
    "rate": "UDP",
    "burst": "UDP",
    "rate_exempt": "UDP",
    "allow": "addresses",
    "deny": "addresses",
    "users": "UNIX",
    "groups": "UNIX",
    "proxy_from": "haproxy:",
}

#: Types whose endpoints give the factory's own protocols to the transport, or close where there is none.
DIRECT: Final = frozenset({"tcp", "tcp6", "ssl", "unix", "systemd", "fd"})


class BoundAddress(NamedTuple):
    """An address that a socket binds.

    :ivar family: ``tcp4``, ``tcp6``, ``udp4``, ``udp6`` or ``unix``.
    :ivar host: an IP address; for ``unix``, a path.
    :ivar port: a port number; empty for ``unix``.
    """

    family: str
    host: str
    port: str


@dataclass(frozen=True)
class Description:
    """An endpoint description, taken apart and checked.

    :ivar endpoint: the endpoint it comes from.
    :ivar kind: its type, ``tcp`` for instance.
    :ivar arguments: its parameters by name, defaults included, paths absolute; empty for a type that
        only a plugin knows.
    :ivar proxied: whether it was prefixed ``haproxy:``.
    """

    endpoint: Endpoint
    kind: str
    arguments: dict[str, str]
    proxied: bool

    @property
    def transport(self) -> str:
        """What it speaks: TCP, UDP, TLS or UNIX; for a plugin's type, that type."""
        by_kind = {
            "tcp": "TCP",
            "tcp6": "TCP",
            "ssl": "TLS",
            "tls": "TLS",
            "unix": "UNIX",
            "udp": "UDP",
            "udp6": "UDP",
        }
        if self.kind == "systemd":
            return "UNIX" if self.arguments["domain"] == "UNIX" else "TCP"
        return by_kind.get(self.kind, self.kind)

    @property
    def address(self) -> str:
        """Where it listens, for people; for what only the system or a plugin knows, its text."""
        if self.kind == "unix":
            return shown_socket(self.arguments["address"])
        if "port" in self.arguments and "interface" in self.arguments:
            return host_and_port(self.arguments["interface"], int(self.arguments["port"]))
        return self.text

    @property
    def text(self) -> str:
        """The description for Twisted: every parameter named, and no ``haproxy:`` before it."""
        if self.kind not in PARAMETERS:
            listen = self.endpoint.listen
            return listen.partition(":")[2] if self.proxied else listen
        named = (f"{name}={quoteStringArgument(value)}" for name, value in self.arguments.items())
        return ":".join([self.kind, *named])

    def accepts_limit(self, name: str) -> bool:
        """Whether the limit *name* means anything for this endpoint."""
        what = APPLIES_TO[name]
        return {
            "streams": self.transport != "UDP",
            "addresses": self.transport != "UNIX",
            "addresses of streams": self.transport not in ("UDP", "UNIX"),
            "haproxy:": self.proxied,
        }.get(what, self.transport == what)

    def bound_address(self, port: int = 0) -> BoundAddress | None:
        """The address it binds, to detect conflicts; None if that is unknown or left to the system.

        :param port: the port that the system chose, where the description leaves the choice to it.
        """
        if self.kind == "unix":
            return BoundAddress("unix", os.path.normpath(self.arguments["address"]), "")
        if "port" not in self.arguments:
            return None
        port = int(self.arguments["port"]) or port
        if port == 0:
            return None
        host = self.arguments["interface"]
        family = ("udp" if self.transport == "UDP" else "tcp") + ("6" if ":" in host else "4")
        return BoundAddress(family, host, str(port))

    def bound_to(self, port: int) -> Description:
        """The same description at *port*; unchanged if its type has no port."""
        if "port" not in self.arguments:
            return self
        return replace(self, arguments={**self.arguments, "port": str(port)})

    def socket_key(self) -> tuple[object, ...]:
        """Equal for two descriptions that can share one listening socket."""
        if self.kind not in PARAMETERS:
            return (self.endpoint.listen,)
        arguments = {name: value for name, value in self.arguments.items() if name not in CREDENTIALS}
        return (self.kind, self.proxied, frozenset(arguments.items()))

    def credentials(self) -> Iterator[Path]:
        """The files of an ``ssl:`` endpoint that must be there."""
        if self.kind == "ssl":
            for name in ("privateKey", "certKey", "extraCertChain", "dhParameters"):
                if name in self.arguments:
                    yield Path(self.arguments[name])
            yield from self.endpoint.tls.files().values()


def shown_socket(path: str) -> str:
    """The path of a UNIX socket, for people; an abstract one with ``@`` first, as ss(8) has it."""
    return one_line("@" + path[1:]) if path.startswith("\0") else shown(path)


def conflicts(one: BoundAddress | None, other: BoundAddress | None) -> bool:
    """Whether two addresses exclude each other, so that only one of them can be bound."""
    if one is None or other is None or (one.family, one.port) != (other.family, other.port):
        return False
    return one.host == other.host or one.host in EVERY_HOST or other.host in EVERY_HOST
