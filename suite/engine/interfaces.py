"""What the engine asks of protocols and of selectables, with defaults.

Rules: a protocol opts in by an interface or a mark; a selectable inherits `Selectable`, whose defaults are
always safe. Other protocols and selectables are treated as Twisted treats them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from zope.interface import Interface

DataReceived = TypeVar("DataReceived", bound=Callable[[Any, bytes], None])


# Protocols.


class INeedsNoLogContext(Interface):
    """A marker for protocols whose log entries identify their connection without help.

    Around every event Twisted sets up a logging context (the transport's ``logPrefix``), which costs more
    than reading a small message. The engine skips it for these protocols.
    """


class IPreambleListener(Interface):
    """A protocol that is told when the bytes before a handshake are complete, such as a PROXY header."""

    def preamble_completed() -> bool:
        """``transport.getPeer()`` is the client now; return whether to go on.

        If not, the protocol has aborted the connection.
        """


class IEchoesDatagrams(Interface):
    """A datagram protocol that either sends a datagram back unchanged or does not answer it.

    A source is a packed ``sockaddr``. A message is a datagram, or a train of them. An attribute ``traffic``,
    if it has one, is a `suite.engine.traffic.Traffic`, in which ports count.
    """

    def answers(sources: Sequence[bytes]) -> bool:  # noqa: N805  # zope.interface's style
        """Whether all datagrams from these *sources* are answered, however many there are."""

    def admit(source: bytes, count: int, to_many: bool) -> int:  # noqa: N805
        """How many of the *count* datagrams of a message just received are answered: the first ones.

        Called once for each message.

        :param to_many: whether it was sent to broadcast or multicast.
        """

    def goes_round(source: bytes, message: bytes) -> bool:  # noqa: N805
        """Whether *message*, one of few that are looked at, goes round in a loop, and is not answered."""


def writes_back(data_received: DataReceived) -> DataReceived:
    """Mark a ``dataReceived(data)`` that counts the bytes and writes them back, and nothing else.

    That is ``self.received += len(data)`` and ``self.transport.write(data)``. The engine's transports then do
    both themselves, without calling the method. An overriding method does not inherit the mark.
    """
    data_received.writes_back = True  # type: ignore[attr-defined]  # a function takes any attribute
    return data_received


def is_echo(protocol: Any) -> bool:
    """Whether *protocol* only writes back the bytes that it receives; see `writes_back`."""
    return getattr(getattr(protocol, "dataReceived", None), "writes_back", False)


# Selectables.


class Selectable:
    """The part of a reader or writer that `suite.engine.reactor` uses beyond Twisted's interfaces.

    :cvar needs_log_context: whether events take Twisted's own path, with a logging context around them;
        without it, an event costs one call.
    """

    needs_log_context: bool = True

    def join_ring(self, ring: EchoesTogether) -> None:
        """Let *ring* read and write for this selectable, if it can; by default, never."""


class RingMember(Protocol):
    """A connection that an `EchoesTogether` can echo.

    :ivar protocol: the protocol of the connection, marked with `writes_back`; it counts in ``received``.
    :ivar connected: whether the connection is up; false once it is lost.
    """

    protocol: Any
    connected: Any

    def left_ring(self) -> None:
        """The ring no longer reads or writes for this connection."""

    def keep_unsent(self, data: bytes) -> None:
        """Buffer *data*, which the ring could not send."""

    def wants_much(self) -> None:
        """A message filled a ring buffer: leave the ring, and use large reads."""


class EchoesTogether(Protocol):
    """Echoes many connections at once, as `suite.engine.ring` does."""

    def join(self, fd: int, stream: RingMember) -> None:
        """Echo *stream*, at *fd*, from now on; the reactor must not read from it any more.

        :raises OSError: the kernel refuses it.
        """

    def leave(self, fd: int, close: Callable[[], object] | None = None) -> None:
        """Make the stream at *fd* leave soon, then call *close*, if any; until then *fd* is in use."""
