"""Where the admin interface of a running suite is: as the user says, or the configuration.

Rules: of the configuration only its table ``[admin]`` is read, so that a mistake elsewhere is no reason not
to ask the suite, and so that a probe of health starts fast; a UNIX socket comes first, since it needs no
token; a token that the configuration names goes nowhere but to the addresses beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from suite.config.admin import AdminTable, read_admin
from suite.config.document import directory_of, read_document
from suite.config.values import Values
from suite.errors import ConfigError, Mistakes, UsageError
from suite.files import read_file
from suite.text import host_and_port, one_line, shown, unencodable

#: What ``--admin`` takes.
EXPECTED: Final = "unix:run/admin.sock, tcp:localhost:9901 or http://localhost:9901"

_TARGET: Final = re.compile(r"(?:tcp:|http://)(\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/@?#\s]+):([0-9]{1,5})/?")

#: A part of an endpoint description, and the colon that ends it; a backslash escapes both (see Twisted).
_PART: Final = re.compile(r"((?:\\.|[^:\\])*)(?::|$)", re.DOTALL)

#: The parameters of a description, by position.
_PARAMETERS: Final = {
    "unix": ("address",),
    "tcp": ("port", "interface"),
    "tcp6": ("port", "interface"),
}

#: Where a socket for every address is reached from this machine.
_NEAR: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing is bound

#: Bytes of a file with a token.
_LONGEST_TOKEN: Final = 4096


@dataclass(frozen=True)
class Address:
    """Where an admin interface listens.

    :ivar path: the path of its UNIX socket; empty: it is *host* and *port*.
    """

    path: str = ""
    host: str = "localhost"
    port: int = 0

    def __str__(self) -> str:
        return self.path or host_and_port(self.host, self.port)


@dataclass(frozen=True)
class Place:
    """Where a suite may be asked, and with what.

    :ivar addresses: its addresses, one at least, those to be tried first first.
    :ivar token_file: the file with the token for them; None: there is none.
    """

    addresses: tuple[Address, ...]
    token_file: Path | None = None


def parse_address(text: str) -> Address:
    """The address that *text*, the value of ``--admin``, means.

    :raises UsageError: it means none.
    """
    kind, colon, rest = text.partition(":")
    if kind == "unix" and colon and rest:
        return Address(path=rest)
    if not colon and "/" in text:
        return Address(path=text)
    found = _TARGET.fullmatch(text)
    if found is None:
        port = text.removeprefix("tcp").removeprefix(":")
        meant = f"tcp:localhost:{port}" if port.isdigit() else f"tcp:{text}"
        hint = f"did you mean {meant}?" if _TARGET.fullmatch(meant) else f"expected {EXPECTED}"
        raise UsageError(f"--admin {text!r} is not an admin interface; {hint}")
    if not 0 < int(found[2]) < 65536:
        raise UsageError(f"--admin {text!r}: port '{found[2]}' is out of range; expected 1 to 65535")
    return Address(host=found[1].strip("[]"), port=int(found[2]))


def has_only_admin(file: Path) -> bool:
    """Whether the configuration *file* has an admin interface, and no control socket.

    :raises ConfigError: it cannot be read.
    """
    document = read_document(file)
    return "admin" in document and "control" not in document


def configured(file: Path) -> Place:
    """What the configuration *file* says of its admin interface.

    :raises ConfigError: it cannot be read, or has none that can be asked.
    """
    table = _read_table(file)
    found = [_parse(text, file) for text in table.listen]
    addresses = [each for each in found if each is not None]
    if not addresses:
        raise ConfigError(
            shown(file),
            "admin.listen",
            f"{table.listen[0]!r} has a port that the system chooses; name the one that was announced with"
            " --admin, such as tcp:localhost:9901",
        )
    # A UNIX socket needs no token. Where there is one, it goes to no port, on which, while the suite does not
    # run, anybody may listen.
    token_file = None if any(each.path for each in found if each is not None) else table.token_file
    return Place(tuple(sorted(addresses, key=lambda each: not each.path)), token_file)


def _read_table(file: Path) -> AdminTable:
    document = read_document(file)
    if "admin" not in document:
        raise ConfigError(
            shown(file),
            "admin",
            'missing; expected a table [admin] with listen = "unix:run/admin.sock", and a reload (SIGHUP) to'
            " open it; or name that of a suite with --admin",
        )
    mistakes = Mistakes()
    table = read_admin(Values(file, directory_of(file), mistakes), document["admin"])
    if table is None or not table.listen:
        mistakes.raise_any()
        raise AssertionError("a table without `listen` is a mistake")
    return table


def _parse(text: str, file: Path) -> Address | None:
    """The address of the description *text*; None if its port is known to the system alone.

    :raises ConfigError: it cannot be understood.
    """
    given = dict(_arguments(text))
    kind = given.get("", "").lower()
    if kind == "unix" and (problem := unencodable(given.get("address", ""))):
        raise ConfigError(shown(file), "admin.listen", f"address {given['address']!r} {problem}")
    if kind == "unix" and given.get("address"):
        return Address(path=_reachable(os.path.normpath(directory_of(file) / given["address"])))
    port = given.get("port", "")
    if kind not in ("tcp", "tcp6") or not re.fullmatch("[0-9]{1,5}", port):
        raise ConfigError(
            shown(file),
            "admin.listen",
            f"{text!r} cannot be used; expected a tcp:, tcp6: or unix: description, such as tcp:9901",
        )
    any_address, default = ("::", "::1") if kind == "tcp6" else ("0.0.0.0", "127.0.0.1")  # noqa: S104
    host = given.get("interface", default) or any_address
    return Address(host=_NEAR.get(_canonical(host), host), port=int(port)) if int(port) else None


def _arguments(text: str) -> Iterator[tuple[str, str]]:
    """The type of a description, which has no name, and its parameters by name."""
    kind = ""
    for number, part in enumerate(_PART.findall(text)):
        name, equals, value = part.partition("=")
        value = re.sub(r"\\(.)", r"\1", value if equals else part)
        if number == 0:
            kind = value.lower()
            yield "", kind
        elif equals:
            yield name, value
        elif number <= len(_PARAMETERS.get(kind, ())):
            yield _PARAMETERS[kind][number - 1], value


def _canonical(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return host


def _reachable(path: str) -> str:
    """*path*, or a shorter way to it: a UNIX socket's has 107 bytes at the most (unix(7))."""
    try:
        return path if len(os.fsencode(path)) < 108 else min(path, os.path.relpath(path), key=len)
    except OSError:  # the working directory is gone
        return path


def read_client_token(path: Path) -> str:
    """The token in the file at *path*.

    :raises UsageError: there is none.
    """
    try:
        token = read_file(path, _LONGEST_TOKEN).decode("ascii").strip()
    except OSError as error:
        raise UsageError(
            f"{shown(path)}: cannot be read: {error.strerror}; expected the file with the suite's token"
        ) from None
    except UnicodeDecodeError:
        token = ""
    if len(token.split()) != 1 or not token.isprintable():
        raise UsageError(one_line(f"{shown(path)}: contains no token; expected one on one line"))
    return token
