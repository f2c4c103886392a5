"""`suite.endpoints.sockets`: real sockets, opened once, changed in place, and replaced without a gap."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from suite.endpoints import parser
from suite.endpoints.descriptions import Description
from suite.endpoints.inherited import Inherited
from suite.endpoints.sockets import ListeningSocket, Sockets, listen_error, make_directory
from suite.errors import ConfigError, ListenError
from tests.foreign import free_port
from tests.helpers import config_of, described

HERE = Path("/srv/echo")


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """The sockets of a suite; all are closed at the end."""
    sockets = Sockets(Inherited({}))
    yield sockets
    close_others(sockets)


def close_others(sockets: Sockets, *wanted: ListeningSocket) -> None:
    for sock in sockets.keep_only(wanted):
        sock.close()


def open_(sockets: Sockets, description: Description, undo: ExitStack | None = None) -> ListeningSocket:
    with ExitStack() as stack:
        (found,) = sockets.open(description, stack)
        if undo is not None:
            undo.push(stack.pop_all())
        stack.pop_all()
    return found


def port_of(sock: ListeningSocket) -> int:
    number: int = sock.sock.getsockname()[1]
    return number


def connects(sock: ListeningSocket, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port_of(sock)), timeout=10)


def peer_of_next(sock: ListeningSocket) -> object:
    """The address of the next peer in the queue."""
    accepted, peer = sock.sock.accept()
    accepted.close()
    return peer[0]


def listens(sock: socket.socket) -> bool:
    return sock.fileno() >= 0 and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


# One socket for one address.


@pytest.mark.parametrize(
    ("listen", "family", "transport"),
    [
        ("tcp:0", socket.AF_INET, "TCP"),
        ("tcp6:0", socket.AF_INET6, "TCP"),
        ("udp:0", socket.AF_INET, "UDP"),
        ("udp6:0", socket.AF_INET6, "UDP"),
        ("unix:\0echo-sockets-test", socket.AF_UNIX, "UNIX"),
    ],
)
def test_a_socket_is_opened_once(sockets: Sockets, listen: str, family: int, transport: str) -> None:
    description = described(HERE, listen)
    sock = open_(sockets, description)
    assert (sock.sock.family, sock.transport) == (family, transport)
    assert not sock.sock.getblocking()
    assert not os.get_inheritable(sock.sock.fileno())
    assert open_(sockets, description) is sock


def test_what_answers_on_it_does_not_matter(sockets: Sockets) -> None:
    """TLS or not, behind a PROXY header or not, under another name: the queue stays."""
    port = free_port()
    sock = open_(sockets, described(HERE, f"tcp:{port}"))
    for listen in (f"ssl:{port}:a.key:a.pem", f"haproxy:tcp:{port}", f"tcp:{port}:interface=localhost"):
        assert open_(sockets, described(HERE, listen)) is sock


def test_ports_that_the_system_chooses_are_each_endpoints_own(sockets: Sockets) -> None:
    one, other = parser.parse(config_of(HERE, "tcp:0", "tcp:0"))
    assert open_(sockets, one) is not open_(sockets, other)
    assert open_(sockets, one) is open_(sockets, one)


def test_a_longer_queue_needs_no_new_socket(sockets: Sockets) -> None:
    port = free_port()
    sock = open_(sockets, described(HERE, f"tcp:{port}:backlog=1"))
    with ExitStack() as undo, ExitStack() as clients:
        clients.enter_context(connects(sock))
        assert open_(sockets, described(HERE, f"tcp:{port}:backlog=50"), undo) is sock
        for _ in range(20):  # more than a queue of 1 takes
            clients.enter_context(connects(sock))
        for _ in range(21):
            clients.enter_context(sock.sock.accept()[0])
        undo.close()
        assert listens(sock.sock)


def test_a_mode_is_changed_in_place_and_back(sockets: Sockets, tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    sock = open_(sockets, described(tmp_path, "unix:e.sock"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with ExitStack() as undo:
        assert open_(sockets, described(tmp_path, "unix:e.sock:mode=600"), undo) is sock
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        undo.close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_mode_that_somebody_has_changed_is_put_right(sockets: Sockets, tmp_path: Path) -> None:
    description = described(tmp_path, "unix:e.sock")
    sock = open_(sockets, description)
    os.chmod(tmp_path / "e.sock", 0)
    assert open_(sockets, description) is sock
    assert stat.S_IMODE((tmp_path / "e.sock").stat().st_mode) == 0o660


@pytest.mark.parametrize("gone", ["socket", "socket and lock"])
def test_a_path_that_somebody_has_removed_is_there_again(sockets: Sockets, tmp_path: Path, gone: str) -> None:
    description = described(tmp_path, "unix:e.sock")
    old = open_(sockets, description)
    os.unlink(tmp_path / "e.sock")
    if gone != "socket":
        os.unlink(tmp_path / "e.sock.lock")
    assert not old.intact
    new = open_(sockets, description)
    assert new is not old
    assert new.key == old.key
    close_others(sockets, new)
    assert old.sock.fileno() == -1
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "e.sock"))
    close_others(sockets)
    assert os.listdir(tmp_path) == []


def test_another_servers_socket_at_the_path_is_left_alone(sockets: Sockets, tmp_path: Path) -> None:
    description = described(tmp_path, "unix:e.sock")
    old = open_(sockets, description)
    os.unlink(tmp_path / "e.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "e.sock"))
        other.listen()
        with pytest.raises(ListenError, match="a server is listening there"):
            open_(sockets, description)
        assert listens(old.sock)
        os.unlink(tmp_path / "e.sock")
    assert open_(sockets, description) is not old, "its lock came back"


# Undoing.


def test_what_was_opened_can_be_undone(sockets: Sockets, tmp_path: Path) -> None:
    with ExitStack() as undo:
        tcp = open_(sockets, described(HERE, "tcp:0"), undo)
        open_(sockets, described(tmp_path, "unix:e.sock"), undo)
    assert tcp.sock.fileno() == -1
    assert os.listdir(tmp_path) == []
    assert open_(sockets, described(HERE, "tcp:0")) is not tcp


def test_what_was_open_before_stays_open(sockets: Sockets, tmp_path: Path) -> None:
    description = described(tmp_path, "unix:e.sock")
    old = open_(sockets, description)
    os.unlink(tmp_path / "e.sock")
    with ExitStack() as undo:
        open_(sockets, description, undo)
    assert listens(old.sock)
    close_others(sockets, old)
    assert listens(old.sock)


# Addresses that overlap: the new socket opens before the old one closes.


@pytest.mark.parametrize(
    ("before", "after"),
    [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")],  # for a moment
)
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_wider_address_opens_beside_the_narrower_one(
    sockets: Sockets, kind: str, before: str, after: str
) -> None:
    old = open_(sockets, described(HERE, f"{kind}:0:{before}"))
    port = port_of(old)
    description = described(HERE, f"{kind}:{port}:{after}")
    with ExitStack() as undo:
        new = open_(sockets, description, undo)
        assert new is not old
        assert old.sock.fileno() >= 0
        undo.close()
        assert new.sock.fileno() == -1
    new = open_(sockets, description)
    close_others(sockets, new)
    assert old.sock.fileno() == -1
    assert not new.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), "nobody is to share it"


def test_an_address_that_another_process_has_is_in_use(sockets: Sockets) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ListenError, match="Address already in use"):
            open_(sockets, described(HERE, f"tcp:{other.getsockname()[1]}"))


def test_without_descriptors_the_error_says_what_an_endpoint_needs() -> None:
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    assert str(listen_error(described(HERE, "unix:/e.sock"), error)) == (
        "endpoints.e0: cannot listen on /e.sock: Too many open files; an endpoint needs a file descriptor, "
        "and one of a UNIX socket two (without lockfile=0): raise the hard limit "
        "(ulimit -Hn, or LimitNOFILE= of a systemd unit)"
    )


@pytest.mark.parametrize("listen", ["tcp:0", "udp:0", "unix:e.sock"])
def test_a_descriptor_that_select_cannot_watch_is_an_error(tmp_path: Path, listen: str) -> None:
    sockets = Sockets(Inherited({}), watchable=0)
    with pytest.raises(
        ListenError, match=r"its socket is descriptor \d+, and select can watch those below 0;"
    ):
        open_(sockets, described(tmp_path, listen))
    assert os.listdir(tmp_path) == []
    assert sockets.keep_only([]) == []


def both(port: int, kind: str) -> list[Description]:
    return parser.parse(
        config_of(HERE, f"{kind}:{port}:0.0.0.0", f"{kind}6:{port}:interface="),
    )


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("turned", [False, True])
def test_every_address_of_both_families_on_one_port(sockets: Sockets, kind: str, turned: bool) -> None:
    port = free_port()
    for description in both(port, kind)[:: -1 if turned else 1]:
        open_(sockets, description)


def test_every_ipv6_address_alone_takes_ipv4_as_well(sockets: Sockets) -> None:
    (description,) = parser.parse(config_of(HERE, "tcp6:0:interface="))
    assert not description.v6only
    sock = open_(sockets, description)
    with connects(sock):
        assert peer_of_next(sock) == "::ffff:127.0.0.1"
    with connects(sock, "::1"):
        assert peer_of_next(sock) == "::1"


@pytest.mark.parametrize("turned", [False, True])
def test_ipv4_is_taken_from_a_socket_for_both_and_given_back(sockets: Sockets, turned: bool) -> None:
    """Whichever of the two comes first in the file."""
    port = free_port()
    (alone,) = parser.parse(config_of(HERE, f"tcp6:{port}:interface="))
    dual = open_(sockets, alone)
    opened = [open_(sockets, description) for description in both(port, "tcp")[:: -1 if turned else 1]]
    four, six = opened[:: -1 if turned else 1]
    assert six is not dual
    close_others(sockets, four, six)
    with connects(four), connects(six, "::1"):
        assert peer_of_next(four) == "127.0.0.1"
        assert peer_of_next(six) == "::1"
    dual = open_(sockets, alone)
    close_others(sockets, dual)
    with connects(dual):
        assert peer_of_next(dual) == "::ffff:127.0.0.1"


# `check` and the kernel agree on what collides.

COLLISIONS: list[tuple[str, str, bool]] = [
    ("tcp:{}", "tcp:{}", True),
    ("tcp:{}", "udp:{}", False),
    ("tcp:{}", "tcp:{}:127.0.0.2", False),
    ("tcp:{}", "tcp:{}:0.0.0.0", True),
    ("tcp:{}", "tcp:{}:interface=", True),
    ("tcp:{}", "tcp6:{}", False),
    ("tcp:{}", "tcp6:{}:interface=", False),
    ("tcp:{}", r"tcp6:{}:interface=\:\:ffff\:127.0.0.1", True),
    ("tcp:{}:interface=", "tcp6:{}:interface=", False),
    ("tcp6:{}", "tcp6:{}:interface=", True),
    ("udp:{}", "udp:{}:0.0.0.0", True),
    ("udp:{}:0.0.0.0", "udp6:{}:interface=", False),
    ("udp6:{}", r"udp6:{}:interface=\:\:", True),
]


@pytest.mark.parametrize(("one", "other", "collides"), COLLISIONS)
@pytest.mark.parametrize("turned", [False, True])
def test_what_check_calls_taken_is_what_the_kernel_refuses(
    one: str, other: str, collides: bool, turned: bool
) -> None:
    port = free_port()
    listens = [listen.format(port) for listen in ((other, one) if turned else (one, other))]
    if collides:
        with pytest.raises(ConfigError, match=r"is taken by endpoints\.e0"):
            parser.parse(config_of(HERE, *listens))
        descriptions = [described(HERE, listen) for listen in listens]
    else:
        descriptions = parser.parse(config_of(HERE, *listens))
    # Each by a suite of its own, which has nothing to replace.
    suites = [Sockets(Inherited({})) for _ in descriptions]
    try:
        open_(suites[0], descriptions[0])
        if collides:
            with pytest.raises(ListenError, match="Address already in use"):
                open_(suites[1], descriptions[1])
        else:
            open_(suites[1], descriptions[1])
    finally:
        for sockets in suites:
            close_others(sockets)


@pytest.mark.parametrize(
    ("listens", "taken"),
    [
        (["systemd:INET:index=0", "systemd:INET:index=0"], True),
        (["systemd:INET:index=0", "fd:3"], True),
        (["systemd:INET:index=1", "fd:3"], False),
        (["systemd:INET:name=a", "systemd:INET:name=a"], True),
        (["systemd:INET:name=a", "systemd:INET:name=b"], False),
    ],
)
def test_one_descriptor_is_for_one_endpoint(listens: list[str], taken: bool) -> None:
    config = config_of(HERE, *listens)
    if taken:
        with pytest.raises(ConfigError, match=r"is taken by endpoints\.e0"):
            parser.parse(config)
    else:
        assert len(parser.parse(config)) == 2


@pytest.mark.parametrize("kind", ["tcp6", "udp6"])
def test_an_ipv4_address_for_an_ipv6_type_is_a_mistake(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"'127\.0\.0\.1' is an IPv4 address.*or {kind[:-1]}:"):
        described(HERE, f"{kind}:1:interface=127.0.0.1")


def test_the_limits_of_an_inherited_socket_are_those_of_any_transport() -> None:
    """Only the socket will say what it is."""
    description = described(HERE, "systemd:INET:name=a")
    assert description.accepts_limit("rate")
    assert not description.accepts_limit("proxy_from")


# The directory of a UNIX socket.


def test_the_directory_of_a_socket_is_made(tmp_path: Path) -> None:
    description = described(tmp_path, "unix:run/e.sock")
    make_directory(description)
    assert (tmp_path / "run").is_dir()
    make_directory(description)  # and may exist already
    assert os.listdir(tmp_path / "run") == []


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_its_owner_may_write_into_it_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        make_directory(described(tmp_path, "unix:run/e.sock"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755 & ~mask


def test_a_whole_way_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one missing directory looks like a mistake in the path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ListenError) as caught:
        make_directory(described(tmp_path, "unix:no/such/e.sock"))
    assert str(caught.value) == (
        "endpoints.e0: cannot listen on no/such/e.sock: no/such: No such file or directory"
    )
    assert os.listdir(tmp_path) == []


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ListenError, match="run: File exists"):
        make_directory(described(tmp_path, "unix:run/e.sock"))


@pytest.mark.parametrize("listen", ["unix:\0run/e.sock", "tcp:1234", "udp:1234", "fd:3"])
def test_only_sockets_with_a_path_have_a_directory(tmp_path: Path, listen: str) -> None:
    make_directory(described(tmp_path, listen))
    assert os.listdir(tmp_path) == []


def test_a_socket_where_we_are_needs_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.chdir(deep)
    description = described(deep, "unix:e.sock")
    assert description.arguments["address"] == "e.sock"
    make_directory(description)
    assert os.listdir(deep) == []
