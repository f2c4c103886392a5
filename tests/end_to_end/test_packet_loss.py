"""Where one packet in twenty is lost, each way, every byte of a stream comes back, and no wrong datagram."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.namespaces import Namespace, lossy_cable
from tests.running import RunningSuite, TLSClient, echo, running

LOSS = 0.05

MIB = 2**20


@pytest.fixture(scope="module")
def cable() -> Iterator[tuple[Namespace, Namespace]]:
    with lossy_cable(LOSS) as ends:
        yield ends


@pytest.fixture(scope="module")
def suite(
    cable: tuple[Namespace, Namespace], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSuite]:
    """A suite at the one end of the cable."""
    here = cable[0]
    config = f"""
[endpoints]
tcp = "tcp:0:interface={here.address}"
udp = "udp:0:interface={here.address}"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem:interface={here.address}"
"""
    command = here.inside(sys.executable, "-m", "suite")
    with running(tmp_path_factory.mktemp("suite"), config, command=command) as suite:
        yield suite


@pytest.fixture
def there(cable: tuple[Namespace, Namespace]) -> Namespace:
    """The other end, where the clients are."""
    return cable[1]


def test_every_byte_comes_back_over_streams(
    suite: RunningSuite, cable: tuple[Namespace, Namespace], there: Namespace
) -> None:
    """Four connections at a time, each half-closed when all of its data is sent."""

    def over_tcp(data: bytes) -> bytes:
        with there.socket(socket.SOCK_STREAM) as sock:
            sock.connect(suite.addresses["tcp"])
            return echo(sock, data, lambda: sock.shutdown(socket.SHUT_WR))

    def over_tls(data: bytes) -> bytes:
        with there.socket(socket.SOCK_STREAM) as sock:
            sock.connect(suite.addresses["tls"])
            client = TLSClient(sock, suite.client_context())
            received = echo(client, data, client.close_notify_and_fin)  # type: ignore[arg-type]  # alike enough
            assert client.end == "close_notify"
            return received

    before = [end.lost() for end in cable]
    sent = [os.urandom(2 * MIB) for _ in range(4)]
    with ThreadPoolExecutor(len(sent)) as pool:
        talks = [pool.submit(talk, data) for talk, data in zip([over_tcp, over_tls] * 2, sent, strict=True)]
        assert all(talk.result() == data for talk, data in zip(talks, sent, strict=True))
    for end, lost in zip(cable, before, strict=True):
        assert end.lost() - lost > 100, "else it shows nothing"


def test_no_datagram_comes_back_wrong_or_twice(suite: RunningSuite, there: Namespace) -> None:
    """Some get lost, on this way or that; the network doubles none, and neither may we."""
    sizes = random.Random(5)
    sent: list[bytes] = []
    received: list[bytes] = []
    with there.socket(socket.SOCK_DGRAM) as sock:
        sock.connect(suite.addresses["udp"])
        for number in range(100):
            batch = [b"%d %d " % (number, place) + os.urandom(sizes.randrange(1400)) for place in range(10)]
            for datagram in batch:
                sock.send(datagram)
            sent += batch
            received += drain(sock, number)
    replies = Counter(received)
    assert replies.keys() <= set(sent), "what came back has never been sent"
    assert replies.total() == len(replies), "something came back twice"
    assert len(sent) / 2 < len(replies) < len(sent)


def drain(sock: socket.socket, number: int) -> list[bytes]:
    """All that comes back before the answer to a question put now, and again until it is answered.

    The cable keeps the order, so that what has not come by then is lost.
    """
    received: list[bytes] = []
    for attempt in range(100):
        sock.send(b"end of %d, %d" % (number, attempt))
        sock.settimeout(0.2)
        try:
            while not (datagram := sock.recv(65535)).startswith(b"end of %d," % number):
                if not datagram.startswith(b"end of"):
                    received.append(datagram)
        except TimeoutError:
            continue
        return received
    pytest.fail("it does not answer any more")
