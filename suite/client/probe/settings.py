"""What a probe sends, how often, and how it connects."""

from __future__ import annotations

from dataclasses import dataclass, field

from suite.client.dial.dialer import ConnectOptions


@dataclass(frozen=True)
class Settings:
    """What to send, how often, and how to connect.

    :ivar count: payloads for each target; 0: until interrupted.
    :ivar interval: seconds from one payload to the next.
    :ivar sizes: the sizes of payloads in bytes, used in turn.
    :ivar deadline: seconds for all targets together; None: as long as it takes.
    :ivar min_days: the least number of days that certificates must remain valid; None: any.
    :ivar handshake: only connect, over TLS with a handshake, each time anew; no payload is sent.
    :ivar reach: how to connect.
    """

    count: int = 5
    interval: float = 0.2
    sizes: tuple[int, ...] = (64,)
    deadline: float | None = None
    min_days: int | None = None
    handshake: bool = False
    reach: ConnectOptions = field(default_factory=ConnectOptions)
