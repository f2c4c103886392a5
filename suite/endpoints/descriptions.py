"""Endpoint description strings: their types and parameters, and a checked description as a value.

Rules: Twisted's own syntax and quoting; the types that Twisted has are checked before anything opens, so that
an error message quotes the user's own words; a plugin's types are left to the plugin. Two defaults differ
from Twisted's: every endpoint binds loopback unless told otherwise, and the backlog is 4096.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from twisted.internet.endpoints import quoteStringArgument

from suite.config.file import Endpoint
from suite.text import host_and_port, one_line, shown

#: The longest path in a ``sockaddr_un`` (Linux, unix(7); the BSDs and macOS: 103), without its NUL.
MAX_UNIX_PATH: Final = 107 if sys.platform == "linux" else 103

LOOPBACK: Final = "127.0.0.1"
#: The key and certificate of an ``ssl:`` endpoint that names none (Twisted's default).
DEFAULT_KEY: Final = "server.pem"

LOOPBACK6: Final = "::1"

#: Values of `interface` that mean every interface, each with an address that reaches it.
EVERY_HOST: Final = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": LOOPBACK6}  # noqa: S104  # compared only

#: The parameters of each type that is checked here, in the order of Twisted's parsers.
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
        "directory",
    ),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "udp": ("port", "interface"),
    "udp6": ("port", "interface"),
    "systemd": ("domain", "index", "name"),
    "fd": ("fileno",),
    "tls": ("path", "port", "backlog", "interface"),
}

#: Parameters that are paths, relative to the configuration file's directory.
PATHS: Final = {"privateKey", "certKey", "extraCertChain", "dhParameters", "address", "directory", "path"}

#: Parameters that make an OpenSSL context, which can be replaced under an open port.
CREDENTIALS: Final = {"privateKey", "certKey", "sslmethod", "extraCertChain", "dhParameters", "directory"}

#: The values of `sslmethod`, which Twisted still accepts, and the single TLS version each selects, if any.
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

#: Types whose endpoints connect the factory's protocol itself, without a wrapper, and close the connection if
#: the factory returns none.
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
    """A parsed and checked endpoint description.

    :ivar endpoint: the configured endpoint that the description belongs to.
    :ivar kind: the type, such as ``tcp``.
    :ivar arguments: the parameters by name, with defaults, and paths absolute; empty for a plugin's type.
    :ivar proxied: whether the description has the prefix ``haproxy:``.
    """

    endpoint: Endpoint
    kind: str
    arguments: dict[str, str]
    proxied: bool

    @property
    def transport(self) -> str:
        """The transport: TCP, UDP, TLS or UNIX; for a plugin's type, the type itself."""
        by_kind = {
            "tcp": "TCP",
            "tcp6": "TCP",
            "ssl": "TLS",
            "unix": "UNIX",
            "udp": "UDP",
            "udp6": "UDP",
        }
        if self.kind == "systemd":
            return "UNIX" if self.arguments["domain"] == "UNIX" else "TCP"
        return by_kind.get(self.kind, self.kind)

    @property
    def address(self) -> str:
        """The address to listen on, for people; if only the system or a plugin knows it, the text."""
        if self.kind == "unix":
            return shown_socket(self.arguments["address"])
        if "port" in self.arguments and "interface" in self.arguments:
            return host_and_port(self.arguments["interface"], int(self.arguments["port"]))
        return self.text

    @property
    def text(self) -> str:
        """The description for Twisted: every parameter named, without the prefix ``haproxy:``."""
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
        """The files that an ``ssl:`` endpoint needs; none for other types."""
        if self.kind == "ssl":
            for name in ("privateKey", "certKey", "extraCertChain", "dhParameters"):
                if name in self.arguments:
                    yield Path(self.arguments[name])
            yield from self.endpoint.tls.files().values()


def shown_socket(path: str) -> str:
    """The path of a UNIX socket, for people; ``@`` marks an abstract one, as in ss(8)."""
    return one_line("@" + path[1:]) if path.startswith("\0") else shown(path)


def conflicts(one: BoundAddress | None, other: BoundAddress | None) -> bool:
    """Whether two addresses exclude each other, so that only one of them can be bound."""
    if one is None or other is None or (one.family, one.port) != (other.family, other.port):
        return False
    return one.host == other.host or one.host in EVERY_HOST or other.host in EVERY_HOST
