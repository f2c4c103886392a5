"""Why a suite could not be asked, for people."""

from __future__ import annotations

import errno
import os
import stat

from suite.errors import SuiteError
from suite.text import one_line, shown


class UnreachableError(SuiteError):
    """A suite that could not be asked.

    :ivar path: where: the path of a UNIX socket, or an address.
    :ivar problem: what came in the way, and what was expected.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        where = shown(self.path) if self.path.startswith(("/", ".")) else self.path
        return one_line(f"{where}: {self.problem}")


def why_not(path: str, what: str, error: OSError) -> str:
    """Why nothing can connect to the UNIX socket at *path*, and the way out.

    :param what: whose socket it is to be, such as "control socket".
    """
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        is_socket = True  # or not there; the error says
    if not is_socket:
        return f"is not a socket; expected the {what} of a running suite"
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return (
            f"no suite is listening there; expected one that has been started, or reloaded, with this {what}"
            " in its configuration"
        )
    if error.errno == errno.EACCES:
        return f"permission denied; {_who_may(path)}"
    if str(error) == "AF_UNIX path too long":
        return "too long for a UNIX socket; expected a path relative to the working directory, perhaps"
    return f"cannot connect: {error.strerror or error}"


def _who_may(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "expected to be run by a user who can enter its directory"
    return f"expected user {found.st_uid}, or what its mode {stat.S_IMODE(found.st_mode):o} permits"
