"""Finding out that a TCP peer is gone although it has not said so: its machine, or the way to it.

Rules: the kernel asks a silent peer whether it is still there (RFC 9293, section 3.8.4); a peer that answers
nothing is gone within twice the time that it was silent before the first question. Where bytes are on the way
to the peer, the kernel asks nothing, and `stall` applies.
"""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import Any, Final

from suite.config.limits import Limits

#: The number of questions without an answer after which the peer is gone.
PROBES: Final = 5


def options(limits: Limits) -> dict[str, int]:
    """The values of a socket's TCP options, by name (tcp(7)); a system may lack some."""
    silence = limits.keepalive
    if silence is None:
        return {}
    values = {
        "TCP_KEEPIDLE": math.ceil(silence),
        "TCP_KEEPINTVL": math.ceil(silence / PROBES),
        "TCP_KEEPCNT": PROBES,
    }
    # For bytes on the way the kernel's own limit is some 15 minutes (tcp_retries2). Ours must not be below
    # `stall`, because it also ends a peer that is there and reads nothing for so long.
    if limits.stall is not None and limits.stall <= 2 * silence:
        values["TCP_USER_TIMEOUT"] = math.ceil(2000 * silence)  # milliseconds
    else:
        values["TCP_USER_TIMEOUT"] = 0
    return values


def keep_alive(transport: Any, limits: Limits) -> None:
    """Apply the limit `keepalive` to the connection of *transport*, if it is TCP."""
    sock = getattr(transport, "socket", None)
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # BSD: the peer has reset it already, which reading will tell
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, limits.keepalive is not None)
        for name, value in options(limits).items():
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
