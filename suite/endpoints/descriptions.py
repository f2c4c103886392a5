"""Endpoint description strings: what they may say, and the endpoint each one stands for.

Rules: Twisted's own syntax and quoting; what Twisted knows is checked here before anything opens,
so that a mistake is named in the user's words; what only a plugin knows is left to it. Two defaults
differ from Twisted's: everything binds loopback unless told otherwise, and the backlog is 4096.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, execute, fail

# `_parse` is the one private name of Twisted's here: its tokenizer has no public door.
# tests/endpoints/test_descriptions.py holds it to its documented syntax.
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    SSL4ServerEndpoint,
    _parse,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.plugin import getPlugins
from zope.interface import implementer

from suite.certs import load_identity, shown
from suite.config.file import Config, Endpoint, suggest
from suite.config.limits import host_and_port
from suite.endpoints.proxy_protocol import ProxyFactory, ProxyHeader
from suite.endpoints.tls import ContextFactory, server_context
from suite.errors import CertificateError, ConfigError, ListenError, one_line
from suite.guard.streams import Guard, group_ids, user_ids

#: The longest path in a ``sockaddr_un`` (Linux, unix(7); the BSDs and macOS: 103), without its NUL.
MAX_UNIX_PATH: Final = 107 if sys.platform == "linux" else 103

#: Linux's default for ``net.core.somaxconn`` since 5.4, which cuts off what is larger.
DEFAULT_BACKLOG: Final = "4096"

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

REQUIRED: Final = {
    "unix": ("address",),
    "systemd": ("domain",),
    "fd": ("fileno",),
    "tls": ("path",),
}

DEFAULTS: Final[dict[str, dict[str, str]]] = {
    "tcp": {"interface": LOOPBACK, "backlog": DEFAULT_BACKLOG},
    "tcp6": {"interface": LOOPBACK6, "backlog": DEFAULT_BACKLOG},
    "ssl": {"privateKey": "server.pem", "interface": LOOPBACK, "backlog": DEFAULT_BACKLOG},
    "tls": {"port": "443", "interface": LOOPBACK, "backlog": DEFAULT_BACKLOG},
    "unix": {"mode": "660", "backlog": DEFAULT_BACKLOG, "lockfile": "1"},
    "udp": {"interface": LOOPBACK},
    "udp6": {"interface": LOOPBACK6},
}

#: Parameters that are paths, relative to the configuration file.
PATHS: Final = {"privateKey", "certKey", "extraCertChain", "dhParameters", "address", "path"}

#: Parameters that make an OpenSSL context, which can be replaced under an open port.
CREDENTIALS: Final = {"privateKey", "certKey", "sslmethod", "extraCertChain", "dhParameters"}

#: `sslmethod` values, which Twisted still takes, and the one version each of them means, if one.
SSL_METHODS: Final = {"TLS_METHOD": None, "SSLv23_METHOD": None, "TLSv1_2_METHOD": "1.2"}

#: Limits that mean something on some transports only; see `Description.has`.
FITTING: Final = {
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

#: What stands between the colons that mean something.
_PART = re.compile(r"((?:\\.|[^:\\])*)(?::|$)", re.DOTALL)

_HOST_NAME = re.compile(r"(?!\d+(\.\d+)*$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


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

    def has(self, what: str) -> bool:
        """Whether it has *what* some limits are about, as in `FITTING`."""
        return {
            "streams": self.transport != "UDP",
            "addresses": self.transport != "UNIX",
            "addresses of streams": self.transport not in ("UDP", "UNIX"),
            "haproxy:": self.proxied,
        }.get(what, self.transport == what)

    def claims(self, bound: int = 0) -> tuple[str, str, str] | None:
        """What no other endpoint may have: family of sockets, host or path, port; None: nothing.

        :param bound: the port that it has, where it leaves that to the system.
        """
        if self.kind == "unix":
            return ("unix", os.path.normpath(self.arguments["address"]), "")
        if "port" not in self.arguments:
            return None
        port = int(self.arguments["port"]) or bound
        if port == 0:
            return None
        host = self.arguments["interface"]
        family = "6" if ":" in host else "4"
        return (("udp" if self.transport == "UDP" else "tcp") + family, host, str(port))

    def bound_to(self, port: int) -> Description:
        """The same at *port*, if it is of a kind that has one."""
        if "port" not in self.arguments:
            return self
        return replace(self, arguments={**self.arguments, "port": str(port)})

    def place(self) -> tuple[object, ...]:
        """What stays the same as long as the same socket will do."""
        if self.kind not in PARAMETERS:
            return (self.endpoint.listen,)
        said = {name: value for name, value in self.arguments.items() if name not in CREDENTIALS}
        return (self.kind, self.proxied, frozenset(said.items()))

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


class _Parser:
    """Parses one description; an error knows whose it is."""

    def __init__(self, config: Config, endpoint: Endpoint) -> None:
        self.config = config
        self.endpoint = endpoint

    def error(self, problem: str) -> ConfigError:
        return ConfigError(shown(self.config.file), f"endpoints.{self.endpoint.name}.listen", problem)

    def parse(self) -> Description:
        text = self.endpoint.listen
        try:
            positional, named = _parse(text)
        except (RuntimeError, StopIteration):  # a backslash at the end
            raise self.error(
                f"{text!r} ends in the middle of an escape; expected a character after it"
            ) from None
        except UnicodeEncodeError as error:
            raise self.error(f"{error.object!r} is no parameter of any type; expected ASCII") from None
        names = [name for part in _PART.findall(text) for name in _parse(part)[1]]
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
        if self.endpoint.own_tls is not None and kind != "ssl":
            raise ConfigError(
                shown(self.config.file),
                f"endpoints.{self.endpoint.name}.tls",
                f"does not go with {kind}:; expected listen to be an ssl: description",
            )
        if kind not in PARAMETERS:
            self.check_plugin(kind)
            return self.fitting(Description(self.endpoint, kind, {}, proxied))
        return self.fitting(
            Description(self.endpoint, kind, self.arguments(kind, positional, named), proxied)
        )

    def fitting(self, description: Description) -> Description:
        """The same; what is set for this endpoint alone has to mean something there."""
        for name in sorted(self.endpoint.own_limits):
            if not description.has(FITTING[name]):
                raise self.limit_error(
                    name, f"does not go with {description.kind}:; it is about {FITTING[name]}"
                )
        if description.transport == "UNIX":
            for name, ids in (("users", user_ids), ("groups", group_ids)):
                self.check_names(name, getattr(self.endpoint.limits, name), ids)
        return description

    def check_names(
        self, limit: str, names: tuple[str, ...], ids: Callable[[Iterable[str]], Iterator[int]]
    ) -> None:
        if names and not hasattr(socket, "SO_PEERCRED"):
            raise self.limit_error(limit, "cannot be kept on this system; expected Linux")
        for name in names:
            try:
                list(ids([name]))
            except KeyError:
                raise self.limit_error(
                    limit, f"{name!r} does not exist; expected a {limit[:-1]} of this system"
                ) from None

    def limit_error(self, limit: str, problem: str) -> ConfigError:
        return ConfigError(shown(self.config.file), self.endpoint.limits_key(limit), problem)

    def check_plugin(self, kind: str) -> None:
        known = {plugin.prefix.lower() for plugin in getPlugins(IStreamServerEndpointStringParser)}
        if kind.lower() not in known:
            raise self.error(f"{kind!r} is no endpoint type{suggest(kind, known | PARAMETERS.keys())}")

    def arguments(self, kind: str, positional: list[str], named: dict[str, str]) -> dict[str, str]:
        parameters = PARAMETERS[kind]
        if len(positional) > len(parameters):
            raise self.error(
                f"{positional[len(parameters)]!r} is one argument too many; expected"
                f" {kind}:{':'.join(parameters)} at the most"
            )
        given = dict(zip(parameters, positional, strict=False))
        for name, value in named.items():
            if name not in parameters:
                raise self.error(f"{name!r} is no parameter of {kind}:{suggest(name, parameters)}")
            if name in given:
                raise self.error(f"{name!r} is given twice; expected it once")
            given[name] = value
        for name in REQUIRED.get(kind, ("port",)):
            if not given.get(name):
                raise self.error(f"{name} is missing; expected {kind}:{name.upper()}…")
        arguments = DEFAULTS.get(kind, {}) | given
        for name, value in arguments.items():
            if name in CHECKS:
                arguments[name] = CHECKS[name](self, name, value)
            if name in PATHS:
                arguments[name] = self.path(name, value)
        if kind == "systemd":
            self.check_systemd(arguments)
        if kind in ("udp", "udp6") and _HOST_NAME.fullmatch(arguments["interface"]):
            raise self.error(
                f"interface {arguments['interface']!r} is a name; expected an address for {kind}:"
            )
        if kind == "ssl":
            arguments.setdefault("certKey", arguments["privateKey"])
        return arguments

    # Each of these returns the value, in its shortest form.

    def number(self, name: str, value: str, low: int, high: int) -> str:
        digits = value.lstrip("0") or value[-1:]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and low <= int(digits) <= high):
            raise self.error(f"{name} {value!r} is out of range; expected {low} to {high}")
        return digits

    def check_port(self, name: str, value: str) -> str:
        return self.number(name, value, 0, 65535)

    def check_backlog(self, name: str, value: str) -> str:
        return self.number(name, value, 1, 2**31 - 1)

    def check_index(self, name: str, value: str) -> str:
        return self.number(name, value, 0, 2**31 - 1)

    def check_mode(self, name: str, value: str) -> str:
        if not re.fullmatch(r"0?[0-7]{3}", value):
            raise self.error(f"{name} {value!r} is no file mode; expected three octal digits, such as 660")
        return value

    def check_lockfile(self, name: str, value: str) -> str:
        if value not in ("0", "1"):
            raise self.error(f"{name} {value!r} is unknown; expected 0 or 1")
        return value

    def check_interface(self, name: str, value: str) -> str:
        try:
            return str(ip_address(value))
        except ValueError:
            if value and not _HOST_NAME.fullmatch(value):
                raise self.error(
                    f"{name} {value!r} is no address; expected one such as 127.0.0.1 or \\:\\:1"
                ) from None
            return value

    def check_sslmethod(self, name: str, value: str) -> str:
        if value not in SSL_METHODS:
            raise self.error(
                f"{name} {value!r} is not offered{suggest(value, SSL_METHODS)}; tls.minimum and"
                " tls.maximum choose versions"
            )
        return value

    def check_systemd(self, arguments: dict[str, str]) -> None:
        if arguments["domain"] not in ("INET", "INET6", "UNIX"):
            raise self.error(f"domain {arguments['domain']!r} is unknown; expected INET, INET6 or UNIX")
        if ("index" in arguments) == ("name" in arguments):
            raise self.error("expected either index= or name=, and not both")

    def path(self, name: str, value: str) -> str:
        if not value:
            raise self.error(f"{name} is empty; expected a path")
        abstract = name == "address" and value.startswith("\0")  # unix(7): a name, not a file
        if "\0" in value[abstract:]:
            raise self.error(f"{name} {value!r} cannot be used; expected a path")
        path = value if abstract else os.path.normpath(self.config.directory / value)
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


CHECKS: Final[dict[str, Callable[[_Parser, str, str], str]]] = {
    "port": _Parser.check_port,
    "backlog": _Parser.check_backlog,
    "fileno": _Parser.check_index,
    "index": _Parser.check_index,
    "mode": _Parser.check_mode,
    "lockfile": _Parser.check_lockfile,
    "interface": _Parser.check_interface,
    "sslmethod": _Parser.check_sslmethod,
}


def parse(config: Config) -> list[Description]:
    """Take the descriptions of all endpoints apart, without opening or reading anything.

    :raises ConfigError: one of them cannot be understood, or two want the same address.
    """
    descriptions = [_Parser(config, endpoint).parse() for endpoint in config.endpoints]
    claimed: dict[tuple[str, str, str], str] = {}
    for description in descriptions:
        claim = description.claims()
        if claim is None:
            continue
        for other, name in claimed.items():
            if collide(claim, other):
                raise _Parser(config, description.endpoint).error(
                    f"{description.address} is taken by endpoints.{name}; expected an address of its own"
                )
        claimed[claim] = description.endpoint.name
    return descriptions


def collide(one: tuple[str, str, str] | None, other: tuple[str, str, str] | None) -> bool:
    """Whether only one of two endpoints can be open, by what they claim."""
    if one is None or other is None or (one[0], one[2]) != (other[0], other[2]):
        return False
    return one[1] == other[1] or one[1] in EVERY_HOST or other[1] in EVERY_HOST


class UDPServerEndpoint:
    """What Twisted has no endpoint for: a UDP port."""

    def __init__(self, reactor: Any, port: int, interface: str) -> None:
        self.reactor = reactor
        self.port = port
        self.interface = interface

    def listen(self, protocol: DatagramProtocol) -> Deferred[IListeningPort]:
        """Open the port for *protocol*; fails with `CannotListenError` if it cannot be bound."""
        listening: Deferred[IListeningPort] = execute(
            self.reactor.listenUDP, self.port, protocol, self.interface
        )
        return listening


@implementer(IStreamServerEndpoint)
class InheritedServerEndpoint:
    """A listening stream socket that our parent has left open as descriptor *fileno*."""

    def __init__(self, reactor: Any, fileno: int) -> None:
        self.reactor = reactor
        self.fileno = fileno

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Adopt the socket; fails with `OSError` if the descriptor is no listening stream socket."""
        try:
            inherited = socket.socket(fileno=self.fileno)
            try:
                if not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    raise OSError(errno.EINVAL, "the socket is not listening")
                family = inherited.family
            finally:
                inherited.detach()
        except OSError:
            return fail()
        endpoint = AdoptedStreamServerEndpoint(self.reactor, self.fileno, family)
        adopted: Deferred[IListeningPort] = endpoint.listen(factory)
        return adopted


class Opening:
    """One endpoint, ready to be opened.

    :param reactor: a reactor, or `suite.engine.listeners.Listeners` on top of one.
    :param description: what to open.
    :param context: the OpenSSL context of an ``ssl:`` endpoint.
    :param answer: what answers there: a protocol factory, for a UDP port a datagram protocol.
    :param guard: is asked whose PROXY headers to take, and told of those that were not; None: all are.
    """

    def __init__(
        self,
        reactor: Any,
        description: Description,
        context: SSL.Context | None,
        answer: IProtocolFactory | DatagramProtocol,
        guard: Guard | None = None,
    ) -> None:
        self.reactor = reactor
        self.description = description
        self.context_factory: ContextFactory | None = None
        if context is not None:
            self.context_factory = ContextFactory(context, ProxyHeader if description.proxied else None)
        # Over TLS the header comes before the handshake, and is the transport's to read.
        wrapped = description.proxied and context is None
        self.answer: Any = answer
        if wrapped:
            self.answer = ProxyFactory(reactor, cast(IProtocolFactory, answer))
            if guard is not None:
                self.answer.trusted, self.answer.refused = guard.trusts, guard.header_refused

    async def listen(self) -> IListeningPort:
        """Open it.

        :raises ListenError: it cannot be bound, or what it needs is not there.
        """
        try:
            if self.description.transport == "UDP":
                return await self._listen_datagrams()
            return await self._stream_endpoint().listen(self.answer)
        except CannotListenError as error:
            raise self._error(error.socketError) from error
        except Exception as error:  # whatever a plugin, or the system it asks, has to say
            raise self._error(error) from error

    async def _listen_datagrams(self) -> IListeningPort:
        arguments = self.description.arguments
        endpoint = UDPServerEndpoint(self.reactor, int(arguments["port"]), arguments["interface"])
        return await endpoint.listen(self.answer)

    def _stream_endpoint(self) -> IStreamServerEndpoint:
        arguments = self.description.arguments
        if self.context_factory is not None:
            return SSL4ServerEndpoint(
                self.reactor,
                int(arguments["port"]),
                self.context_factory,
                int(arguments["backlog"]),
                arguments["interface"],
            )
        if self.description.kind == "fd":
            return InheritedServerEndpoint(self.reactor, int(arguments["fileno"]))
        endpoint: IStreamServerEndpoint = serverFromString(self.reactor, self.description.text)
        return endpoint

    def _error(self, error: object) -> ListenError:
        if self.description.kind == "systemd" and isinstance(error, LookupError):
            reason = "no such descriptor was inherited (see LISTEN_FDS and LISTEN_FDNAMES)"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        else:
            reason = str(error) or type(error).__name__
        return ListenError(self.description.endpoint.name, self.description.address, reason)


def load_context(config: Config, description: Description) -> SSL.Context | None:
    """The OpenSSL context for an ``ssl:`` description, None for any other.

    :raises ConfigError: a file it names cannot be used.
    """
    if description.kind != "ssl":
        return None
    endpoint, tls = description.endpoint, description.endpoint.tls
    file = shown(config.file)
    listen_key = f"endpoints.{endpoint.name}.listen"
    paths = {name: Path(description.arguments[name]) for name in PATHS & description.arguments.keys()}
    version = SSL_METHODS[description.arguments.get("sslmethod", "TLS_METHOD")]
    if version is not None:
        if version < tls.minimum:
            raise ConfigError(
                file,
                listen_key,
                f"sslmethod allows TLS {version} only; expected at least {tls.minimum}, the minimum",
            )
        tls = replace(tls, minimum=version, maximum=version)
    chains = [path for path in (paths.get("extraCertChain"), tls.chain) if path is not None]
    keys = {shown(path): endpoint.tls_key(name) for name, path in tls.files().items()}
    try:
        return server_context(
            load_identity(paths["certKey"], paths["privateKey"], chains),
            tls,
            session_id=endpoint.name,
            dh_parameters=paths.get("dhParameters"),
        )
    except CertificateError as error:
        raise ConfigError(file, keys.get(error.path, listen_key), str(error)) from error
