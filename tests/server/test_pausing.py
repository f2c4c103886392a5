"""Endpoints that are paused and resumed, on real sockets without a running reactor, and as processes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import pytest

from suite.config.faults import Fault, Faults, Kind
from suite.server.endpoint import CannotPauseError, RunningEndpoint
from suite.server.surroundings import Surroundings
from tests.admin.asking_http import ask
from tests.helpers import SuiteReactor, described, now
from tests.running import REACTORS, RunningSuite, running_on, wait_until

# Fixtures.
from tests.server.test_endpoint import endpoint, reactor

__all__ = ["endpoint", "reactor"]

CONFIG = """
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
unix = "unix:echo.sock"
[admin]
listen = "unix:admin.sock"
"""


def test_no_port_is_read_while_it_is_paused(endpoint: RunningEndpoint, reactor: Any) -> None:
    assert all(port in reactor.getReaders() for port in endpoint.ports)
    endpoint.pause()
    endpoint.pause()
    assert (endpoint.paused, endpoint.listens) == (True, True)
    assert not any(port in reactor.getReaders() for port in endpoint.ports)
    endpoint.resume()
    endpoint.resume()
    assert endpoint.paused is False
    assert all(port in reactor.getReaders() for port in endpoint.ports)


def test_ports_that_are_made_meanwhile_are_paused_too(
    endpoint: RunningEndpoint, reactor: Any, tmp_path: Path
) -> None:
    endpoint.pause()
    kind = Kind.LOSS if endpoint.datagrams is not None else Kind.STALL
    endpoint.change_faults(Faults((Fault(kind, 1.0 if kind is Kind.LOSS else True),)))
    assert not any(port in reactor.getReaders() for port in endpoint.ports)
    if endpoint.datagrams is None:
        endpoint.change(described(tmp_path, "haproxy:tcp:0"), None, endpoint.sockets)
    assert len(endpoint.ports) == 2
    assert not any(port in reactor.getReaders() for port in endpoint.ports)
    endpoint.resume()
    assert all(port in reactor.getReaders() for port in endpoint.ports)


def test_a_port_that_tries_again_waits_until_it_is_resumed(endpoint: RunningEndpoint, reactor: Any) -> None:
    """One that had no descriptors left, and has been paused meanwhile."""
    if endpoint.datagrams is not None:
        return
    port = cast(Any, endpoint.ports[0])
    port.stopReading()
    endpoint.pause()
    port._try_again()
    assert port not in reactor.getReaders()
    endpoint.resume()
    assert port in reactor.getReaders()


def test_datagrams_that_came_meanwhile_are_dropped(endpoint: RunningEndpoint) -> None:
    if endpoint.datagrams is None:
        return
    port = cast(Any, endpoint.ports[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", port.getHost().port))
        endpoint.pause()
        for size in (0, 1, 60_000):
            client.send(bytes(size))
        endpoint.resume()
        client.send(b"late")
        port.doRead()
        assert client.recv(100) == b"late"
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(100)


# Ports that are not the suite's.


class Foreign:
    """A port of another reactor, or a plugin's."""

    connected = True

    def __init__(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


def opened(directory: Path, listen: str = "tcp:1234") -> RunningEndpoint:
    """An endpoint whose port a reactor in memory has opened."""
    endpoint = RunningEndpoint(Surroundings(SuiteReactor()), described(directory, listen), None)
    now(endpoint.open())
    endpoint.start()
    return endpoint


def test_a_port_of_another_reactor_is_paused_if_it_can_be(tmp_path: Path) -> None:
    endpoint = opened(tmp_path)
    foreign = Foreign()
    endpoint.ports = [cast(Any, foreign)]
    endpoint.pause()
    assert foreign.reading is False
    endpoint.resume()
    assert foreign.reading is True


def test_a_port_that_cannot_be_paused_is_not(tmp_path: Path) -> None:
    endpoint = opened(tmp_path, "udp:1234")
    with pytest.raises(CannotPauseError, match="cannot be paused: what listens there has no way to wait"):
        endpoint.pause()
    assert endpoint.paused is False


# As processes.


@pytest.mark.parametrize("on", [REACTORS[0], "epoll"])
def test_connections_wait_and_datagrams_do_not(tmp_path: Path, on: str) -> None:
    with running_on(on, tmp_path, CONFIG) as suite:
        for endpoint in ("tcp", "unix"):
            change(suite, endpoint, "pause")
            with suite.connect(endpoint) as sock:
                sock.sendall(b"waits")
                change(suite, endpoint, "resume")
                assert sock.recv(5) == b"waits"
        with suite.connect("udp") as sock:
            change(suite, "udp", "pause")
            sock.send(b"dropped")
            wait_until(lambda: waiting(suite) > 0, "the datagram has arrived")
            change(suite, "udp", "resume")
            sock.send(b"answered")
            assert sock.recv(100) == b"answered"


def change(suite: RunningSuite, endpoint: str, how: str) -> None:
    """Pause or resume *endpoint*."""
    answer = ask(suite.admin[0], f"/api/v1/endpoints/{endpoint}/{how}", "POST")
    assert answer.json["state"] == ("paused" if how == "pause" else "serving")
    assert (ask(suite.admin[0], "/readyz").status == 200) is (how == "resume")


def waiting(suite: RunningSuite) -> int:
    """Bytes in the receive buffer of the UDP socket (``/proc/net/udp``)."""
    _, port = suite.addresses["udp"]
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        _, local, _, _, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port:
            return int(queues.rpartition(":")[2], 16)
    raise AssertionError("no such socket")
