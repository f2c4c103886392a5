"""Reloading under load, with inherited sockets and without the privileges of the start: nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from suite import certs
from tests import activate
from tests.foreign import free_port
from tests.running import (
    PATIENCE,
    RunningSuite,
    TLSClient,
    cannot_run,
    client_program,
    read_to_end,
    running,
    wait_until,
)

REACTORS: Final = ("echo-engine", "select", "asyncio")

either = pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])

#: Bytes that show which connection they belong to.
PAYLOAD: Final = b"0123456789" * 20


def reloaded(suite: RunningSuite, config: str | None = None, answer: str = "reloaded: ") -> str:
    """Have *suite* reload *config*; return the line that it logs."""
    if config is not None:
        (suite.directory / "config.toml").write_text(config)
    before = [line for line in suite.errors if answer in line]
    suite.process.send_signal(signal.SIGHUP)

    def lines() -> list[str]:
        return [line for line in suite.errors if answer in line][len(before) :]

    wait_until(lambda: bool(lines()), answer)
    return lines()[0]


def echoes(sock: socket.socket, data: bytes = PAYLOAD) -> bool:
    """Whether *data* comes back on *sock*, which stays open."""
    sock.settimeout(PATIENCE)
    sock.sendall(data)
    received = b""
    while len(received) < len(data):
        more = sock.recv(65536)
        if not more:
            return False
        received += more
    return received == data


# Under load.


class Traffic:
    """Clients that connect, and have their bytes echoed, until they are told to end.

    :ivar made: the connections made.
    :ivar problems: what went wrong with them.
    """

    def __init__(self, address: tuple[str, int] | str, clients: int = 3) -> None:
        self.made = 0
        self.problems: list[str] = []
        self._address = address
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def has_made(self, count: int) -> bool:
        """Whether so many connections have been made."""
        return self.made >= count

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self) -> None:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        while not self._ending.is_set():
            try:
                with socket.socket(family) as sock:
                    sock.settimeout(PATIENCE)
                    sock.connect(self._address)
                    sock.sendall(b"PROXY UNKNOWN\r\n" + PAYLOAD)
                    sock.shutdown(socket.SHUT_WR)
                    received = read_to_end(sock.recv)
            except OSError as error:
                self.problems.append(repr(error))
            else:
                self.made += 1
                self._ending.wait(0.002)  # many thousands more would find no more
                # With or without its header, as the endpoint is just now.
                if received.removeprefix(b"PROXY UNKNOWN\r\n") != PAYLOAD:
                    self.problems.append(f"came back: {received!r}")


def variants(*addresses: str) -> Iterator[str]:
    """What can be said of sockets that stay open."""
    number = 0
    while True:
        number += 1
        name = "a" if number % 3 else "renamed"
        prefix = "haproxy:" if number % 2 else ""
        endpoints = "".join(
            f'{name}{place} = "{prefix}{address}:backlog={4096 - number}"\n'
            for place, address in enumerate(addresses)
        )
        yield f"[endpoints]\n{endpoints}[limits]\nconnections = {5000 + number}\n"


@pytest.mark.parametrize("reactor", REACTORS)
def test_no_connection_is_lost_during_50_reloads(tmp_path: Path, reactor: str) -> None:
    """Another name, another backlog, a PROXY header or none: the socket stays."""
    port = free_port()
    configs = variants(f"tcp:{port}", "unix:e.sock")
    with running(tmp_path, next(configs), "--reactor", reactor, "--log", "text") as suite:
        with Traffic(("127.0.0.1", port)) as tcp, Traffic(str(tmp_path / "e.sock")) as unix:
            for _ in range(50):
                assert "0 added, 0 removed, 2 changed" in reloaded(suite, next(configs))
                for traffic in (tcp, unix):
                    wait_until(partial(traffic.has_made, traffic.made + 1), "more connections")
        for traffic in (tcp, unix):
            assert traffic.problems == []
            assert traffic.made > 50


@pytest.mark.parametrize("reactor", ["echo-engine", "epoll"])
def test_open_connections_stay_whatever_changes(tmp_path: Path, reactor: str) -> None:
    port = free_port()
    certs.mint(tmp_path / "certs")
    plain = f'[endpoints]\na = "tcp:{port}"'
    tls = f'[endpoints]\nb = "ssl:{port}:certs/server.key:certs/server.pem"'
    proxied = f'[endpoints]\nc = "haproxy:tcp:{port}:backlog=9"'
    with running(tmp_path, plain, "--reactor", reactor) as suite, ExitStack() as stack:
        first = stack.enter_context(suite.connect("a"))
        assert echoes(first)
        reloaded(suite, tls)
        second = TLSClient(stack.enter_context(suite.connect("a")), suite.client_context())
        assert echoes(first)
        second.sendall(PAYLOAD)
        assert second.recv(len(PAYLOAD)) == PAYLOAD
        reloaded(suite, proxied)
        third = stack.enter_context(suite.connect("a"))
        third.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        assert echoes(third)
        reloaded(suite, plain)
        assert all(echoes(sock) for sock in (first, third))
        second.sendall(PAYLOAD)
        assert second.recv(len(PAYLOAD)) == PAYLOAD


@pytest.mark.parametrize("reactor", ["echo-engine", "epoll"])
def test_the_queue_of_a_removed_endpoint_is_served(tmp_path: Path, reactor: str) -> None:
    both = '[endpoints]\ntcp = "tcp:0"\nunix = "unix:e.sock"\nother = "tcp:0"'
    only = '[endpoints]\nother = "tcp:0"'
    with running(tmp_path, both, "--reactor", reactor) as suite, ExitStack() as stack:
        suite.process.send_signal(signal.SIGSTOP)
        waiting = [stack.enter_context(suite.connect(name)) for name in ("tcp", "unix") for _ in range(20)]
        for sock in waiting:
            sock.sendall(PAYLOAD)
            sock.shutdown(socket.SHUT_WR)
        (tmp_path / "config.toml").write_text(only)
        suite.process.send_signal(signal.SIGHUP)
        suite.process.send_signal(signal.SIGCONT)
        assert [read_to_end(sock.recv) for sock in waiting] == [PAYLOAD] * 40


@either
def test_a_wider_address_takes_over_without_a_gap(tmp_path: Path, options: tuple[str, ...]) -> None:
    port = free_port()
    narrow, wide = (f'[endpoints]\na = "tcp:{port}:{host}"' for host in ("127.0.0.1", "0.0.0.0"))
    with running(tmp_path, narrow, *options) as suite:
        assert "1 changed" in reloaded(suite, wide)
        with socket.create_connection(("127.0.0.2", port), PATIENCE) as sock:
            assert echoes(sock)
        assert "1 changed" in reloaded(suite, narrow)
        with suite.connect("a") as sock:
            assert echoes(sock)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), PATIENCE)


def test_signals_during_a_reload_are_one_more(tmp_path: Path) -> None:
    """Each waits for the one before, and none is forgotten."""
    endpoints = "\n".join(f'e{number} = "tcp:0"' for number in range(300))
    with running(tmp_path, f"[endpoints]\n{endpoints}") as suite:
        for _ in range(10):
            suite.process.send_signal(signal.SIGHUP)
            time.sleep(0.001)  # so that the kernel does not merge them itself
        (tmp_path / "new.toml").write_text('[endpoints]\ne0 = "tcp:0"')
        (tmp_path / "new.toml").replace(tmp_path / "config.toml")  # at once: it is just being read
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any("299 removed" in line for line in suite.errors), "299 removed")
        assert len([line for line in suite.errors if "reloaded" in line]) < 11


# Without the privileges of the start.


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("place", ["low port", "root's directory"])
def test_what_cannot_be_opened_again_is_never_closed(entered_by_all: Path, place: str) -> None:
    """A reload under another user that would need root's rights fails, and everything goes on."""
    if place == "low port":
        with socket.socket() as sock:
            sock.bind(("127.0.0.9", 0))
        listen, more = "tcp:81:127.0.0.9", "tcp:82:127.0.0.9"
        address: tuple[str, int] | str = ("127.0.0.9", 81)
    else:
        listen, more = "unix:a.sock:mode=666", "unix:b.sock"
        address = str(entered_by_all / "a.sock")
    config = f'user = "nobody"\n[endpoints]\na = "{listen}"\nplain = "tcp:0"\n'
    command = [sys.executable, "-m", "suite"]
    with running(entered_by_all, config, command=command, asked_for=["not reloaded", "left behind"]) as suite:
        changes = (f'user = "nobody"\n[endpoints]\nrenamed = "{listen}:backlog=7"\nmore = "{more}"\n', config)
        refused = reloaded(suite, changes[0], "not reloaded: ")
        assert "endpoints.more: cannot listen" in refused
        for _ in range(2):
            assert "2 as before" in reloaded(suite, changes[1])
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with socket.socket(family) as sock, suite.connect("plain") as plain:
            sock.connect(address)
            assert echoes(sock)
            assert echoes(plain)
        renamed = changes[0].replace("more = ", "# ")
        assert "0 added, 1 removed, 1 changed" in reloaded(suite, renamed)
        with socket.socket(family) as sock:
            sock.connect(address)
            assert echoes(sock)


# Optional endpoints.


@either
def test_an_optional_endpoint_may_be_missing(tmp_path: Path, options: tuple[str, ...]) -> None:
    config = (
        '[endpoints]\ntcp = "tcp:0"\n[endpoints.other]\nlisten = "tcp:0:192.0.2.1"\noptional = true\n'
        '[endpoints.local]\nlisten = "unix:later/e.sock/x"\noptional = true\n'
    )
    with running(tmp_path, config, *options, asked_for=["not served: "]) as suite:
        wait_until(lambda: len([line for line in suite.errors if "not served: e" in line]) == 2, "both")
        with suite.connect("tcp") as sock:
            assert echoes(sock)
        (tmp_path / "later/e.sock").mkdir(parents=True)
        assert "1 added, 0 removed, 0 changed, 1 as before" in reloaded(suite)
        assert (tmp_path / "later/e.sock/x").is_socket()


# Inherited sockets.


@contextmanager
def inheriting(
    directory: Path,
    config: str,
    sockets: dict[str, socket.socket],
    *options: str,
    asked_for: tuple[str, ...] = (),
) -> Iterator[RunningSuite]:
    """A suite that has inherited *sockets*, by name; a name may have a suffix ``#…``, which is cut off."""
    given = [f"{name.partition('#')[0]}={sock.fileno()}" for name, sock in sockets.items()]
    command = [sys.executable, activate.__file__, *given, "--"]
    descriptors = [sock.fileno() for sock in sockets.values()]
    with running(
        directory, config, *options, command=command, pass_fds=descriptors, asked_for=asked_for
    ) as suite:
        yield suite


def bound(stack: ExitStack, family: int, kind: int, address: object) -> socket.socket:
    sock = stack.enter_context(socket.socket(family, kind))
    sock.bind(address)  # type: ignore[arg-type]  # of the family
    if kind == socket.SOCK_STREAM:
        sock.listen(128)
    return sock


@pytest.mark.parametrize(
    "options", [(), ("--reactor", "select"), ("--workers", "2")], ids=["one process", "select", "workers"]
)
def test_inherited_sockets_are_renamed_dropped_and_taken_back(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with ExitStack() as stack:
        sockets = {
            name: bound(stack, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) for name in ("a", "b")
        }
        both = '[endpoints]\na = "systemd:INET:name=a"\nb = "systemd:INET:index=1"'
        unused = "inherited, but of no endpoint: "
        with inheriting(tmp_path, both, sockets, *options, asked_for=(unused,)) as suite:

            def answers(name: str) -> bool:
                with socket.create_connection(sockets[name].getsockname(), PATIENCE) as sock:
                    return echoes(sock)

            held = stack.enter_context(suite.connect("a"))
            assert answers("a")
            assert answers("b")
            renamed = '[endpoints]\nx = "systemd:INET:name=a"\ny = "systemd:INET:index=1"'
            assert "0 added, 0 removed, 2 changed" in reloaded(suite, renamed)
            for _ in range(3):
                assert "1 removed" in reloaded(suite, '[endpoints]\ny = "systemd:INET:index=1"')
                assert answers("b")
                with socket.create_connection(sockets["a"].getsockname(), PATIENCE) as waiting:
                    waiting.sendall(PAYLOAD)
                    assert "1 added" in reloaded(suite, renamed)
                    assert waiting.recv(len(PAYLOAD), socket.MSG_WAITALL) == PAYLOAD
                assert answers("a")
            assert held.fileno() >= 0
            assert any(f"{unused}3 (a, TCP socket 127.0.0.1:" in line for line in suite.errors)


def test_two_sockets_of_one_name_are_both_served(tmp_path: Path) -> None:
    """As those of one socket unit are: their name is the unit's, for streams and datagrams alike."""
    with ExitStack() as stack:
        sockets = {
            "echo#1": bound(stack, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "echo#2": bound(stack, socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            "echo#3": bound(stack, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        }
        config = '[endpoints.it]\nlisten = "systemd:INET:name=echo"\nlimits = { connections = 1 }'
        with inheriting(tmp_path, config, sockets, asked_for=("connections",)) as suite:
            assert len([line for line in suite.lines if line.startswith("it ")]) == 3
            with socket.create_connection(sockets["echo#1"].getsockname(), PATIENCE) as sock:
                assert echoes(sock)
                with socket.create_connection(sockets["echo#2"].getsockname()[:2], PATIENCE) as other:
                    assert not ended_by_echo(other), "the limits are those of the endpoint"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE)
                client.connect(sockets["echo#3"].getsockname())
                client.send(b"one")
                assert client.recv(100) == b"one"


def ended_by_echo(sock: socket.socket) -> bool:
    """Whether anything comes back on *sock*."""
    try:
        sock.sendall(b"x")
        return bool(sock.recv(1))
    except OSError:
        return False


def test_a_socket_for_both_families_knows_its_peers(tmp_path: Path) -> None:
    """``ListenStream=1234`` gives one, whatever the description says: an IPv4 peer is denied as such."""
    with ExitStack() as stack:
        sock = bound_dual(stack)
        port = sock.getsockname()[1]
        config = '[endpoints.it]\nlisten = "systemd:domain=INET:index=0"\nlimits = { deny = ["127.0.0.2"] }'
        with inheriting(tmp_path, config, {"x": sock}, asked_for=("denied",)) as suite:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                assert echoes(client)
            with socket.create_connection(("::1", port), PATIENCE) as client:
                assert echoes(client)
            with socket.create_connection(
                ("127.0.0.1", port), PATIENCE, source_address=("127.0.0.2", 0)
            ) as client:
                assert not ended_by_echo(client)
            wait_until(
                lambda: any("127.0.0.2" in line and "denied" in line for line in suite.errors), "it is logged"
            )


def bound_dual(stack: ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_INET6))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    sock.listen()
    return sock


# Files that change while they are in use.


@either
def test_a_removed_socket_is_there_again_without_a_signal(tmp_path: Path, options: tuple[str, ...]) -> None:
    config = '[endpoints]\nunix = "unix:e.sock"\ntcp = "tcp:0"'
    with running(tmp_path, config, *options, asked_for=["had been removed"]) as suite:
        held = suite.connect("unix")
        with held:
            assert echoes(held)
            os.unlink(tmp_path / "e.sock")
            wait_until((tmp_path / "e.sock").exists, "the socket is there again")
            wait_until(lambda: any("it is there again" in line for line in suite.errors), "it is logged")
            with suite.connect("unix") as sock:
                assert echoes(sock)
            assert echoes(held), "it goes on"
            os.unlink(tmp_path / "e.sock")
            assert "as before" in reloaded(suite)
            with suite.connect("unix") as sock:
                assert echoes(sock)


@either
def test_a_mode_that_somebody_changes_is_put_right_without_a_signal(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "e.sock"

    def mode() -> int:
        return stat.S_IMODE(path.stat().st_mode)

    with running(tmp_path, '[endpoints]\nunix = "unix:e.sock:mode=640"', *options) as suite:
        for other in (0, 0o777):
            path.chmod(other)
            wait_until(lambda: mode() == 0o640, "the mode is as it was")
            path.chmod(other)
            assert "as before" in reloaded(suite)
            assert mode() == 0o640
        with suite.connect("unix") as sock:
            assert echoes(sock)


def serial_of(suite: RunningSuite) -> str | None:
    context = suite.client_context()
    context.check_hostname = False
    with suite.connect("tls") as raw, context.wrap_socket(raw) as sock:
        found = sock.getpeercert()
        return None if found is None else str(found["serialNumber"])


@pytest.mark.parametrize("how", ["kubernetes", "one after the other"])
def test_certificates_that_are_renewed_are_served_without_a_signal(tmp_path: Path, how: str) -> None:
    ca_directory = tmp_path / "certs"
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        certs.mint(directory)
    ca_directory.mkdir()
    (ca_directory / "ca.pem").write_bytes(b"".join((d / "ca.pem").read_bytes() for d in (one, two)))
    mounted = tmp_path / "mounted"
    mounted.mkdir()

    def put(source: Path) -> None:
        """Make the files in *mounted* those in *source*."""
        if how == "kubernetes":  # which swaps a link that the files' own links go through
            link = mounted / "..data_tmp"
            link.symlink_to(source)
            os.replace(link, mounted / "..data")
            return
        for name in ("server.key", "server.pem"):
            temporary = mounted / f".{name}"
            temporary.write_bytes((source / name).read_bytes())
            temporary.chmod(0o600)
            os.replace(temporary, mounted / name)

    if how == "kubernetes":
        for name in ("server.key", "server.pem"):
            (mounted / name).symlink_to(f"..data/{name}")
    put(one)
    config = '[endpoints]\ntls = "ssl:0:mounted/server.key:mounted/server.pem"'
    with running(tmp_path, config, asked_for=["files have changed, and cannot be used"]) as suite:
        before = serial_of(suite)
        put(two)
        wait_until(lambda: serial_of(suite) != before, "the new certificate")
        after = serial_of(suite)
        (mounted / "server.pem").unlink()
        (mounted / "server.pem").write_text("nothing of use")
        wait_until(lambda: any("cannot be used: config.toml" in line for line in suite.errors), "a complaint")
        assert serial_of(suite) == after, "all or nothing"


# Addresses that are of one interface only.

ASK = """
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    family, _, _, _, address = socket.getaddrinfo("fe80::1%lo", 1234, type=kind)[0]
    with socket.socket(family, kind) as sock:
        sock.settimeout(30)
        sock.connect(address)
        sock.send(b"hola")
        print(sock.recv(100).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_local_address_has_a_scope(tmp_path: Path) -> None:
    ip, unshare, nsenter = (client_program(name) for name in ("ip", "unshare", "nsenter"))
    if subprocess.run([unshare, "--net", "true"], capture_output=True, check=False).returncode:
        cannot_run("networks cannot be unshared here")
    prepare = f'{ip} link set lo up && {ip} address add fe80::1/64 dev lo nodad && exec "$@"'
    command = [unshare, "--net", "sh", "-c", prepare, "sh", sys.executable, "-m", "suite"]
    listen = "6:1234:interface=fe80\\\\:\\\\:1%lo"
    with running(
        tmp_path, f'[endpoints]\ntcp = "tcp{listen}"\nudp = "udp{listen}"\n', command=command
    ) as suite:
        asked = subprocess.run(
            [nsenter, "--net", "--target", str(suite.process.pid), sys.executable, "-c", ASK],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (asked.stdout, asked.stderr) == ("hola\nhola\n", "")


# From others' bug reports.


def test_an_endpoint_may_become_another_transport_on_the_same_port(tmp_path: Path) -> None:
    """As in https://github.com/vectordotdev/vector/issues/3727, and back."""
    port = free_port()
    with running(tmp_path, f'[endpoints]\na = "tcp:{port}"') as suite:
        assert "0 added, 0 removed, 1 changed" in reloaded(suite, f'[endpoints]\na = "udp:{port}"')
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(("127.0.0.1", port))
            sock.send(b"one")
            assert sock.recv(100) == b"one"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), PATIENCE)
        reloaded(suite, f'[endpoints]\na = "tcp:{port}"')
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            assert echoes(sock)


def test_two_endpoints_may_change_places(tmp_path: Path) -> None:
    """Each name is served where it is said to be, and nobody is disconnected."""
    one, other = free_port(), free_port()
    texts = (
        f'[endpoints]\na = "tcp:{one}"\nb = "ssl:{other}:certs/server.key:certs/server.pem"',
        f'[endpoints]\nb = "ssl:{one}:certs/server.key:certs/server.pem"\na = "tcp:{other}"',
    )
    with running(tmp_path, texts[0]) as suite, suite.connect("a") as held:
        assert echoes(held)
        for number in range(4):
            reloaded(suite, texts[(number + 1) % 2])
            with socket.create_connection(("127.0.0.1", (other, one)[number % 2]), PATIENCE) as sock:
                assert echoes(sock)
            with (
                socket.create_connection(("127.0.0.1", (one, other)[number % 2]), PATIENCE) as raw,
                suite.client_context().wrap_socket(raw, server_hostname="localhost") as tls,
            ):
                assert echoes(tls)
        assert echoes(held)
