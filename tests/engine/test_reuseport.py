"""`suite.engine.linux.reuseport` on real sockets: which one of a group gets a datagram."""

from __future__ import annotations

import errno
import json
import select
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("needs SO_ATTACH_REUSEPORT_CBPF", allow_module_level=True)

from suite.engine.linux.reuseport import steer_by_connection, steer_by_source
from tests.running import PATIENCE, cannot_run, client_program

SOCKETS = 4

_IPV6_FREEBIND = 78  # linux/in6.h: to bind what is local by a route

MakeGroup = Callable[[str], list[socket.socket]]


def bound(host: str, port: int = 0, *, grouped: bool = False) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    if grouped:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if host == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if host.startswith("2001:"):
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    sock.bind((host, port))
    return sock


@pytest.fixture
def make_group() -> Iterator[MakeGroup]:
    """Makes a group of sockets that are bound to one address."""
    made: list[socket.socket] = []

    def make(host: str) -> list[socket.socket]:
        made.append(bound(host, grouped=True))
        port = made[0].getsockname()[1]
        made.extend(bound(host, port, grouped=True) for _ in range(1, SOCKETS))
        return made

    yield make
    for sock in made:
        sock.close()


def send(
    group: Collection[socket.socket], host: str, sources: Collection[str], each: int
) -> dict[str, set[int]]:
    """Send *each* datagrams, from ports of their own, from each of *sources* to *host*.

    :returns: the indexes of the sockets that have received them, by source.
    """
    port = next(iter(group)).getsockname()[1]
    for source in sources:
        for _ in range(each):
            with bound(source) as client:
                client.sendto(source.encode(), (host, port))
    found: dict[str, set[int]] = defaultdict(set)
    for _ in range(len(sources) * each):
        readable, _, _ = select.select(group, [], [], 30)
        assert readable, "a datagram is missing"
        found[readable[0].recv(100).decode()].add([*group].index(readable[0]))
    return found


MANY = [f"127.7.{each}.1" for each in range(1, 65)]


@pytest.mark.parametrize(("to", "at"), [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1")])
def test_a_source_has_one_socket(make_group: MakeGroup, to: str, at: str) -> None:
    """Whatever port it sends from; and all sockets have sources. Also where IPv6 sockets take IPv4."""
    group = make_group(to)
    steer_by_source(group[0], SOCKETS)
    found = send(group, at, MANY, 4)
    assert {len(sockets) for sockets in found.values()} == {1}
    assert set().union(*found.values()) == set(range(SOCKETS))
    assert send(group, at, MANY, 1) == found


def test_an_ipv6_network_of_64_bits_is_one_source() -> None:
    """In a namespace where every address of the documentation's network is the host's own."""
    for name in ("unshare", "ip"):
        client_program(name)
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        cannot_run("no network namespaces of one's own here")
    script = 'ip link set lo up; ip -6 route add local 2001:db8::/32 dev lo; exec "$@"'
    say = f"from {__name__} import say_networks; say_networks()"
    ran = subprocess.run(
        ["unshare", "-rn", "sh", "-e", "-c", script, "-", sys.executable, "-c", say],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout)
    assert {len(sockets) for sockets in found} == {1}
    assert set().union(*found) == set(range(SOCKETS))


def say_networks() -> None:
    """Print which sockets have got what came from each of many networks of 64 bits."""
    group = [bound("::1", grouped=True)]
    port = group[0].getsockname()[1]
    group.extend(bound("::1", port, grouped=True) for _ in range(1, SOCKETS))
    # One half of the word that a network ends with differs, and the other one, and the word before.
    networks = [f"2001:db8:{a:x}:{b:x}" for a in range(8) for b in (1, 2, 3, 0x100, 0x200, 0x300, 0xABCD, 0)]
    steer_by_source(group[0], SOCKETS, loopback_by_port={4, 6})
    found = []
    for network in networks:
        hosts = [f"{network}:{end}" for end in ("0:0:0:1", "ffff:ffff:ffff:ffff", "0:1:0:0", "1:0:0:1")]
        found.append(set().union(*send(group, "::1", hosts, 1).values()))
    print(json.dumps([[*each] for each in found]))


@pytest.mark.parametrize(
    ("to", "at", "version"), [("127.0.0.1", "127.0.0.1", 4), ("::", "127.0.0.1", 4), ("::1", "::1", 6)]
)
def test_loopback_is_spread_by_port(make_group: MakeGroup, to: str, at: str, version: int) -> None:
    group = make_group(to)
    steer_by_source(group[0], SOCKETS, loopback_by_port={version})
    assert send(group, at, [at], 128) == {at: set(range(SOCKETS))}
    steer_by_source(group[-1], SOCKETS, loopback_by_port={4, 6} - {version})
    assert len(send(group, at, [at], 32)[at]) == 1


def test_one_port_keeps_its_socket(make_group: MakeGroup) -> None:
    group = make_group("127.0.0.1")
    steer_by_source(group[0], SOCKETS, loopback_by_port={4, 6})
    with bound("127.0.0.1") as client:
        for _ in range(32):
            client.sendto(b"", group[0].getsockname())
    (readable, _, _) = select.select(group, [], [], 30)
    assert len(readable) == 1


def test_what_is_no_longer_steered_is_spread(make_group: MakeGroup) -> None:
    group = make_group("127.0.0.1")
    steer_by_connection(group[0])  # nothing is to be undone
    steer_by_source(group[0], SOCKETS)
    assert len(send(group, "127.0.0.1", ["127.0.0.1"], 32)["127.0.0.1"]) == 1
    steer_by_connection(group[1])
    assert len(send(group, "127.0.0.1", ["127.0.0.1"], 128)["127.0.0.1"]) > 1


def test_a_socket_of_no_group() -> None:
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match=r".") as raised:
        steer_by_source(sock, SOCKETS)
    assert raised.value.errno == errno.EINVAL
    with bound("127.0.0.1") as sock, pytest.raises(OSError, match=r".") as raised:
        steer_by_source(sock, SOCKETS)
    assert raised.value.errno == errno.EINVAL
