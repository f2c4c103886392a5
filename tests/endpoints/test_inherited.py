"""`suite.endpoints.inherited`: sockets that the parent process has opened, as they say themselves."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from suite.endpoints import inherited
from suite.endpoints.descriptions import FIRST_DESCRIPTOR as FIRST
from suite.endpoints.inherited import Inherited, UnusableSocketError
from tests.helpers import described

HERE = Path("/srv/echo")


def bound(family: int, kind: int, address: Any, *, listens: bool = True) -> socket.socket:
    sock = socket.socket(family, kind)
    sock.bind(address)
    if listens and kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        sock.listen()
    return sock


def tcp() -> socket.socket:
    return bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))


def udp() -> socket.socket:
    return bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))


def unix(kind: int = socket.SOCK_STREAM) -> socket.socket:
    return bound(socket.AF_UNIX, kind, "\0" + os.urandom(8).hex())


def connected_tcp(stack: ExitStack) -> socket.socket:
    server = stack.enter_context(tcp())
    client = stack.enter_context(socket.create_connection(server.getsockname()))
    assert client.fileno() >= 0
    return server.accept()[0]


def connected_udp() -> socket.socket:
    sock = udp()
    sock.connect(("127.0.0.1", 9))
    return sock


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def given(stack: ExitStack, sock: socket.socket) -> int:
    """A descriptor of *sock* as a child process has it: inheritable, and not one of its own."""
    stack.enter_context(sock)
    fd = os.dup(sock.fileno())
    os.set_inheritable(fd, True)
    stack.callback(os.close, fd)
    return fd


def adopt(fd: int, listen: str = "fd:{}") -> socket.socket:
    return Inherited({}).adopt(fd, described(HERE, listen.format(fd)))


# What can be served.


@pytest.mark.parametrize(
    ("make", "transport"), [(tcp, "TCP"), (udp, "UDP"), (unix, "UNIX")], ids=["tcp", "udp", "unix"]
)
def test_family_and_type_are_the_sockets(stack: ExitStack, make: Any, transport: str) -> None:
    sock = adopt(given(stack, make()))
    assert inherited.transport_of(sock) == transport
    assert not sock.getblocking()
    assert not os.get_inheritable(sock.fileno())


def test_a_socket_for_both_families_is_what_it_is(stack: ExitStack) -> None:
    """``ListenStream=1234`` gives one, although the text says INET."""
    sock = stack.enter_context(socket.socket(socket.AF_INET6))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    sock.listen()
    fd = given(stack, sock)
    index = Inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(fd - FIRST + 1)})
    adopted = index.adopt(fd, described(HERE, f"systemd:domain=INET:index={fd - FIRST}"))
    assert adopted.family == socket.AF_INET6


def test_the_descriptor_outlives_whoever_has_used_it(stack: ExitStack) -> None:
    """Otherwise its number would become another socket's."""
    fd = given(stack, tcp())
    sock = adopt(fd)
    del sock
    assert os.fstat(fd)


def test_it_is_adopted_once(stack: ExitStack) -> None:
    fd = given(stack, tcp())
    sockets = Inherited({})
    description = described(HERE, f"fd:{fd}")
    assert sockets.adopt(fd, description) is sockets.adopt(fd, description)


# What cannot.


@pytest.mark.parametrize(
    ("make", "listen", "problem"),
    [
        (None, "fd:{}", "is a TCP socket that is connected; expected one that listens"),
        (connected_udp, "fd:{}", "is a UDP socket that is connected"),
        (
            lambda: bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), listens=False),
            "fd:{}",
            "is a TCP socket that does not listen",
        ),
        (lambda: unix(socket.SOCK_DGRAM), "fd:{}", "is a UNIX datagram socket; expected a TCP, UDP or UNIX"),
        (lambda: unix(socket.SOCK_SEQPACKET), "fd:{}", "is a UNIX sequenced-packet socket; expected"),
        (udp, "haproxy:fd:{}", "is a UDP socket; haproxy: expects a stream"),
        (tcp, "systemd:domain=UNIX:name={}", "is a TCP socket; expected domain=INET for it"),
        (unix, "systemd:domain=INET:name={}", "is a UNIX stream socket; expected domain=UNIX for it"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    stack: ExitStack, make: Any, listen: str, problem: str
) -> None:
    fd = given(stack, make() if make is not None else connected_tcp(stack))
    with pytest.raises(UnusableSocketError) as caught:
        adopt(fd, listen)
    assert str(caught.value).startswith(f"descriptor {fd} {problem}")
    assert os.fstat(fd), "it is left open"


def test_a_pipe_is_refused(stack: ExitStack) -> None:
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    stack.callback(os.close, writing)
    os.set_inheritable(reading, True)
    with pytest.raises(UnusableSocketError, match=f"descriptor {reading} is not a socket"):
        adopt(reading)


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    with pytest.raises(UnusableSocketError, match="1048575 is not open"):
        adopt(1_048_575)


def test_a_descriptor_of_the_suites_own_is_refused(stack: ExitStack) -> None:
    """A reload may name a number that has become a client's."""
    with closing(tcp()) as sock, pytest.raises(UnusableSocketError, match="is the suite's own"):
        adopt(sock.fileno())


# Which descriptors are meant.


def listed(count: int, names: str | None, pid: int | None = None) -> Inherited:
    environ = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count)}
    return Inherited(environ if names is None else {**environ, "LISTEN_FDNAMES": names})


@pytest.mark.parametrize(
    ("names", "listen", "wanted"),
    [
        ("a:b:a", "systemd:INET:name=b", [4]),
        ("a:b:a", "systemd:INET:name=a", [3, 5]),
        ("a:b:a", "systemd:INET:index=2", [5]),
        (None, "systemd:INET:index=2", [5]),
        ("a", "systemd:INET:index=2", [5]),
        (None, "systemd:INET:name=unknown", [3, 4, 5]),
        ("a:b:a", "fd:7", [7]),
    ],
)
def test_names_are_not_needed_for_indices(names: str | None, listen: str, wanted: list[int]) -> None:
    assert listed(3, names).wanted(described(HERE, listen)) == wanted


@pytest.mark.parametrize(
    ("sockets", "problem"),
    [
        (listed(0, None), r"no such descriptor was inherited \(see LISTEN_FDS and LISTEN_FDNAMES\)"),
        (listed(2, "a:b"), r"no such descriptor was inherited; there are index=0 \(a\), index=1 \(b\)"),
        (
            listed(2, "c:c", pid=1),
            r"was inherited: LISTEN_PID is 1, and this is process \d+; expected no process",
        ),
    ],
)
@pytest.mark.parametrize("listen", ["systemd:INET:name=c", "systemd:INET:index=9"])
def test_a_missing_one_is_named(sockets: Inherited, problem: str, listen: str) -> None:
    with pytest.raises(UnusableSocketError, match=problem):
        sockets.wanted(described(HERE, listen))


def test_the_environment_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twisted removes the variables from ours."""
    environ = tmp_path / "environ"
    environ.write_bytes(f"LISTEN_PID={os.getpid()}\0LISTEN_FDS=1\0LISTEN_FDNAMES=web\0".encode())
    monkeypatch.setattr(inherited, "ENVIRONMENT", environ)
    assert Inherited().names == {FIRST: "web"}


def test_what_no_endpoint_takes_is_named(stack: ExitStack) -> None:
    sockets = listed(0, None)
    fd = given(stack, tcp())
    other = given(stack, unix())
    sockets.names = {fd: "web", other: "local"}
    port = stack.enter_context(socket.socket(fileno=os.dup(fd))).getsockname()[1]
    assert [*sockets.unused([other])] == [f"{fd} (web, TCP socket 127.0.0.1:{port})"]
    assert [*sockets.unused([fd, other])] == []
