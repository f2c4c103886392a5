"""Endpoint description strings: their types and parameters, and a checked description as a value.

Rules: Twisted's own syntax and quoting; the types that Twisted has are checked before anything opens, so that
an error message quotes the user's own words; a plugin's types are left to the plugin. Two defaults differ
from Twisted's: every endpoint binds loopback unless told otherwise, and the backlog is 4096.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from twisted.internet.endpoints import quoteStringArgument

from suite.config.file import Endpoint
from suite.system import NOBODY, Members
from suite.text import host_and_port, one_line, shown

#: The longest path in a ``sockaddr_un`` (Linux, unix(7); the BSDs and macOS: 103), without its NUL.
MAX_UNIX_PATH: Final = 107 if sys.platform == "linux" else 103

LOOPBACK: Final = "127.0.0.1"
#: The key and certificate of an ``ssl:`` endpoint that names none (Twisted's default).
DEFAULT_KEY: Final = "server.pem"

LOOPBACK6: Final = "::1"
ANY: Final = "0.0.0.0"  # noqa: S104  # only where the configuration asks for it
ANY6: Final = "::"

#: Addresses that mean every interface, each with an address that reaches it.
EVERY_HOST: Final = {ANY: LOOPBACK, ANY6: LOOPBACK6}

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

#: Parameters that name the files of an ``ssl:`` endpoint, or their directory.
FILES: Final = ("privateKey", "certKey", "extraCertChain", "dhParameters", "directory")

#: Parameters that make an OpenSSL context, which can be replaced under an open port.
CREDENTIALS: Final = {"sslmethod", *FILES}

#: The values of `sslmethod`, which Twisted still accepts, and the single TLS version each selects, if any.
SSL_METHODS: Final = {"TLS_METHOD": None, "SSLv23_METHOD": None, "TLSv1_2_METHOD": "1.2"}

#: The transport of each type that tells it; see `Description.transport`.
TRANSPORTS: Final = {"tcp": "TCP", "tcp6": "TCP", "ssl": "TLS", "unix": "UNIX", "udp": "UDP", "udp6": "UDP"}

#: What each limit applies to; see `Description.accepts_limit`.
APPLIES_TO: Final = {
    "connections": "streams",
    "per_peer": "addresses of streams",
    "handshake": "TLS",
    "idle": "streams",
    "stall": "streams",
    "half_close": "streams",
    "keepalive": "addresses of streams",
    "lifetime": "streams",
    "bytes": "streams",
    "rate": "UDP",
    "burst": "UDP",
    "rate_exempt": "UDP",
    "full_reports": "UDP",
    "answer_own_ports": "UDP",
    "allow": "addresses",
    "deny": "addresses",
    "users": "UNIX",
    "groups": "UNIX",
    "proxy_from": "haproxy:",
}

#: Types whose sockets the parent process has opened.
INHERITED: Final = frozenset({"systemd", "fd"})

#: The first descriptor that a service manager passes (sd_listen_fds(3), SD_LISTEN_FDS_START).
FIRST_DESCRIPTOR: Final = 3

#: Types whose listening sockets are the suite's own (see `suite.endpoints.sockets`); the others are opened by
#: Twisted or a plugin.
OWNED: Final = frozenset({"tcp", "tcp6", "ssl", "unix", "udp", "udp6", "systemd", "fd"})

#: Types whose endpoints connect the factory's protocol itself, without a wrapper, and close the connection if
#: the factory returns none.
DIRECT: Final = frozenset({"tcp", "tcp6", "ssl", "unix", "systemd", "fd"})


class BoundAddress(NamedTuple):
    """An address that a socket binds.

    :ivar family: ``tcp4``, ``tcp6``, ``udp4``, ``udp6`` or ``unix``; ``descriptor`` or ``name`` for an
        inherited socket, whose address is not known yet.
    :ivar host: an IP address; for ``unix``, a path; for an inherited socket, its number or name.
    :ivar port: a port number; empty for others than addresses.
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
    :ivar v6only: whether a socket for every IPv6 address leaves IPv4 to another endpoint (ipv6(7),
        ``IPV6_V6ONLY``).
    :ivar found: the transport of an inherited socket, once it is known; otherwise empty.
    :ivar members: whom the limits `users` and `groups` admit, where they may apply.
    """

    endpoint: Endpoint
    kind: str
    arguments: dict[str, str]
    proxied: bool
    v6only: bool = False
    found: str = ""
    members: Members = NOBODY

    @property
    def transport(self) -> str:
        """The transport: TCP, UDP, TLS or UNIX; for a plugin's type, the type itself."""
        if self.found:
            return self.found
        if self.kind == "systemd":
            return "UNIX" if self.arguments["domain"] == "UNIX" else "TCP"
        return TRANSPORTS.get(self.kind, self.kind)

    @cached_property
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
        if self.kind in INHERITED and not self.found and what != "haproxy:":
            return True  # the socket will tell its transport
        return {
            "streams": self.transport != "UDP",
            "addresses": self.transport != "UNIX",
            "addresses of streams": self.transport not in ("UDP", "UNIX"),
            "haproxy:": self.proxied,
        }.get(what, self.transport == what)

    @cached_property
    def bound_address(self) -> BoundAddress | None:
        """The address it binds, to detect conflicts; None if that is unknown or left to the system."""
        if self.kind == "unix":
            return BoundAddress("unix", os.path.normpath(self.arguments["address"]), "")
        if "name" in self.arguments:
            return BoundAddress("name", self.arguments["name"], "")
        if self.kind in INHERITED:
            fd = self.arguments.get("fileno") or str(FIRST_DESCRIPTOR + int(self.arguments["index"]))
            return BoundAddress("descriptor", fd, "")
        port = self.arguments.get("port", "0")
        if port == "0":
            return None
        host = self.arguments["interface"]
        if host.startswith("::ffff:"):  # an IPv4 address mapped into IPv6 is what it is
            host = str(IPv6Address(host).ipv4_mapped or host)
        family = ("udp" if self.transport == "UDP" else "tcp") + ("6" if ":" in host else "4")
        return BoundAddress(family, host, port)

    def socket_key(self) -> tuple[object, ...]:
        """Equal for two descriptions that can share one listening socket, whatever answers on it."""
        if self.kind == "unix":
            return ("unix", self.arguments["address"])
        where = self.bound_address
        # The system chooses the port of each such endpoint.
        return where or (self.transport == "UDP", self.arguments["interface"], self.endpoint.name)

    def foreign_key(self) -> tuple[object, ...]:
        """Equal for two descriptions of what only Twisted or a plugin opens, if one port can serve both."""
        if self.kind not in PARAMETERS:
            return ("foreign", self.endpoint.listen)
        arguments = {name: value for name, value in self.arguments.items() if name not in CREDENTIALS}
        return ("foreign", self.kind, self.proxied, frozenset(arguments.items()))

    @cached_property
    def credentials(self) -> tuple[str, ...]:
        """The files that an ``ssl:`` endpoint needs, or the directory; none for other types."""
        if self.kind != "ssl":
            return ()
        own = [self.arguments[name] for name in FILES if name in self.arguments]
        return (*own, *map(str, self.endpoint.tls.files().values()))


def may_speak(description: Description) -> frozenset[str]:
    """The transports that *description* may turn out to have, of TCP, UDP, TLS and UNIX.

    A plugin's type is a stream, and what else it is nobody knows.
    """
    if description.kind == "fd":
        return frozenset({"TCP", "UDP", "UNIX"})
    if description.kind == "systemd":
        return frozenset({"UNIX"} if description.transport == "UNIX" else {"TCP", "UDP"})
    return frozenset({TRANSPORTS.get(description.kind, "TCP")})


def shown_socket(path: str) -> str:
    """The path of a UNIX socket, for people; ``@`` marks an abstract one, as in ss(8)."""
    return one_line("@" + path[1:]) if path.startswith("\0") else shown(path)


class Claims:
    """The addresses that endpoints claim; no two may conflict."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, str], dict[str, str]] = {}

    def add(self, claim: BoundAddress, name: str) -> str | None:
        """Claim an address for the endpoint *name*; return the endpoint that has it already, if one has."""
        hosts = self._hosts.setdefault((claim.family, claim.port), {})
        for host in (claim.host, ANY, ANY6):
            if host in hosts:
                return hosts[host]
        if claim.host in EVERY_HOST and hosts:
            return next(iter(hosts.values()))
        hosts[claim.host] = name
        return None

    def shares_port(self, claim: BoundAddress) -> bool:
        """Whether an IPv4 endpoint claims the port of *claim*, an IPv6 address, for the same protocol."""
        return bool(self._hosts.get((claim.family.replace("6", "4"), claim.port)))


def separate(descriptions: Iterable[Description], claims: Claims) -> list[Description]:
    """*descriptions*; one for every IPv6 address leaves IPv4 to those that claim its port with it."""
    found = []
    for description in descriptions:
        claim = description.bound_address
        if claim is not None and claim.host == ANY6 and claims.shares_port(claim):
            description = replace(description, v6only=True)  # noqa: PLW2901
        found.append(description)
    return found
