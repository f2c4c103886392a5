"""What can go wrong because of a user, in one small tree, and the exit codes it leads to.

Rules: an error carries its data as attributes; its text is one line that names the bad value and
what was expected (`MistakesError`: one line for each mistake); nothing in this tree is ever shown with a
traceback.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


class MistakesError(SuiteError):
    """Several mistakes in one configuration; the text has one line for each.

    :ivar errors: the mistakes, in the order in which they appear in the file.
    """

    exit_code = EXIT_USAGE

    def __init__(self, *errors: ConfigError) -> None:
        super().__init__(*errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


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


class UnwritableError(CertificateError):
    """A certificate or key that cannot be written now: a full disk, another user's directory, a lock."""

    exit_code = EXIT_FAILURE  # 2 would tell systemd's RestartPreventExitStatus= that another start is in vain


class Mistakes:
    """Collects the mistakes in one configuration, so that all of them can be reported at once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, ConfigError]] = {}
        self._places: dict[str, int] = {}

    def in_order(self, keys: Iterable[str]) -> None:
        """Sort mistakes by *keys*: the dotted keys of the file, in the order in which they appear."""
        self._places = {key: place for place, key in enumerate(keys)}

    @contextmanager
    def noted(self, key: str | None = None) -> Iterator[None]:
        """Collect the mistake that ends the block, if one does.

        :param key: where the mistake is in the file; default: the key that the error names.
        """
        try:
            yield
        except MistakesError as error:
            for one in error.errors:
                self.note(one, key)
        except ConfigError as error:
            self.note(error, key)

    def note(self, error: ConfigError, key: str | None = None) -> None:
        """Collect *error*; the same text is reported once, however many endpoints inherit the mistake."""
        self._found.setdefault(str(error), (key or error.key or "", error))

    def raise_any(self) -> None:
        """Report what has been collected.

        :raises ConfigError: the only mistake there is.
        :raises MistakesError: there are several.
        """
        found = sorted(self._found.values(), key=lambda item: self._place(item[0]))
        if len(found) == 1:
            raise found[0][1]
        if found:
            raise MistakesError(*(error for _, error in found))

    def _place(self, key: str) -> int:
        """Where *key* is in the file; for one that is missing there, where the table around it is."""
        while key and key not in self._places:
            key = key.rpartition(".")[0]
        return self._places.get(key, -1)


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


class CompanionError(ListenError):
    """The control socket, or one of the admin interface, that could not be opened.

    :ivar endpoint: the key of the configuration that has it.
    :ivar address: where it should have listened, for people.
    :ivar reason: what the operating system said.
    """

    def __str__(self) -> str:
        return one_line(f"{self.endpoint}: cannot listen on {self.address}: {self.reason}")


class StoppingError(SuiteError):
    """The suite is stopping, so it takes no other configuration."""

    def __str__(self) -> str:
        return "the suite is stopping"


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
