"""The exceptions of `suite.testing`, and the values that they and its counters use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Upper bound in seconds for starting, answering or stopping; no working suite approaches it.
LIMIT: Final = 60.0


class StartError(Exception):
    """The suite could not be started; the text is its log, normally one line that names the mistake.

    :ivar log: everything that the suite has logged.
    :ivar exit_code: 2: the configuration is wrong; 1: an endpoint cannot be opened; None: the suite was not
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
        return self.log or f"the suite exited with code {self.exit_code} instead of starting"


class CrashError(Exception):
    """The suite exited by itself, did not exit on SIGTERM, or has a traceback in its log.

    :ivar problem: what happened.
    :ivar log: everything that the suite has logged.
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
    """An open connection.

    :ivar endpoint: the name of the endpoint that accepted it.
    :ivar peer: the client's address, ``host:port``. Clients of UNIX sockets seldom have one.
    :ivar received: the bytes received from the client.
    """

    endpoint: str
    peer: str
    received: int

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.peer}, which has sent {_number(self.received, 'byte')}"


class StillOpenError(Exception):
    """Connections are still open that should have ended.

    :ivar connections: the open connections.
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
    """The counts of an endpoint since it was opened, or since `RunningSuite.clear`.

    :ivar opened: connections accepted.
    :ivar open: connections that are still open.
    :ivar received: bytes received in total.
    :ivar datagrams: datagrams received.
    """

    opened: int
    open: int
    received: int
    datagrams: int


@dataclass(frozen=True)
class FaultRecord:
    """What happened to one connection, or datagram, of an endpoint with faults.

    :ivar number: its number at the endpoint, counted from 1.
    :ivar faults: what struck it, in the words of the log, such as ``latency=213ms; reset after=64KiB`` (of a
        datagram: ``truncated to 4; delayed 213 ms``, or ``lost``); empty if nothing did.
    :ivar end: why it ended, in a word of the log: ``fault`` (ended by one of them), ``closed`` (by the
        client, after all bytes were sent), ``reset`` (by the client), …; None: it is open, or a datagram.
    """

    number: int
    faults: str
    end: str | None


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
