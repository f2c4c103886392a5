"""Sockets that the parent process has opened for this one, as systemd does (sd_listen_fds(3)).

Rules: a descriptor is adopted once and never closed, so that its number cannot become another socket's;
family, type and whether it listens are read from the socket, never from the configuration's text; what cannot
be served is refused before anything is.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from suite.endpoints.descriptions import FIRST_DESCRIPTOR as FIRST
from suite.endpoints.descriptions import Description, shown_socket
from suite.text import host_and_port, one_line

#: The name of a descriptor without one, as in sd_listen_fds_with_names(3).
UNNAMED: Final = "unknown"


#: The environment with which this process was started (proc(5)): Twisted removes the variables about
#: descriptors from `os.environ` when it is imported.
ENVIRONMENT: Final = "/proc/self/environ"


def _first_environment() -> Mapping[str, str]:
    try:
        with open(ENVIRONMENT, "rb") as file:
            pairs = [pair.partition("=") for pair in os.fsdecode(file.read()).split("\0")]
    except OSError:  # no Linux, so no systemd either
        return os.environ
    return {name: value for name, _, value in pairs}


class UnusableSocketError(Exception):
    """A descriptor that cannot be served; its argument says why, and what was expected."""


class Inherited:
    """The descriptors that were passed to this process, and those that it has adopted.

    :param environ: the environment; by default, that with which this process was started.
    :ivar names: the names of the descriptors that a service manager has passed, by number.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        if environ is None:
            environ = _first_environment()
        pid, count = environ.get("LISTEN_PID", ""), environ.get("LISTEN_FDS", "")
        names = environ.get("LISTEN_FDNAMES")
        self.names: dict[int, str] = {}
        self._meant_for = pid if count and pid != str(os.getpid()) else ""  # another process
        self._adopted: dict[int, socket.socket] = {}
        # The variables may also be those of a parent, for which the sockets were meant.
        if pid == str(os.getpid()) and count.isascii() and count.isdigit():
            given = names.split(":") if names else []
            for index in range(min(int(count), _most_descriptors())):
                self.names[FIRST + index] = given[index] if index < len(given) else UNNAMED
        for fd in self.names:
            with suppress(OSError):
                os.set_inheritable(fd, False)

    def wanted(self, description: Description) -> list[int]:
        """The descriptors that a ``systemd:`` or ``fd:`` *description* asks for.

        :raises UnusableSocketError: there are none.
        """
        arguments = description.arguments
        if description.kind == "fd":
            return [int(arguments["fileno"])]
        if "index" in arguments:
            found = [FIRST + int(arguments["index"])]
            found = [fd for fd in found if fd in self.names]
        else:
            found = [fd for fd, name in self.names.items() if name == arguments["name"]]
        if not found:
            raise UnusableSocketError(self._missing())
        return found

    def _missing(self) -> str:
        if self._meant_for:
            return (
                f"no such descriptor was inherited: LISTEN_PID is {one_line(self._meant_for)}, and this is"
                f" process {os.getpid()}; expected no process in between (a shell: exec)"
            )
        if not self.names:
            return "no such descriptor was inherited (see LISTEN_FDS and LISTEN_FDNAMES)"
        there = ", ".join(f"index={fd - FIRST} ({one_line(name)})" for fd, name in self.names.items())
        return f"no such descriptor was inherited; there are {there}"

    def adopt(self, fd: int, description: Description) -> socket.socket:
        """The socket at *fd*, for *description*.

        :raises UnusableSocketError: it is not a socket that can be served as *description* wants it.
        """
        sock = self._adopted.get(fd)
        if sock is None:
            sock = self._open(fd)
        check(sock, description)
        if fd not in self._adopted:
            os.set_inheritable(fd, False)
            sock.setblocking(False)
            self._adopted[fd] = sock
        return sock

    def _open(self, fd: int) -> socket.socket:
        try:
            # Python's own descriptors are not inheritable (PEP 446), so this is not one of the suite's.
            is_ours = fd not in self.names and not os.get_inheritable(fd)
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:
            raise UnusableSocketError(f"no such descriptor was inherited ({fd} is not open)") from None
        if is_ours:
            raise UnusableSocketError(f"no such descriptor was inherited ({fd} is the suite's own)")
        if not is_socket:
            raise UnusableSocketError(f"descriptor {fd} is not a socket; expected a listening socket")
        return _Borrowed(fileno=fd)

    def unused(self, used: Iterable[int]) -> Iterator[str]:
        """The descriptors that were passed to this process and are not among *used*, for people."""
        for fd in self.names.keys() - set(used):
            yield f"{fd} ({one_line(self.names[fd])}{_what(fd)})"


class _Borrowed(socket.socket):
    """A socket whose descriptor stays open when the object is gone: its number may not be reused."""

    def __del__(self) -> None:
        self.detach()


def _most_descriptors() -> int:
    return os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else 0


def check(sock: socket.socket, description: Description) -> None:
    """Check that *sock* can be served as *description* wants it.

    :raises UnusableSocketError: it cannot.
    """
    unix = sock.family == getattr(socket, "AF_UNIX", None)
    what = f"descriptor {sock.fileno()} is a {_kind(sock)}"
    if not unix and sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise UnusableSocketError(f"{what}; expected a TCP, UDP or UNIX stream socket")
    if sock.type not in (socket.SOCK_STREAM, socket.SOCK_DGRAM) or (unix and sock.type != socket.SOCK_STREAM):
        raise UnusableSocketError(f"{what}; expected a TCP, UDP or UNIX stream socket")
    if _is_connected(sock):
        raise UnusableSocketError(
            f"{what} that is connected; expected one that listens (in a systemd socket unit: Accept=no)"
        )
    if sock.type == socket.SOCK_STREAM and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise UnusableSocketError(f"{what} that does not listen; expected one that does")
    if description.proxied and sock.type == socket.SOCK_DGRAM:
        raise UnusableSocketError(f"{what}; haproxy: expects a stream")
    domain = description.arguments.get("domain")
    if domain is not None and (domain == "UNIX") != unix:
        raise UnusableSocketError(f"{what}; expected domain={'UNIX' if unix else 'INET'} for it")


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def transport_of(sock: socket.socket) -> str:
    """The transport of *sock*: TCP, UDP or UNIX."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        return "UNIX"
    return "UDP" if sock.type == socket.SOCK_DGRAM else "TCP"


def _kind(sock: socket.socket) -> str:
    """The kind of *sock*, for people."""
    types = {
        socket.SOCK_STREAM: "stream",
        socket.SOCK_DGRAM: "datagram",
        getattr(socket, "SOCK_SEQPACKET", None): "sequenced-packet",
        getattr(socket, "SOCK_RAW", None): "raw",
    }
    if sock.family == getattr(socket, "AF_UNIX", None):
        return f"UNIX {types.get(sock.type, sock.type)} socket"
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return f"socket of family {int(sock.family)}"
    names = {socket.SOCK_STREAM: "TCP", socket.SOCK_DGRAM: "UDP"}
    return f"{names.get(sock.type, types.get(sock.type, sock.type))} socket"


def _what(fd: int) -> str:
    """Kind and address of the descriptor *fd*, for people; empty if it is not a socket."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return ""
    try:
        name = sock.getsockname()
        if isinstance(name, tuple) and len(name) >= 2:
            return f", {_kind(sock)} {host_and_port(name[0], name[1])}"
        return f", {_kind(sock)} {shown_socket(os.fsdecode(name))}"
    finally:
        sock.detach()
