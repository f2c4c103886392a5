"""Targets: what a client is pointed at, as Twisted describes client endpoints.

Rules: Twisted's own syntax and quoting, ``tcp:HOST:PORT``, ``tls:HOST:PORT``, ``unix:PATH``, and
``udp:HOST:PORT``, which Twisted does not have; nothing is looked up or opened here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, get_args

# Its tokenizer has no public door; see suite.endpoints.descriptions.
from twisted.internet.endpoints import _parse, quoteStringArgument

from suite.config import file as config
from suite.config.environment import NO_ENVIRONMENT, Environment
from suite.endpoints.descriptions import EVERY_HOST, MAX_UNIX_PATH, Description
from suite.endpoints.parser import parse_all
from suite.errors import Mistakes, UsageError
from suite.text import shown, suggest

Transport = Literal["tcp", "tls", "unix", "udp"]

TRANSPORTS: Final[tuple[Transport, ...]] = get_args(Transport)

#: Parameters by position, as Twisted's client parsers take them.
PARAMETERS: Final = {
    "tcp": ("host", "port"),
    "tls": ("host", "port"),
    "udp": ("host", "port"),
    "unix": ("path",),
}

EXPECTED: Final = "expected tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:PATH"

#: What else users call the transports, in URLs and in endpoint descriptions.
SCHEMES: Final[dict[str, str]] = {
    "tcp": "tcp",
    "tcp6": "tcp",
    "tls": "tls",
    "ssl": "tls",
    "https": "tls",
    "udp": "udp",
    "udp6": "udp",
    "unix": "unix",
}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z0-9+.-]+)://(?P<where>(?:\[[^\]]*\]|[^/:]*)(?P<port>:[0-9]+)?)/?.*", re.DOTALL
)

#: An IPv6 address as URLs have it, for which no colon needs an escape: ``tcp:[::1]:1234``.
_BRACKETED = re.compile(r"(?P<before>[A-Za-z]+:(?:host=)?)\[(?P<host>[^\]\[]*)\](?P<after>:.*)?", re.DOTALL)


@dataclass(frozen=True)
class Target:
    """What a client is pointed at.

    :ivar text: the description, as the user wrote it; or as they could have, for one of a configuration.
    :ivar host: a name or an address, without brackets; empty for ``unix``.
    :ivar port: 1 to 65535; 0 for ``unix``.
    :ivar path: the path of a UNIX socket, with a NUL first if it is abstract; empty for the others.
    :ivar proxied: whether it is known to expect a PROXY header.
    """

    text: str
    transport: Transport
    host: str = ""
    port: int = 0
    path: str = ""
    proxied: bool = False

    @property
    def loopback(self) -> bool:
        """Whether its text says that it is on this machine."""
        if self.transport == "unix":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower().rstrip(".") == "localhost"


def parse_target(text: str) -> Target:
    r"""Parse *text*.

    An IPv6 host is written as Twisted has it (``tcp:\:\:1:1234``) or in brackets (``tcp:[::1]:1234``);
    an abstract UNIX socket with ``@`` first, as ss(8) shows it.

    :raises UsageError: it is not a target.
    """
    return _parse_target(text, _unbracketed(text))


def _unbracketed(text: str) -> str:
    found = _BRACKETED.fullmatch(text)
    if found is None or ":" not in found["host"]:
        return text
    return f"{found['before']}{quoteStringArgument(found['host'])}{found['after'] or ''}"


def _parse_target(text: str, description: str) -> Target:
    def error(problem: str) -> UsageError:
        return UsageError(f"{text!r}: {problem}")

    try:
        positional, named = _parse(description)
    except (RuntimeError, StopIteration):  # a backslash at the end
        raise error(f"ends in the middle of an escape; {EXPECTED}") from None
    except UnicodeEncodeError:  # what Twisted says of names that are none
        raise error(f"has a parameter whose name is not ASCII; {EXPECTED}") from None
    url = _URL.fullmatch(text)
    if url is not None:
        kind = SCHEMES.get(url["scheme"].lower(), "tcp")
        where = url["where"] + ("" if url["port"] else ":PORT")
        if kind == "unix":
            where = text.partition("://")[2]
        raise error(f"is a URL; did you mean {kind}:{where}?")
    kind, *values = positional or [""]
    transport = next((known for known in TRANSPORTS if known == kind.lower()), None)
    if transport is None:
        raise error(f"{kind!r} is not a kind of target{_meant(text, kind)}")
    parameters = PARAMETERS[transport]
    if len(values) > len(parameters):
        hint = "; an IPv6 address goes in brackets" if transport != "unix" else ""
        raise error(f"{values[len(parameters)]!r} is one part too many; {EXPECTED}{hint}")
    given = dict(zip(parameters, values, strict=False))
    for name, value in named.items():
        if name not in parameters:
            raise error(f"{name!r} is not a parameter of {transport}:{suggest(name, parameters)}")
        if name in given:
            raise error(f"{name} is given twice; expected it once")
        given[name] = value
    for name in parameters:
        if not given.get(name):
            raise error(f"has no {name}; {EXPECTED}")
    if transport == "unix":
        return Target(text, transport, path=_socket_path(given["path"], error))
    host, port = given["host"], given["port"]
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        what = "out of range" if re.fullmatch("-?[0-9]+", port) else "not a number"
        raise error(f"port {port!r} is {what}; expected 1 to 65535")
    if not host.isprintable() or any(c.isspace() or c in "/@[]" for c in host):
        raise error(
            f"host {host!r} is neither a name nor an address; expected one such as localhost or [::1]"
        )
    return Target(text, transport, host=host, port=int(port))


def _meant(text: str, kind: str) -> str:
    """What *text*, whose *kind* is not one of a target, was probably meant to be."""
    rest = text.partition(":")[2]
    meant = SCHEMES.get(kind.lower()) or next(iter(get_close_matches(kind.lower(), TRANSPORTS, n=1)), None)
    if meant is not None and rest:
        return f"; did you mean {meant}:{rest}?"
    if rest.isdigit():
        return f"; did you mean tcp:{text}? {EXPECTED}"
    if text.isdigit():
        return f"; did you mean tcp:localhost:{text}? {EXPECTED}"
    return f"; {EXPECTED}"


def _socket_path(path: str, error: Callable[[str], UsageError]) -> str:
    if path.startswith("@"):
        path = "\0" + path[1:]
    if "\0" in path[1:] or path == "\0":
        raise error(f"{path!r} cannot be used; expected the path of a UNIX socket")
    length = len(os.fsencode(path))
    if length > MAX_UNIX_PATH:
        raise error(f"path of {length} bytes; expected {MAX_UNIX_PATH} at the most")
    return path


def targets_of_config(
    file: Path,
    say: Callable[[str], None],
    answer: str = "echo",
    environment: Environment = NO_ENVIRONMENT,
) -> list[Target]:
    """The endpoints of the configuration *file* with this *answer*, as targets.

    :param say: is given one line for each endpoint that answers something else, or that cannot be reached
        from what the file says.
    :param environment: declares endpoints, too.
    :raises ConfigError: it cannot be used.
    :raises MistakesError: it cannot be used, for several reasons.
    :raises UsageError: nothing in it can be reached.
    """
    targets = []
    mistakes = Mistakes()
    settings = config.read(file, mistakes, environment)
    descriptions = parse_all(settings, mistakes)
    mistakes.raise_any()
    for description in descriptions:
        problem = _unreachable(description)
        if description.endpoint.answer != answer:
            problem = f"its answer is {description.endpoint.answer}, not {answer}"
        if problem is None:
            targets.append(_target_of(description))
        else:
            say(f"skipped: endpoints.{description.endpoint.name}: {problem}")
    if not targets:
        raise UsageError(
            f"{settings.source}: none of its endpoints can be reached; expected at least one that can"
            + ("" if answer == "echo" else f', with answer = "{answer}"')
        )
    return targets


def _unreachable(description: Description) -> str | None:
    """Why *description* does not say where or how it can be reached; None if it does."""
    if description.kind != "unix" and "port" not in description.arguments:
        return f"{description.kind}: does not say where it listens; name its address as a TARGET"
    if description.arguments.get("port") == "0":
        return "port 0 is a different port each time; name the current one in a TARGET"
    return None


def _target_of(description: Description) -> Target:
    arguments = description.arguments
    if description.kind == "unix":
        path = arguments["address"]
        text = f"unix:{quoteStringArgument(_shown_socket(path))}"
        return Target(text, "unix", path=path, proxied=description.proxied)
    transport: Final = {"TCP": "tcp", "TLS": "tls", "UDP": "udp"}[description.transport]
    host = EVERY_HOST.get(arguments["interface"], arguments["interface"])
    shown_host = f"[{host}]" if ":" in host else host
    target = parse_target(f"{transport}:{shown_host}:{arguments['port']}")
    return replace(target, proxied=description.proxied)


def _shown_socket(path: str) -> str:
    return "@" + path[1:] if path.startswith("\0") else shown(path)
