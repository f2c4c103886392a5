"""What the engine asks of protocols and of selectables, with defaults.

Rules: a protocol opts in by an interface or a mark; a selectable inherits `Selectable`, whose defaults are
always safe. Whatever has neither is served as Twisted would serve it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from zope.interface import Interface

DataReceived = TypeVar("DataReceived", bound=Callable[[Any, bytes], None])


# Protocols.


class INeedsNoLogContext(Interface):
    """A protocol whose log entries say by themselves which connection they are about.

    Twisted sets up a logging context (the transport's ``logPrefix``) around every event, which costs
    more than reading a small message. The engine leaves it out for these.
    """


class IEchoesDatagrams(Interface):
    """A datagram protocol that answers a datagram with the same datagram, or not at all.

    A source is a packed ``sockaddr``.
    """

    def answers(sources: Sequence[bytes]) -> bool:  # noqa: N805  # as zope.interface has it
        """Whether every datagram from these *sources* gets an answer, however many."""

    def refuses(source: bytes) -> bool:  # noqa: N805
        """Whether one datagram from *source*, which is there now, gets no answer."""


def writes_back(data_received: DataReceived) -> DataReceived:
    """Mark a ``dataReceived(data)`` that counts and writes back, and nothing else.

    That is ``self.received += len(data)`` and ``self.transport.write(data)``. The engine's transports then do
    both where they have read the bytes, without calling it. A method that overrides it has no such mark.
    """
    data_received.writes_back = True  # type: ignore[attr-defined]  # a function takes any attribute
    return data_received


def is_echo(protocol: Any) -> bool:
    """Whether *protocol* writes back what it receives, and does nothing else with it."""
    return getattr(getattr(protocol, "dataReceived", None), "writes_back", False)


# Selectables.


class Selectable:
    """What `suite.engine.reactor` asks of a reader or writer beyond Twisted's interfaces.

    :cvar needs_log_context: whether its events take Twisted's own path, with its logging context. Those that
        need none cost one call.
    """

    needs_log_context: bool = True

    def join_ring(self, ring: EchoesTogether) -> None:
        """Have *ring* read and write, if it can do all that there is to do; by default, never."""


class RingMember(Protocol):
    """A connection that an `EchoesTogether` can echo.

    :ivar protocol: counts what it receives (see `writes_back`).
    :ivar connected: false once the connection is lost.
    """

    protocol: Any
    connected: Any

    def left_ring(self) -> None:
        """The ring no longer reads or writes for it."""

    def keep_unsent(self, data: bytes) -> None:
        """The kernel has refused *data*, which the ring was to send."""

    def wants_much(self) -> None:
        """A message filled a ring buffer: leave the ring, and use large reads."""


class EchoesTogether(Protocol):
    """Echoes many connections at once; `suite.engine.ring` is one."""

    def join(self, fd: int, stream: RingMember) -> None:
        """Echo *stream*, at *fd*, from now on; the reactor must not read from it any more.

        :raises OSError: the kernel refuses it.
        """

    def leave(self, fd: int, close: Callable[[], object] | None = None) -> None:
        """Have the stream at *fd* leave soon; then call *close*, if any: until then *fd* is in use."""
