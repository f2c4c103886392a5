"""The parameters of a load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from suite.client.dial.datagrams import MAX_UDP_PAYLOAD
from suite.client.dial.target import Target
from suite.client.load.datagrams import NUMBER_SIZE
from suite.errors import SuiteError, UsageError
from suite.text import one_line

MAX_MESSAGE: Final = 16 * 1024 * 1024

MAX_CONNECTIONS: Final = 100_000

MAX_WINDOW: Final = 1_000_000

LEAST_RATE: Final = 0.001

MAX_RATE: Final = 10_000_000


class LoadError(SuiteError):
    """A load in which no message was answered.

    :ivar target: the target as the user wrote it.
    :ivar problem: the reason.
    """

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(target, problem)
        self.target = target
        self.problem = problem

    def __str__(self) -> str:
        return one_line(f"{self.target}: {self.problem}")


@dataclass(frozen=True)
class Options:
    """The parameters of a load.

    :ivar size: the size of a message in bytes.
    :ivar duration: how long messages are sent, in seconds.
    :ivar rate: messages per second on all connections together; None: a closed loop.
    :ivar window: the most messages in flight on one connection; None: 1 in a closed loop, no limit with a
        rate.
    :ivar timeout: seconds for a connection to open, for a datagram to come back, and for the last answers to
        arrive after sending has ended.
    :raises UsageError: the transport does not allow messages of that size.
    """

    target: Target
    connections: int = 10
    size: int = 1024
    duration: float = 10.0
    rate: float | None = None
    window: int | None = None
    timeout: float = 5.0

    def __post_init__(self) -> None:
        datagrams = self.target.transport == "udp"
        least, most = (NUMBER_SIZE, MAX_UDP_PAYLOAD) if datagrams else (1, MAX_MESSAGE)
        if not least <= self.size <= most:
            why = " for a datagram, which begins with its number" if datagrams else ""
            raise UsageError(f"--size {self.size} is out of range; expected {least} to {most} bytes{why}")

    def shown(self) -> dict[str, Any]:
        """All parameters but the target, as they appear in the results."""
        names = ("connections", "size", "duration", "rate", "window", "timeout")
        return {name: getattr(self, name) for name in names}
