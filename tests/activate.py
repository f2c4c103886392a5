"""Starts the suite as systemd starts a service, where there is no systemd.

``python activate.py [--own-network] [NAME=FD…] -- ARGUMENT…`` becomes ``python -m suite ARGUMENT…``. Each
NAME=FD is a listening socket, handed over as sd_listen_fds(3) says: as descriptor 3, 4, …, named, for that
process alone. With ``--own-network``, it has a network of its own: a loopback interface, and nothing else.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from typing import Final

#: Where systemd's descriptors begin (sd_listen_fds(3), SD_LISTEN_FDS_START).
FIRST: Final = 3

CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
SIOCSIFFLAGS: Final = 0x8914  # linux/sockios.h
IFF_UP: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int) -> None:
    """Call the system call *name*.

    :raises OSError: it failed.
    """
    if getattr(_libc, name)(*arguments):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def own_network() -> None:
    """Move this process into a new network, with its loopback interface up."""
    call("unshare", CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def main(words: list[str]) -> None:
    """Do as the module says; does not return."""
    split = words.index("--")
    names, descriptors = [], []
    for word in words[:split]:
        if word == "--own-network":
            own_network()
        else:
            name, _, number = word.partition("=")
            names.append(name)
            # Out of the way of where another one goes.
            descriptors.append(fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 100))
    for place, descriptor in enumerate(descriptors, FIRST):
        os.dup2(descriptor, place)
    if names:
        os.environ.update(
            LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names)
        )
    os.execv(sys.executable, [sys.executable, "-m", "suite", *words[split + 1 :]])


if __name__ == "__main__":
    main(sys.argv[1:])
