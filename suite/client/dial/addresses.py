"""The addresses of a target: name resolution."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from suite.client.dial.failures import TargetError
from suite.endpoints.descriptions import shown_socket
from suite.text import host_and_port

#: Why only one family will do.
_ASKED_FOR: Final = {
    socket.AF_INET: "; IPv4 is asked for by -4 or --source",
    socket.AF_INET6: "; IPv6 is asked for by -6 or --source",
}

SocketAddress = Any  # as the socket module has addresses: a tuple, or a UNIX socket's path


@dataclass(frozen=True)
class Address:
    """One address of a target."""

    family: socket.AddressFamily
    address: SocketAddress

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return shown_socket(self.address)
        return host_and_port(self.address[0], self.address[1])


def resolve(
    reactor: Any, host: str, port: int, family: socket.AddressFamily, kind: socket.SocketKind
) -> Deferred[list[Address]]:
    """The addresses of *host*, in the system's order."""
    done: Deferred[list[Address]] = Deferred()
    try:
        done.callback(_look_up(host, port, family, kind, socket.AI_NUMERICHOST))
        return done
    except TargetError:
        pass  # not a numeric address: look up the name

    def look_up() -> None:
        result: list[Address] | Failure
        try:
            result = _look_up(host, port, family, kind, 0)
        except TargetError:
            result = Failure()
        reactor.callFromThread(deliver, result)

    def deliver(result: list[Address] | Failure) -> None:
        if not done.called:
            done.callback(result)  # a Failure goes to the errbacks

    # Not in the reactor's thread pool, which shutdown would wait for: a resolver may take a minute.
    threading.Thread(target=look_up, daemon=True).start()
    return done


def _look_up(
    host: str, port: int, family: socket.AddressFamily, kind: socket.SocketKind, flags: int
) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, family, kind, 0, flags)
    except socket.gaierror as error:
        wanted = _ASKED_FOR.get(family, "")
        raise TargetError("dns", f"{host}: {error.strerror}{wanted}") from None
    except UnicodeError:
        raise TargetError("dns", f"{host}: not a valid host name") from None
    return [Address(socket.AddressFamily(family), address) for family, _, _, _, address in found]
