"""What the kernel holds: for a peer that does not read, measured and bounded; and of those that connect.

Without a bound, the send buffer of a connection grows to net.ipv4.tcp_wmem's maximum, 4 MiB by default; over
loopback it begins there, because it is a multiple of the interface's segment size.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from contextlib import suppress
from typing import Final

#: Bytes that the kernel accepts for a TCP connection beyond those that it has sent already. A peer that does
#: not read costs this much and no more; for one that does, the buffer of sent bytes grows with the path. As
#: web servers set it for HTTP/2, to be seen as writable late (tcp(7), TCP_NOTSENT_LOWAT).
MAX_UNSENT: Final = 128 * 1024

#: A classic BPF program of one instruction: keep nothing of any packet (linux/filter.h, BPF_RET | BPF_K).
_KEEP_NOTHING: Final = array("I", struct.unpack("II", struct.pack("HBBI", 0x06, 0, 0, 0)))
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h

_INT: Final = struct.Struct("i")
_ROOM: Final = bytes(_INT.size)

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ  # the same number as SIOCOUTQ: tcp(7), unix(7)

    TCP_NOTSENT_LOWAT: Final = 25  # linux/tcp.h

    def queued(fd: int) -> int:
        """The number of bytes in the send queue of the stream socket *fd*; 0 if the socket is gone.

        TCP: those that the peer's kernel has not acknowledged. UNIX: the memory of those not read, which is
        released in pieces of some 32 KiB.
        """
        try:
            (size,) = _INT.unpack(ioctl(fd, TIOCOUTQ, _ROOM))
        except (OSError, ValueError):  # closed, or -1
            return 0
        return int(size)

    def bound_unsent(sock: socket.socket) -> None:
        """Let the kernel accept at most `MAX_UNSENT` bytes beyond those that it has sent, if this is TCP."""
        with suppress(OSError):  # a UNIX socket, whose buffer is small, and never grows
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT)

else:

    def queued(fd: int) -> int:  # noqa: ARG001  # as above
        """0: this system does not tell."""
        return 0

    def bound_unsent(sock: socket.socket) -> None:
        """Do nothing: this system has no such bound."""


def drop_what_comes(sock: socket.socket) -> None:
    """Let the kernel drop every packet to *sock*, a listening TCP socket that is to be closed.

    What it has completed before stays in the queue, to be accepted. Whoever connects from now on tries again
    after a second, when the socket is closed, and is refused; otherwise it might be connected in the moment
    between the last accept and the close, and be reset.
    """
    if sys.platform == "linux":
        program = struct.pack("HP", 1, _KEEP_NOTHING.buffer_info()[0])
        with suppress(OSError):  # it is forbidden here
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
