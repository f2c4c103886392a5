"""The ``[admin]`` table: where a running suite shows what it does, over HTTP, and who may change it there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from suite.config.values import Values

KEYS: Final = ("hosts", "listen", "token_file")

_LISTEN: Final = 'an endpoint description, such as "tcp:9901" or "unix:run/admin.sock", or an array of them'
_HOSTS: Final = 'an array of host names, such as ["echo.example"]'
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")


@dataclass(frozen=True)
class AdminTable:
    """What the table says.

    :ivar listen: the descriptions of its sockets, one at least.
    :ivar token_file: the file with the token that allows changes over TCP; None: nobody may make any there.
    :ivar hosts: the names under which it may be asked for, beside ``localhost`` and every IP address.
    """

    listen: tuple[str, ...]
    token_file: Path | None = None
    hosts: frozenset[str] = frozenset()


class _Admin(Values):
    """Reads the values of the table."""

    def listen(self, value: object, key: str) -> tuple[str, ...]:
        if isinstance(value, str):
            return (self.string(value, key, _LISTEN),)
        if not isinstance(value, list):
            raise self.wrong_type(key, value, _LISTEN)
        if not value:
            raise self.error(key, f"is empty; expected {_LISTEN}")
        return self.each(value, key, lambda item, key: self.string(item, key, _LISTEN))

    def token_file(self, value: object, key: str) -> Path:
        return self.path(value, key, "the path of a file with a token")

    def hosts(self, value: object, key: str) -> frozenset[str]:
        if not isinstance(value, list):
            raise self.wrong_type(key, value, _HOSTS)
        return frozenset(self.each(value, key, self.host))

    def host(self, value: object, key: str) -> str:
        text = self.string(value, key, _HOSTS).lower()
        if not _HOST.fullmatch(text):
            raise self.error(key, f"{text!r} is not a host name; expected one without a port or a wildcard")
        return text.rstrip(".")


def read_admin(values: Values, value: object) -> AdminTable | None:
    """The table *value*; what is wrong with it is in the mistakes of *values*.

    :returns: None if it does not say where to listen.
    :raises ConfigError: it is no table, or has no `listen`.
    """
    reader = _Admin(values.file, values.directory, values.mistakes)
    table = reader.table(value, "admin", KEYS)
    found = reader.values(
        table, "admin", {"hosts": reader.hosts, "listen": reader.listen, "token_file": reader.token_file}
    )
    if "listen" not in table:
        raise reader.error("admin.listen", f"missing; expected {_LISTEN}")
    return AdminTable(**found) if found.get("listen") else None
