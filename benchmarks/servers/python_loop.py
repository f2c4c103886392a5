"""The least that Python can do for an echo: poll, read, write, and nothing else.

``python_loop.py tcp PORT | unix PATH`` (port 0: any); prints ``ready PORT`` or ``ready PATH`` when it
listens. It is no server: it loses what a peer does not take at once, ends a connection at its first end of
input, and fails at the first error. It is here to show where CPython's own cost lies.
"""

from __future__ import annotations

import os
import select
import socket
import sys

BACKLOG = 4096


def main() -> None:
    """Run the command line."""
    transport, address = sys.argv[1:]
    listener = socket.socket(socket.AF_UNIX if transport == "unix" else socket.AF_INET)
    listener.bind(address if transport == "unix" else ("127.0.0.1", int(address)))
    listener.listen(BACKLOG)
    name = listener.getsockname()
    print("ready", name if transport == "unix" else name[1], flush=True)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    accepting = listener.fileno()
    connections: dict[int, socket.socket] = {}
    size = 16 * 1024  # what the suite asks for
    while True:
        for fd, _ in poller.poll():
            if fd != accepting:
                data = os.read(fd, size)
                if not data:
                    poller.unregister(fd)
                    connections.pop(fd).close()
                    continue
                os.write(fd, data)
                continue
            connection, _ = listener.accept()
            if transport == "tcp":
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections[connection.fileno()] = connection
            poller.register(connection, select.EPOLLIN)


if __name__ == "__main__":
    main()
