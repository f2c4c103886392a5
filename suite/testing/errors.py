"""What can be wrong with a suite under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Seconds that the suite may take to start, to answer a question, or to end: on no machine does it.
LIMIT: Final = 60.0


class StartError(Exception):
    """The suite has not started; the text is what it has said, which is one line that names the mistake.

    :ivar log: what it has said.
    :ivar exit_code: 2: the configuration is wrong; 1: an endpoint cannot be opened; None: it was not
        ready in time.
    """

    __module__ = "suite.testing"  # where users import it from

    def __init__(self, log: str, exit_code: int | None) -> None:
        super().__init__(log, exit_code)
        self.log = log
        self.exit_code = exit_code

    def __str__(self) -> str:
        if self.exit_code is None:
            return f"the suite was not ready within {LIMIT:g} s; its log:\n{self.log}"
        return self.log or f"the suite has ended with {self.exit_code} instead of starting"


class CrashError(Exception):
    """The suite has ended by itself, or not when told to, or with an error of its own in its log.

    :ivar problem: which of these.
    :ivar log: everything that it has written.
    """

    __module__ = "suite.testing"  # where users import it from

    def __init__(self, problem: str, log: str) -> None:
        super().__init__(problem, log)
        self.problem = problem
        self.log = log

    def __str__(self) -> str:
        return f"{self.problem}; its log:\n{self.log}"


@dataclass(frozen=True)
class Connection:
    """A connection that is open.

    :ivar endpoint: the name of the endpoint that has accepted it.
    :ivar peer: the client's address, ``host:port``. Clients of UNIX sockets seldom have one.
    :ivar received: bytes that have come from it.
    """

    endpoint: str
    peer: str
    received: int

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.peer}, which has sent {_number(self.received, 'byte')}"


class StillOpenError(Exception):
    """Connections are open that should not be.

    :ivar connections: which.
    """

    __module__ = "suite.testing"  # where users import it from

    def __init__(self, connections: Sequence[Connection]) -> None:
        super().__init__(connections)
        self.connections = tuple(connections)

    def __str__(self) -> str:
        count = _number(len(self.connections), "connection")
        return "\n  ".join([f"{count} still open:", *map(str, self.connections)])


@dataclass(frozen=True)
class Counts:
    """What an endpoint has seen since it was opened, or since `RunningSuite.clear`.

    :ivar opened: connections that it has accepted.
    :ivar open: connections that have not ended.
    :ivar received: bytes, in all.
    :ivar datagrams: datagrams.
    """

    opened: int
    open: int
    received: int
    datagrams: int


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
