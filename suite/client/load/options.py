"""The parameters of a load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from suite.client.dial.datagrams import MAX_UDP_PAYLOAD
from suite.client.dial.target import Target
from suite.client.load.datagrams import NUMBER_SIZE
from suite.client.load.schedule import Rate
from suite.errors import UsageError

MAX_MESSAGE: Final = 16 * 1024 * 1024

MAX_CONNECTIONS: Final = 100_000

MAX_WINDOW: Final = 1_000_000

#: Processes; what each has measured is merged at the end.
MAX_WORKERS: Final = 256

LEAST_RATE: Final = 0.001

MAX_RATE: Final = 10_000_000


@dataclass(frozen=True)
class Options:
    """The parameters of a load.

    :ivar size: the size of a message in bytes.
    :ivar duration: how long messages are sent, in seconds.
    :ivar rate: messages per second; None: a closed loop.
    :ivar window: the most messages in flight on one connection; None: 1 in a closed loop, no limit with a
        rate.
    :ivar timeout: seconds for a connection to open, for a datagram to come back, and for the last answers to
        arrive after sending has ended.
    :ivar warmup: seconds before *duration* in which messages are sent but not measured.
    :ivar reconnect: whether broken connections are opened again; None: in an open loop.
    :ivar workers: how many processes share the load.
    :raises UsageError: the transport does not allow messages of that size.
    """

    target: Target
    connections: int = 10
    size: int = 1024
    duration: float = 10.0
    rate: Rate | None = None
    window: int | None = None
    timeout: float = 5.0
    warmup: float = 0.0
    reconnect: bool | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        datagrams = self.target.transport == "udp"
        least, most = (NUMBER_SIZE, MAX_UDP_PAYLOAD) if datagrams else (1, MAX_MESSAGE)
        if not least <= self.size <= most:
            why = " for a datagram, which begins with its number" if datagrams else ""
            raise UsageError(f"--size {self.size} is out of range; expected {least} to {most} bytes{why}")

    @property
    def reopens(self) -> bool:
        """Whether broken connections are opened again."""
        return self.rate is not None if self.reconnect is None else self.reconnect

    def shown(self) -> dict[str, Any]:
        """All parameters but the target, as they appear in the results."""
        names = ("connections", "size", "duration", "window", "timeout", "warmup", "workers")
        rate = None if self.rate is None else self.rate.as_json
        return {name: getattr(self, name) for name in names} | {"rate": rate, "reconnect": self.reopens}
