"""Shared by tests in memory: configurations, a reactor that opens nothing, and immediate results."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pytest
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from suite.config.file import Config, Endpoint
from suite.config.tls import TLS
from suite.endpoints.credentials import Credentials
from suite.endpoints.descriptions import Description
from suite.endpoints.parser import parse

#: The root of the checkout.
ROOT: Final = Path(__file__).parents[1]

T = TypeVar("T")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The path *name*, that *make* is to make in whichever of several pytest-xdist processes comes first."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    done = root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(root / name)
            done.touch()
    return root / name


def write_config(directory: Path, text: str | bytes, name: str = "config.toml") -> Path:
    """Write a configuration file with the content *text* in *directory*; return its path."""
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def config_of(directory: Path, *listens: str, tls: TLS = TLS()) -> Config:  # noqa: B008  # it is frozen
    """A configuration of the endpoints ``e0``, ``e1``, …, without a file."""
    endpoints = (Endpoint(f"e{number}", listen, tls) for number, listen in enumerate(listens))
    return Config(directory / "config.toml", tuple(endpoints))


def described(directory: Path, listen: str) -> Description:
    """The parsed description of *listen*."""
    (description,) = parse(config_of(directory, listen))
    return description


def load_context(config: Config, description: Description) -> SSL.Context | None:
    """The OpenSSL context of one endpoint; None if it is not TLS."""
    return Credentials(config).context(description)


def now(coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
    """The result of *coroutine*, which must not wait for anything; an exception is raised."""
    results: list[T | Failure] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    assert results, "it waits for a reactor"
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


class Watcher:
    """A reactor that only records which selectables it watches.

    :ivar readers: the selectables watched for reading.
    :ivar writers: the selectables watched for writing.
    """

    def __init__(self) -> None:
        self.readers: set[object] = set()
        self.writers: set[object] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


class SuiteReactor(MemoryReactorClock):
    """A memory reactor, extended by UDP, that records which of its ports are open.

    :ivar open: the open ports, in order of opening.
    :ivar udpServers: the arguments of the calls of ``listenUDP``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Any] = []
        self.udpServers: list[tuple[int, DatagramProtocol, str]] = []
        for name in ("listenTCP", "listenSSL", "listenUNIX"):
            setattr(self, name, self._remembering(getattr(self, name)))

    def _remembering(self, listen: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._opened(listen(*args, **kwargs))

    def _opened(self, port: Any) -> Any:
        port.stopListening = lambda: self.open.remove(port)
        self.open.append(port)
        return port

    def listenUDP(self, port: int, protocol: DatagramProtocol, interface: str = "") -> Any:
        self.udpServers.append((port, protocol, interface))
        opened = FakePort("UDP", interface, port or 50000 + len(self.udpServers))
        opened.protocol = protocol
        protocol.makeConnection(cast(Any, opened))
        return self._opened(opened)


class FakePort:
    """A port without a socket that reports the address *host* and *port*.

    :ivar protocol: the protocol of a UDP port.
    """

    protocol: DatagramProtocol | None = None

    def __init__(self, kind: Any, host: str, port: int) -> None:
        self.host = (IPv6Address if ":" in host else IPv4Address)(kind, host, port)

    def getHost(self) -> IPv4Address | IPv6Address:  # IListeningPort
        return self.host
