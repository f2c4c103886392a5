"""What is asked of ports, whoever has made them: the engine, a stock reactor, or a plugin."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IUDPTransport

from suite.engine.accept import AcceptingPort


def port_number(port: Any) -> int:
    """The number of the IP port that *port* is bound to."""
    number: int = port.getHost().port
    return number


def is_alive(port: Any) -> bool:
    """Whether *port* listens: the reactor ends one whose descriptor has an error."""
    return bool(getattr(port, "connected", True))


def is_datagram_port(port: Any) -> bool:
    """Whether *port* is a UDP port whose socket can be read here."""
    return IUDPTransport.providedBy(port) and hasattr(port, "socket")


def pause(port: Any) -> None:
    """Stop accepting on *port*; what arrives waits in the kernel."""
    if isinstance(port, AcceptingPort):
        port.pause()
    elif hasattr(port, "stopReading"):  # missing on Windows' IOCP reactor
        port.stopReading()


def resume(port: Any) -> None:
    """Start accepting on *port* again."""
    if isinstance(port, AcceptingPort):
        port.resume()
    elif hasattr(port, "startReading"):
        port.startReading()


def accept_what_waits(port: Any) -> None:
    """Accept the connections that the kernel has already completed; closing the port would reset them."""
    if isinstance(port, AcceptingPort):
        port.accept_all()
