"""Loaded by every Python that a transcript starts: the ports that the tutorial names are free ones.

A step says 1234, as its reader sees it; tests that run side by side need a port each. It also says when the
process is ready: it listens, and either waits for a connection or has prepared for an interrupt.

TUTORIAL_PORTS: pairs of a port as the tutorial names it and the real one, as in ``1234=20123,4433=20456``.
TUTORIAL_READY: a named pipe that gets a line when the process is ready.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

REAL = {
    int(named): int(real)
    for named, real in (pair.split("=") for pair in os.environ["TUTORIAL_PORTS"].split(","))
}
NAMED = {real: named for named, real in REAL.items()}


class Readiness:
    """Whether this process is ready, and whether that has been said."""

    def __init__(self) -> None:
        self.listens = self.waits = self.said = False

    def look(self, *, listens: bool = False, waits: bool = False) -> None:
        self.listens |= listens
        self.waits |= waits
        if self.listens and self.waits and not self.said:
            self.said = True
            with open(os.environ["TUTORIAL_READY"], "w") as pipe:
                pipe.write("ready\n")


readiness = Readiness()


def swapped(ports: dict[int, int], address: Any) -> Any:
    """*address* with its port replaced, if *ports* has another for it."""
    if isinstance(address, tuple) and address[1] in ports:
        return (address[0], ports[address[1]], *address[2:])
    return address


def is_named(sock: socket.socket) -> bool:
    """Whether *sock* has an address that the tutorial names: one of the ports, or a path."""
    address = sock.getsockname()
    return not isinstance(address, tuple) or address[1] in REAL


def replaces(owner: Any, *names: str) -> Callable[[Callable[..., Any]], None]:
    """Replace functions of *owner* by what the decorated function makes of each of them."""

    def decorate(make: Callable[..., Any]) -> None:
        for name in names:
            setattr(owner, name, make(getattr(owner, name)))

    return decorate


@replaces(socket.socket, "connect", "connect_ex", "bind")
def to_real(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, address: original(self, swapped(REAL, address))


@replaces(socket.socket, "sendto")
def send_to_real(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: original(self, *args[:-1], swapped(REAL, args[-1]))


@replaces(socket.socket, "getsockname", "getpeername")
def from_real(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: swapped(NAMED, original(self))


@replaces(socket.socket, "accept", "recvfrom")
def pair_from_real(original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: socket.socket, *args: Any) -> Any:
        readiness.look(waits=True)
        first, address = original(self, *args)
        return first, swapped(NAMED, address)

    return method


@replaces(socket.socket, "bind")
def listen_for_datagrams(original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: socket.socket, address: Any) -> None:
        original(self, address)
        if self.type == socket.SOCK_DGRAM:
            readiness.look(listens=is_named(self))

    return method


@replaces(socket.socket, "listen")
def listen(original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: socket.socket, *args: int) -> None:
        original(self, *args)
        readiness.look(listens=is_named(self))

    return method


@replaces(signal, "signal")
def prepare(original: Callable[..., Any]) -> Callable[..., Any]:
    def function(number: int, handler: Any) -> Any:
        result = original(number, handler)
        readiness.look(waits=number == signal.SIGINT)
        return result

    return function
