"""How many segments have brought what a TCP connection has received."""

from __future__ import annotations

import socket
import sys
from typing import Final

#: linux/tcp.h: where ``struct tcp_info`` has tcpi_data_segs_in, a u32, since Linux 4.6.
_OFFSET: Final = 152
_END: Final = _OFFSET + 4

if sys.platform == "linux":

    def data_segments(sock: socket.socket) -> int | None:
        """The number of segments with data that *sock* has received; None if the kernel does not tell.

        Segments that arrive twice count twice; those that the network card has merged count as they were.
        """
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _END)
        except OSError:  # a UNIX socket, or closed
            return None
        return int.from_bytes(info[_OFFSET:_END], sys.byteorder) if len(info) == _END else None

else:

    def data_segments(sock: socket.socket) -> int | None:  # noqa: ARG001  # as above
        """None: this system does not tell."""
        return None
