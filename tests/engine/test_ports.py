"""UNIX and UDP ports, and the PROXY header, on the reactor that the tests run on."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from suite.config.limits import Limits
from suite.echo import Echo, EchoDatagram, EchoFactory
from suite.endpoints.proxy_protocol import ProxyFactory
from suite.engine import unix as unix_module
from suite.engine.datagram import DATAGRAMS_PER_TURN, DatagramPort, EchoPort
from suite.engine.linux.mmsg import UDP_GRO, UDP_SEGMENT, MultipleMessages, accept_trains
from suite.engine.listeners import Listeners
from suite.engine.unix import PathLock, UNIXPort, remove_stale_socket
from suite.guard.datagrams import DatagramPolicy
from suite.reasons import Reason


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory whose sockets have short paths."""
    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("s"))
    yield Path()
    os.chdir(here)


# The lock.


def test_a_lock_has_one_holder_and_leaves_no_file(short: Path) -> None:
    path = str(short / "lock")
    first, second = PathLock(path), PathLock(path)
    assert first.acquire()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert not second.acquire()
    first.release()
    first.release()
    assert not os.path.exists(path)
    assert second.acquire()
    second.release()


def test_a_lock_file_without_a_holder_is_taken(short: Path) -> None:
    path = short / "lock"
    path.write_text("")
    lock = PathLock(str(path))
    assert lock.acquire()
    lock.release()


def test_a_lock_that_its_last_holder_removes_meanwhile_is_locked_anew(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, the file may have been removed by its owner."""
    path = short / "lock"
    flock = fcntl.flock

    def remove_then_lock(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", remove_then_lock)
    lock = PathLock(str(path))
    assert lock.acquire()
    assert path.exists()
    lock.release()


def test_a_lock_that_cannot_be_made_is_an_error(short: Path) -> None:
    with pytest.raises(NotADirectoryError):
        PathLock("/dev/null/lock").acquire()


# Stale sockets.


def test_a_server_whose_queue_is_full_is_still_a_server(short: Path) -> None:
    path = str(short / "sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as waiting:
        server.bind(path)
        server.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError, match="a server is listening there"):
            remove_stale_socket(path)
    remove_stale_socket(path)
    assert not os.path.exists(path)


def test_a_symbolic_link_is_not_followed(short: Path) -> None:
    """Its target belongs to somebody else, and must not be removed."""
    (short / "sock").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        remove_stale_socket(str(short / "sock"))
    assert (short / "sock").is_symlink()


class Ports(TestCase):
    """Ports on a real reactor."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = cast(Any, reactor)
        self.listeners: Any = Listeners(self.reactor)
        here = Path.cwd()
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        os.chdir(directory)
        self.addCleanup(os.chdir, here)

    async def test_a_socket_has_its_mode_from_the_first_instant(self) -> None:
        self.patch(os, "chmod", lambda *_: self.fail("it had another mode before"))
        before = os.umask(0)
        try:
            for mode in (0o660, 0o600, 0o777):
                port = self.listeners.listenUNIX("sock", EchoFactory(), mode=mode)
                assert stat.S_IMODE(os.stat("sock").st_mode) == mode
                await port.stopListening()
            assert os.umask(0) == 0, "it is restored"
        finally:
            os.umask(before)

    async def test_a_port_without_a_lock_file_makes_none(self) -> None:
        port = self.listeners.listenUNIX("sock", EchoFactory(), wantPID=False)
        assert os.listdir() == ["sock"]
        await port.stopListening()
        assert os.listdir() == []

    async def test_a_path_that_is_held_is_refused_and_left_alone(self) -> None:
        port = self.listeners.listenUNIX("sock", EchoFactory(), wantPID=True)
        with pytest.raises(CannotListenError, match="is held by a running server"):
            self.listeners.listenUNIX("sock", EchoFactory(), wantPID=True)
        assert sorted(os.listdir()) == ["sock", "sock.lock"]
        await port.stopListening()

    async def test_a_path_that_cannot_be_bound_leaves_no_lock(self) -> None:
        self.patch(unix_module, "remove_stale_socket", lambda _path: None)
        Path("sock").write_text("in the way")
        with pytest.raises(CannotListenError):
            self.listeners.listenUNIX("sock", EchoFactory(), wantPID=True)
        assert os.listdir() == ["sock"]

    async def test_an_abstract_socket_touches_no_file(self) -> None:
        name = f"\0echo-suite-test-{os.getpid()}"
        port: UNIXPort = self.listeners.listenUNIX(name, EchoFactory(), wantPID=True)

        def talk() -> bytes:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(name)
                sock.sendall(b"hola")
                sock.shutdown(socket.SHUT_WR)
                return sock.recv(100)

        assert await deferToThread(talk) == b"hola"
        assert os.listdir() == []
        await port.stopListening()

    def datagrams(self, protocol: DatagramProtocol) -> tuple[DatagramPort, socket.socket]:
        port = self.listeners.listenUDP(0, protocol, "127.0.0.1")
        self.addCleanup(port.stopListening)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(30)
        client.connect(("127.0.0.1", port.getHost().port))
        return port, client

    async def test_a_flood_gets_64_datagrams_a_turn_however_small(self) -> None:
        taken = []

        class Counter(DatagramProtocol):
            noisy = False

            def datagramReceived(self, datagram: bytes, addr: object) -> None:
                taken.append(datagram)

        port, client = self.datagrams(Counter())
        for _ in range(100):
            client.send(b"")
        port.doRead()
        assert len(taken) == DATAGRAMS_PER_TURN == 64
        port.doRead()
        assert len(taken) == 100

    async def test_a_reply_that_the_kernel_refuses_is_counted_and_no_error(self) -> None:
        port, client = self.datagrams(EchoDatagram(DatagramPolicy()))
        port.write(b"to a port that is none", ("127.0.0.1", 0))
        assert port.lost == 1
        client.send(b"hola")
        assert await deferToThread(client.recv, 100) == b"hola"

    async def test_a_batch_goes_back_in_order_whatever_its_sizes(self) -> None:
        port, client = self.datagrams(EchoDatagram(DatagramPolicy()))
        assert isinstance(port, EchoPort) == MultipleMessages.available()
        for _ in range(2):  # with other lengths where others were before
            sent = [os.urandom(size) for size in (0, 1, 1472, 8193, 65507, 3, 0, 17)]
            for datagram in sent:
                client.send(datagram)
            port.doRead()
            assert [client.recv(65535) for _ in sent] == sent

    async def test_of_a_batch_only_what_is_admitted_goes_back(self) -> None:
        protocol = EchoDatagram(DatagramPolicy())
        port, client = self.datagrams(protocol)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as refused:
            refused.bind(("127.0.0.1", 0))
            protocol.policy.add_own_port(refused.getsockname()[1])
            for number in range(9):
                (refused if number % 3 == 1 else client).sendto(b"%d" % number, client.getpeername())
            port.doRead()
            assert [client.recv(10) for _ in range(6)] == [b"0", b"2", b"3", b"5", b"6", b"8"]
            refused.settimeout(0)
            with pytest.raises(BlockingIOError):
                refused.recv(10)

    async def test_of_a_batch_the_reply_that_cannot_be_sent_is_lost_and_the_others_follow(self) -> None:
        port, client = self.datagrams(EchoDatagram(DatagramPolicy()))
        if not isinstance(port, EchoPort):
            raise SkipTest("no recvmmsg here")
        really_send = port._make_messages().send
        results: list[int] = []

        def send(fd: int, start: int, stop: int) -> int:
            if results:
                result = results.pop(0)
                return really_send(fd, start, start + result) if result > 0 else result
            return really_send(fd, start, stop)

        self.patch(port._messages, "send", send)
        for number in range(5):
            client.send(b"%d" % number)
        results += [2, -errno.EPERM]
        port.doRead()
        assert [client.recv(10) for _ in range(4)] == [b"0", b"1", b"3", b"4"]
        assert port.lost == 1
        for number in range(5):
            client.send(b"%d" % number)
        results += [2, -errno.EAGAIN]
        port.doRead()
        assert [client.recv(10) for _ in range(2)] == [b"0", b"1"]
        assert port.lost == 4

    def trains(self, protocol: DatagramProtocol) -> tuple[EchoPort, socket.socket, list[bytes]]:
        """A port, a client whose datagrams of 100 bytes go out together, and three and a half of them."""
        port, client = self.datagrams(protocol)
        if not isinstance(port, EchoPort):
            raise SkipTest("no recvmmsg here")
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        return port, client, [os.urandom(size) for size in (100, 100, 100, 50)]

    async def test_a_train_goes_back_as_one_and_arrives_as_its_datagrams(self) -> None:
        port, client, train = self.trains(EchoDatagram(DatagramPolicy()))
        for _ in range(2):
            client.send(b"before")
            client.send(b"".join(train))
            client.send(b"after")
            port.doRead()
            assert [client.recv(200) for _ in range(6)] == [b"before", *train, b"after"]
        accept_trains(client)
        client.send(b"".join(train))
        port.doRead()
        data, [(level, kind, size)], _, _ = client.recvmsg(500, 100)
        assert data == b"".join(train)
        assert (level, kind, int.from_bytes(size, "little")) == (socket.IPPROTO_UDP, UDP_GRO, 100)

    async def test_each_datagram_of_a_train_is_admitted_or_not(self) -> None:
        policy = DatagramPolicy(Limits(rate=1, burst=4, rate_exempt=()), clock=lambda: 0)
        port, client, train = self.trains(EchoDatagram(policy))
        client.send(b"before")
        client.send(b"".join(train))
        client.send(b"after")
        port.doRead()
        assert [client.recv(200) for _ in range(4)] == [b"before", *train[:3]]
        client.settimeout(0)
        with pytest.raises(BlockingIOError):
            client.recv(10)
        assert policy.refusals == {Reason.RATE: 2}
        assert port.lost == 0

    async def test_a_train_that_the_kernel_does_not_take_goes_back_in_datagrams(self) -> None:
        port, client, train = self.trains(EchoDatagram(DatagramPolicy()))
        client.send(b"known from now on")
        port.doRead()
        client.recv(100)
        really_send = port._messages.send
        sizes: list[int] = []

        def send(fd: int, start: int, stop: int) -> int:
            if port._messages.is_train(start):
                return -errno.EMSGSIZE
            until = next((place for place in range(start, stop) if port._messages.is_train(place)), stop)
            sizes.append(port._messages._length[start])
            return -errno.EPERM if sizes[-1] == 50 else really_send(fd, start, until)

        self.patch(port._messages, "send", send)
        client.send(b"before")
        client.send(b"".join(train))
        client.send(b"after")
        port.doRead()
        assert [client.recv(200) for _ in range(5)] == [b"before", *train[:3], b"after"]
        assert sizes == [6, 100, 100, 100, 50, 5]
        assert port.lost == 1

    async def test_where_there_is_no_room_for_a_train_all_its_datagrams_are_lost(self) -> None:
        port, client, train = self.trains(EchoDatagram(DatagramPolicy()))
        client.send(b"known from now on")
        port.doRead()
        self.patch(port._make_messages(), "send", lambda *_: -errno.ENOBUFS)
        client.send(b"".join(train))
        client.send(b"")
        port.doRead()
        assert port.lost == 5

    async def test_without_the_calls_for_many_the_calls_for_one_do(self) -> None:
        self.patch(MultipleMessages, "available", lambda: False)
        port, client = self.datagrams(EchoDatagram(DatagramPolicy()))
        assert not isinstance(port, EchoPort)
        client.send(b"hola")
        assert await deferToThread(client.recv, 100) == b"hola"

    async def test_a_datagram_that_makes_its_protocol_fail_does_not_close_the_port(self) -> None:
        class Choosy(DatagramProtocol):
            noisy = False

            def datagramReceived(self, datagram: bytes, addr: object) -> None:
                if datagram == b"bad":
                    raise ValueError(datagram)
                self.transport.write(datagram, addr)  # type: ignore[union-attr, arg-type]

        _, client = self.datagrams(Choosy())
        client.send(b"bad")
        client.send(b"good")
        assert await deferToThread(client.recv, 100) == b"good"
        assert len(self.flushLoggedErrors(ValueError)) == 1

    async def test_a_port_that_closes_in_the_middle_of_a_turn_takes_no_more(self) -> None:
        taken = []

        class Closer(DatagramProtocol):
            noisy = False

            def datagramReceived(self, datagram: bytes, addr: object) -> None:
                taken.append(datagram)
                port.connectionLost()

        port, client = self.datagrams(Closer())
        client.send(b"one")
        client.send(b"two")
        port.doRead()
        assert taken == [b"one"]

    async def test_a_udp_port_in_use_is_refused_and_its_socket_closed(self) -> None:
        port, _ = self.datagrams(EchoDatagram(DatagramPolicy()))
        with pytest.raises(CannotListenError):
            self.listeners.listenUDP(port.getHost().port, DatagramProtocol(), "127.0.0.1")

    async def test_everything_else_is_the_reactors_own(self) -> None:
        assert self.listeners.callLater == self.reactor.callLater

    # The PROXY header.

    def proxied(self) -> tuple[str, int]:
        port = self.reactor.listenTCP(0, ProxyFactory(self.reactor, EchoFactory()), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return ("127.0.0.1", port.getHost().port)

    async def test_a_proxy_header_is_taken_and_the_whole_echo_follows_a_half_close(self) -> None:
        address = self.proxied()
        seen = []
        received = Echo.dataReceived

        def look(echo: Echo, data: bytes) -> None:
            transport: Any = echo.transport
            seen.append((transport.getPeer().host, transport.getTcpNoDelay()))
            received(echo, data)

        self.patch(Echo, "dataReceived", look)

        def talk(header: bytes) -> bytes:
            with socket.create_connection(address, 30) as sock:
                sock.sendall(header + b"hola")
                sock.shutdown(socket.SHUT_WR)
                return sock.recv(100) + sock.recv(100)

        version1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n"
        version2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 3, 192, 0, 2, 4, 0, 5, 0, 6])
        assert await deferToThread(talk, version1) == b"hola"
        assert await deferToThread(talk, version2) == b"hola"
        assert seen == [("192.0.2.1", True), ("192.0.2.3", True)]

    async def test_a_connection_without_a_proxy_header_is_closed(self) -> None:
        address = self.proxied()

        def talk() -> bytes:
            with socket.create_connection(address, 30) as sock:
                sock.sendall(b"hola mundo, no header here")
                try:
                    return sock.recv(100)
                except ConnectionResetError:
                    return b""

        assert await deferToThread(talk) == b""
