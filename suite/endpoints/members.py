"""Whom the limits `users` and `groups` admit, by id.

Rule: the system is asked while the configuration is read, not at accept: a directory service may be far away.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from suite.config.limits import Limits
from suite.system import Members, group_id, user_id


class Lookup:
    """Looks up the names in one configuration, each once."""

    def __init__(self) -> None:
        # By limit and name; None: there is none of that name.
        self._ids: dict[tuple[str, str], int | None] = {}

    def members(self, limits: Limits, note: Callable[[str, str], object]) -> Members:
        """Whom *limits* admit.

        :param note: called with a limit and what is wrong with it, such as a name that does not exist.
        """
        return Members(
            self._found("users", limits.users, user_id, note),
            self._found("groups", limits.groups, group_id, note),
        )

    def _found(
        self,
        limit: str,
        names: tuple[str, ...],
        find: Callable[[str], int],
        note: Callable[[str, str], object],
    ) -> frozenset[int]:
        if names and not hasattr(socket, "SO_PEERCRED"):
            note(limit, "cannot be enforced on this system; expected Linux")
            return frozenset()
        found = set()
        for name in names:
            if (limit, name) not in self._ids:
                try:
                    self._ids[limit, name] = find(name)
                except KeyError:
                    self._ids[limit, name] = None
            each = self._ids[limit, name]
            if each is None:
                note(limit, f"{name!r} does not exist; expected a {limit[:-1]} of this system")
            else:
                found.add(each)
        return frozenset(found)
