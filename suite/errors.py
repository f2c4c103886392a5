"""What can go wrong because of a user, in one small tree, and the exit codes it leads to.

Rules: an error carries its data as attributes; its text is one line that names the bad value and
what was expected; nothing in this tree is ever shown with a traceback.
"""

from __future__ import annotations

import os
from typing import Final

from suite.text import one_line

EXIT_OK: Final = 0
#: The suite or a probe failed while running: a port that cannot be bound, for instance.
EXIT_FAILURE: Final = 1
#: The command line or the configuration is wrong (the code that argparse and bash use as well).
EXIT_USAGE: Final = 2


class SuiteError(Exception):
    """Base of every error that a user can cause."""

    exit_code = EXIT_FAILURE


class UsageError(SuiteError):
    """A command line that cannot be followed; its only argument says why."""

    exit_code = EXIT_USAGE

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(SuiteError):
    """A configuration that cannot be used.

    :ivar file: the configuration file (or other file) that is wrong.
    :ivar key: the dotted key in it, such as ``endpoints.tls.listen``; ``None`` for the whole file.
    :ivar problem: the bad value and what was expected.
    """

    exit_code = EXIT_USAGE

    def __init__(self, file: str | os.PathLike[str], key: str | None, problem: str) -> None:
        super().__init__(file, key, problem)
        self.file = os.fspath(file)
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return one_line(": ".join(p for p in (self.file, self.key, self.problem) if p))


class CertificateError(SuiteError):
    """A certificate or key that cannot be used, or may not be written.

    :ivar path: the file at fault.
    :ivar problem: what is wrong with it and what was expected.
    """

    exit_code = EXIT_USAGE

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(path, problem)
        self.path = os.fspath(path)
        self.problem = problem

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.problem}")


class ListenError(SuiteError):
    """An endpoint that could not be opened.

    :ivar endpoint: its name in the configuration.
    :ivar address: where it should have listened.
    :ivar reason: what the operating system said.
    """

    def __init__(self, endpoint: str, address: str, reason: str) -> None:
        super().__init__(endpoint, address, reason)
        self.endpoint = endpoint
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return one_line(f"endpoints.{self.endpoint}: cannot listen on {self.address}: {self.reason}")


class PrivilegeError(SuiteError):
    """An identity that could not be taken, or could be given back.

    :ivar wanted: whom the process should act as, for people.
    :ivar problem: what came in the way, and what was expected.
    """

    def __init__(self, wanted: str, problem: str) -> None:
        super().__init__(wanted, problem)
        self.wanted = wanted
        self.problem = problem

    def __str__(self) -> str:
        return one_line(f"cannot run as {self.wanted}: {self.problem}")
