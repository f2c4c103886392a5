"""What a protocol may say of itself, so that the engine can leave out what it does not need."""

from collections.abc import Callable
from typing import Any, TypeVar

from zope.interface import Interface

DataReceived = TypeVar("DataReceived", bound=Callable[[Any, bytes], None])


class IQuiet(Interface):
    """A protocol whose log entries say by themselves which connection they are about.

    Twisted sets up a logging context (the transport's ``logPrefix``) around every event, which costs
    more than reading a small message. Around the events of these, the engine does not.
    """


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
