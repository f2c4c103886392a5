"""Where a suite is asked about itself: the control socket, and the sockets of the admin interface.

Rules: each has an address of its own, which no endpoint may have; a UNIX socket has a path, and its mode,
which decides who may connect, is 600 unless the configuration says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from typing_extensions import override

from suite.config.file import Config, Endpoint
from suite.config.tls import TLS
from suite.endpoints.descriptions import Claims, Description, separate
from suite.endpoints.members import Lookup
from suite.endpoints.parser import Parser
from suite.errors import ConfigError, Mistakes
from suite.text import shown

#: The mode of a UNIX socket: for its owner alone, as that of HAProxy's `stats socket` in its examples.
SOCKET_MODE: Final = "600"


class _ControlParser(Parser):
    """Parses the description of the control socket."""

    #: Where the descriptions stand in the file, the types that they may have, and what is expected.
    place: ClassVar[str] = "control"
    kinds: ClassVar[frozenset[str]] = frozenset({"unix"})
    expected: ClassVar[str] = "is not a UNIX socket; expected one such as unix:run/control.sock"

    @override
    def error(self, problem: str) -> ConfigError:
        return ConfigError(shown(self.config.file), self.place, problem)

    @override
    def arguments(self, kind: str, positional: list[str], named: dict[str, str]) -> dict[str, str]:
        self.check_plugin(kind)
        if kind == "unix" and len(positional) < 2:
            named = {"mode": SOCKET_MODE} | named
        arguments = super().arguments(kind, positional, named)
        if arguments.get("address", "").startswith("\0"):
            raise self.error(
                f"{self.endpoint.listen!r} is an abstract socket, open to everybody; expected a path"
            )
        return arguments

    @override
    def check_plugin(self, kind: str) -> None:
        """Check that there may be a socket of this *kind* here.

        :raises ConfigError: there may not.
        """
        if kind not in self.kinds or self.endpoint.listen[:8].lower() == "haproxy:":
            raise self.error(f"{self.endpoint.listen!r} {self.expected}")


class _AdminParser(_ControlParser):
    """Parses the description of a socket of the admin interface."""

    place = "admin.listen"
    kinds = frozenset({"tcp", "tcp6", "unix"})
    expected = "cannot be used; expected a tcp:, tcp6: or unix: description, such as tcp:9901"


def parse_companions(
    config: Config, descriptions: Iterable[Description], mistakes: Mistakes
) -> dict[str, list[Description]]:
    """The descriptions of the sockets of each companion, by its name; none where there is to be none.

    :param descriptions: the endpoints, whose addresses are taken.
    """
    claims = Claims()
    for other in descriptions:
        taken = other.bound_address
        if taken is not None:
            claims.add(taken, f"endpoints.{other.endpoint.name}")
    control = [] if config.control is None else [config.control]
    admin = config.admin.listen if config.admin is not None else ()
    return {
        "control": _parse_each(_ControlParser, "control", control, config, claims, mistakes),
        "admin": _parse_each(_AdminParser, "admin", admin, config, claims, mistakes),
    }


def _parse_each(
    kind: type[_ControlParser],
    name: str,
    texts: Iterable[str],
    config: Config,
    claims: Claims,
    mistakes: Mistakes,
) -> list[Description]:
    found = []
    for text in texts:
        parser = kind(config, Endpoint(name, text, TLS()), mistakes, Lookup())
        with mistakes.noted(kind.place):
            description = parser.parse()
            claim = description.bound_address
            taken = claims.add(claim, kind.place) if claim is not None else None
            if taken is not None:
                own = "a path" if description.kind == "unix" else "an address"
                raise parser.error(f"{description.address} is taken by {taken}; expected {own} of its own")
            found.append(description)
    return separate(found, claims)
