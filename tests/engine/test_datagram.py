"""`suite.engine.datagram`: UDP ports on real sockets, in batches and one by one."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any, cast
from unittest import skipIf

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SkipTest, TestCase
from typing_extensions import override

from suite import echo
from suite.config.limits import Limits
from suite.echo import EchoDatagram
from suite.engine import datagram
from suite.engine.datagram import (
    BATCHED_PER_TURN,
    DATAGRAMS_PER_TURN,
    DatagramPort,
    EchoPort,
    Reply,
    port_class_for,
)
from suite.engine.destination import IP_PKTINFO, IP_RECVERR, IPV6_RECVERR
from suite.engine.linux.mmsg import UDP_GRO, UDP_SEGMENT, MultipleMessages
from suite.engine.listeners import Listeners
from suite.guard import datagrams as guard
from suite.guard.datagrams import DatagramPolicy
from suite.reasons import Reason

#: A group that nobody else on this host is in.
GROUP = "239.255.77.77"


class Ports(TestCase):
    """Echo ports in batches; `OneByOne` has the others."""

    kind: type[DatagramPort] = EchoPort

    def setUp(self) -> None:
        from twisted.internet import reactor

        if self.kind is EchoPort and not MultipleMessages.available():
            raise SkipTest("no recvmmsg here")
        self.reactor = cast(Any, reactor)
        self.listeners: Any = Listeners(self.reactor)

    def port(
        self, interface: str, policy: DatagramPolicy | None = None
    ) -> tuple[DatagramPort, DatagramPolicy]:
        policy = policy or DatagramPolicy()
        port = self.listeners.listenUDP(0, EchoDatagram(policy), interface)
        self.addCleanup(port.stopListening)
        assert type(port) is self.kind
        return port, policy

    def client(self, host: str, port: int, family: int = socket.AF_INET) -> socket.socket:
        """A connected socket, which only receives what comes from *host* and *port*."""
        client = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.settimeout(30)
        client.connect((host, port))
        return client

    def nothing_for(self, client: socket.socket) -> None:
        client.settimeout(0)
        with pytest.raises(BlockingIOError):
            client.recv(10)

    # Where replies come from.

    async def test_a_reply_comes_from_the_address_that_was_asked(self) -> None:
        if IP_PKTINFO is None:
            raise SkipTest("needs IP_PKTINFO")
        for interface, hosts in {
            "": ("127.0.0.1", "127.0.0.2"),
            "0.0.0.0": ("127.0.0.1", "127.0.0.2"),
            "::": ("127.0.0.3", "::1", "127.0.0.2"),
        }.items():
            port, policy = self.port(interface)
            clients = [
                self.client(host, port.getHost().port, socket.AF_INET6 if ":" in host else socket.AF_INET)
                for host in hosts
            ]
            for round_ in range(3):
                for number, client in enumerate(clients):
                    client.send(b"%d" % number)
                    client.send(b"again" * round_)
                port.doRead()
                for number, client in enumerate(clients):
                    assert [client.recv(100), client.recv(100)] == [b"%d" % number, b"again" * round_]
            assert policy.refusals == {}
            assert port.lost == 0

    async def test_trains_come_back_from_the_address_that_was_asked_among_others(self) -> None:
        for interface in ("0.0.0.0", "::"):
            port, _ = self.port(interface)
            one, two = (self.client(host, port.getHost().port) for host in ("127.0.0.1", "127.0.0.2"))
            train = [os.urandom(100), os.urandom(100), os.urandom(7)]
            for sizes in ((100, 0), (0, 100), (100, 100), (0, 0)):
                for client, size in zip((one, two), sizes, strict=True):
                    client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
                    client.send(b"before")
                    if size:
                        client.send(b"".join(train))
                    else:
                        client.send(train[2])
                port.doRead()
                for client, size in zip((one, two), sizes, strict=True):
                    expected = [b"before", *(train if size else train[2:])]
                    assert [client.recv(500) for _ in expected] == expected
                    self.nothing_for(client)

    async def test_what_was_sent_to_many_is_not_answered(self) -> None:
        """The broadcast address of loopback's own subnet, the one of all, and a group that was joined."""
        for interface in ("0.0.0.0", "::"):
            port, policy = self.port(interface)
            number = port.getHost().port
            member = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
            port.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            to_one = self.client("127.0.0.1", number)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to_many:
                to_many.bind(("127.0.0.1", 0))
                to_many.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                to_many.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
                for _ in range(2):  # known sources, too
                    for host in ("127.255.255.255", GROUP, "127.0.0.1"):
                        to_many.sendto(host.encode(), (host, number))
                        to_one.send(b"hola")
                    port.doRead()
                    assert [to_one.recv(10) for _ in range(3)] == [b"hola"] * 3
                    to_many.settimeout(30)
                    assert to_many.recvfrom(100) == (b"127.0.0.1", ("127.0.0.1", number))
                    self.nothing_for(to_many)
            assert policy.refusals == {Reason.DESTINATION: 4}

    async def test_a_port_bound_to_a_group_or_broadcast_answers_nothing(self) -> None:
        for interface in ("127.255.255.255", GROUP):
            port, policy = self.port(interface)
            member = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
            port.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
                client.sendto(b"hola", (interface, port.getHost().port))
                port.doRead()
                self.nothing_for(client)
            assert policy.refusals == {Reason.DESTINATION: 1}

    # Adopted sockets.

    def adopted(self, sock: socket.socket, policy: DatagramPolicy | None = None) -> DatagramPort:
        protocol = EchoDatagram(policy or DatagramPolicy())
        port = port_class_for(protocol).on(sock, protocol, self.reactor)
        assert type(port) is self.kind
        return port

    async def test_it_runs_on_a_socket_that_is_already_bound_and_leaves_it_open(self) -> None:
        for family, host in (
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET6, "::1"),
            (socket.AF_INET6, "::"),
        ):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((host, 0))
                client = self.client("::1" if ":" in host else host, sock.getsockname()[1], family)
                client.send(b"waiting already")
                port = self.adopted(sock)
                assert (port.getHost().host, port.getHost().port) == sock.getsockname()[:2]
                port.doRead()
                assert client.recv(100) == b"waiting already"
                port.detach()
                client.send(b"for the next one")
                assert sock.recv(100) == b"for the next one"

    @skipIf(sys.platform != "linux", "IP_RECVERR is Linux's")
    async def test_a_client_that_is_gone_before_its_reply_ends_no_port_of_a_parent_that_wants_to_know(
        self,
    ) -> None:
        """With IP_RECVERR, an ICMP error would be one of the descriptor, and stay in its queue."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((host, 0))
                level, option = (
                    (socket.IPPROTO_IPV6, IPV6_RECVERR)
                    if family == socket.AF_INET6
                    else (socket.IPPROTO_IP, IP_RECVERR)
                )
                sock.setsockopt(level, option, 1)
                self.lose_a_client(host, sock, family)
                sock.sendto(b"nobody is there", self.gone)
                poll = select.poll()
                poll.register(sock, 0)
                assert poll.poll(30_000) == [(sock.fileno(), select.POLLERR)]  # the parent's, before we came
                port = self.adopted(sock)
                client = self.client(host, sock.getsockname()[1], family)
                for _ in range(3):
                    self.lose_a_client(host, sock, family)
                    client.send(b"still there")
                    while not select.select([client], [], [], 0)[0]:
                        port.doRead()
                    assert client.recv(100) == b"still there"
                assert not sock.getsockopt(level, option)
                assert not [event for _, event in poll.poll(0) if event & select.POLLERR]
                port.detach()

    def lose_a_client(self, host: str, sock: socket.socket, family: int) -> None:
        """Send a datagram from a socket that is closed before any reply; its address is `gone`."""
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.bind((host, 0))
            self.gone = client.getsockname()
            client.sendto(b"gone", sock.getsockname())

    async def test_an_ipv4_client_of_a_socket_for_both_families_is_judged_as_one(self) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", 0))
            policy = DatagramPolicy(Limits(deny=(ip_network("127.0.0.2/32"),)))
            port = self.adopted(sock, policy)
            admitted = self.client("127.0.0.1", sock.getsockname()[1])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as denied:
                denied.bind(("127.0.0.2", 0))
                denied.connect(("127.0.0.1", sock.getsockname()[1]))
                for _ in range(2):
                    denied.send(b"no")
                    admitted.send(b"yes")
                    port.doRead()
                    assert admitted.recv(10) == b"yes"
                self.nothing_for(denied)
            assert policy.refusals == {Reason.DENIED: 2}
            port.detach()

    # Loops.

    async def test_one_datagram_between_two_suites_dies_out_and_their_clients_lose_nothing(self) -> None:
        self.patch(datagram, "LOOK_EVERY", 7)
        self.patch(EchoPort, "_until_look", 7)
        self.patch(echo, "LOOK_EVERY", 7)
        self.patch(guard, "SIGHTINGS", 4)
        one, policy = self.port("127.0.0.1")
        other, other_policy = self.port("127.0.0.1")
        for payload in (b"round", b"and", b"round again"):
            one.write(payload, ("127.0.0.1", other.getHost().port))
        client = self.client("127.0.0.1", one.getHost().port)
        for number in range(1000):
            client.send(b"%d" % number)
            other.doRead()
            one.doRead()
            assert client.recv(10) == b"%d" % number
        self.nothing_for(client)
        assert policy.refusals[Reason.LOOP] + other_policy.refusals[Reason.LOOP] == 3
        assert set(policy.refusals) | set(other_policy.refusals) == {Reason.LOOP}
        for port in (one, other):
            with pytest.raises(BlockingIOError):
                port.socket.recv(10)


class OneByOne(Ports):
    """The same without the calls for many."""

    kind = DatagramPort

    @override
    def setUp(self) -> None:
        super().setUp()
        self.patch(MultipleMessages, "available", lambda: False)


class Keeping(DatagramProtocol):
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.kept: list[tuple[bytes, Reply]] = []

    @override
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.kept.append((datagram, cast(DatagramPort, self.transport).keep_reply(addr)))

    def answer(self) -> None:
        for data, reply in self.kept:
            reply.send(data)
        self.kept.clear()


class Later(TestCase):
    """Protocols that receive each datagram themselves, and answer when they like."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = cast(Any, reactor)

    def bound(self, family: int, host: str) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind((host, 0))
        return sock

    def client(self, host: str, sock: socket.socket) -> socket.socket:
        client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(30)
        client.connect((host, sock.getsockname()[1]))
        return client

    async def test_a_late_reply_comes_from_the_address_that_was_asked(self) -> None:
        if IP_PKTINFO is None:
            raise SkipTest("needs IP_PKTINFO")
        for family, host, hosts in (
            (socket.AF_INET, "0.0.0.0", ("127.0.0.1", "127.0.0.2")),
            (socket.AF_INET6, "::", ("127.0.0.3", "::1", "127.0.0.2")),
            (socket.AF_INET, "127.0.0.1", ("127.0.0.1",)),
        ):
            sock = self.bound(family, host)
            protocol = Keeping()
            port = port_class_for(protocol).on(sock, protocol, self.reactor)
            assert type(port) is DatagramPort
            clients = [self.client(asked, sock) for asked in hosts]
            for number, client in enumerate(clients):
                client.send(b"%d" % number)
            port.doRead()
            protocol.answer()
            for number, client in enumerate(clients):
                assert client.recv(100) == b"%d" % number
                client.send(b"later")
            port.doRead()
            port.detach()  # the socket stays, and so do its replies
            protocol.answer()
            assert [client.recv(100) for client in clients] == [b"later"] * len(hosts)

    async def test_a_reply_on_a_socket_that_has_been_closed_is_lost(self) -> None:
        sock = self.bound(socket.AF_INET, "127.0.0.1")
        protocol = Keeping()
        port = DatagramPort.on(sock, protocol, self.reactor)
        self.client("127.0.0.1", sock).send(b"hola")
        port.doRead()
        port.detach()
        sock.close()
        protocol.answer()
        assert port.lost == 1

    async def test_trains_are_taken_apart(self) -> None:
        """Those that had come before a port was there that knows them, too."""
        sock = self.bound(socket.AF_INET, "127.0.0.1")
        before = DatagramPort.on(sock, Keeping(), self.reactor)
        client = self.client("127.0.0.1", sock)
        train = os.urandom(1000)
        parts = [train[start : start + 300] for start in range(0, 1000, 300)]
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 300)
        client.send(train)
        before.detach()
        client.send(train)
        protocol = Keeping()
        port = DatagramPort.on(sock, protocol, self.reactor)
        client.send(train)
        client.send(b"")
        for _ in range(3):
            port.doRead()
        assert [data for data, _ in protocol.kept] == [*parts * 3, b""]
        port.detach()

    async def test_a_turn_takes_so_many_datagrams_in_whatever_trains(self) -> None:
        sock = self.bound(socket.AF_INET, "127.0.0.1")
        protocol = Keeping()
        port = DatagramPort.on(sock, protocol, self.reactor)
        client = self.client("127.0.0.1", sock)
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1)
        for _ in range(8):
            client.send(bytes(40))
        taken: list[int] = []
        while not taken or taken[-1] < 320:
            port.doRead()
            taken.append(len(protocol.kept))
        turns = [total - before for before, total in zip([0, *taken], taken, strict=False)]
        assert max(turns) < DATAGRAMS_PER_TURN + 40
        port.detach()


class Batches(TestCase):
    """What only ports with batches have."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        if not MultipleMessages.available():
            raise SkipTest("no recvmmsg here")
        self.reactor = cast(Any, reactor)

    def port(self, protocol: EchoDatagram, size: int) -> tuple[EchoPort, socket.socket]:
        port = Listeners(self.reactor).listenUDP(0, protocol, "127.0.0.1")
        self.addCleanup(port.stopListening)
        assert isinstance(port, EchoPort)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(30)
        client.connect(("127.0.0.1", port.getHost().port))
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        return port, client

    def answered_by(self, port: EchoPort) -> list[int]:
        """How many datagrams each turn of *port* takes, from now on."""
        turns: list[int] = []
        do_read, go_on, answer = port.doRead, port._go_on, port._answer

        def counted_read() -> None:
            turns.append(0)
            do_read()

        def counted_go_on() -> None:
            turns.append(0)
            go_on()

        def counted_answer(fd: int, start: int, stop: int, sources: Sequence[bytes]) -> None:
            turns[-1] += sum(port._messages.count_datagrams(index) for index in range(start, stop))
            answer(fd, start, stop, sources)

        self.patch(port, "doRead", counted_read)
        self.patch(port, "_go_on", counted_go_on)
        self.patch(port, "_answer", counted_answer)
        return turns

    async def test_a_turn_takes_so_many_datagrams_however_they_come(self) -> None:
        """60 trains of 60: no turn takes more than its share and the rest of one train; none is lost."""
        policy = DatagramPolicy()
        port, client = self.port(EchoDatagram(policy), 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        client.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        turns = self.answered_by(port)
        train = bytes(range(60))
        for _ in range(60):
            client.send(train)
        while sum(turns) < 3600:
            turn: Deferred[None] = Deferred()
            self.reactor.callLater(0, turn.callback, None)
            await turn
        assert sum(turns) == 3600
        assert max(turns) < BATCHED_PER_TURN + 60
        received = b""
        while len(received) < 3600:
            received += client.recv(10_000)
        assert received == train * 60
        traffic = policy.traffic
        assert (traffic.received, traffic.bytes_received) == (3600, 3600)
        assert (traffic.sent, traffic.bytes_sent, traffic.lost) == (3600, 3600, 0)

    async def test_a_port_that_closes_between_two_turns_answers_what_it_has_received(self) -> None:
        port, client = self.port(EchoDatagram(DatagramPolicy()), 1)
        client.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        for _ in range(10):
            client.send(bytes(60))
        port.doRead()
        assert port._next_turn is not None
        await cast("Deferred[None]", port.stopListening())
        assert [client.recv(100) for _ in range(10)] == [bytes(60)] * 10

    async def test_of_a_train_as_many_are_answered_as_may_be_after_one_decision(self) -> None:
        decisions = []

        class Policy(DatagramPolicy):
            @override
            def admit(self, source: Any, count: int = 1, to_many: bool = False) -> int:
                decisions.append(count)
                return super().admit(source, count, to_many)

        policy = Policy(Limits(rate=1, burst=150, rate_exempt=()), clock=lambda: 0)
        _, client = self.port(EchoDatagram(policy), 1)
        client.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        trains = [os.urandom(60) for _ in range(4)]
        for train in trains:
            client.send(train)
        while len(decisions) < 4:
            turn: Deferred[None] = Deferred()
            self.reactor.callLater(0, turn.callback, None)
            await turn
        assert decisions == [60] * 4
        assert [client.recv(100) for _ in range(3)] == [trains[0], trains[1], trains[2][:30]]
        assert policy.refusals == {Reason.RATE: 90}
        traffic = policy.traffic
        assert (traffic.received, traffic.bytes_received) == (240, 240)
        assert (traffic.sent, traffic.bytes_sent, traffic.lost) == (150, 150, 0)

    async def test_where_receiving_is_forbidden_from_some_time_on_it_goes_on_without(self) -> None:
        port, client = self.port(EchoDatagram(DatagramPolicy()), 0)
        self.patch(port._make_messages(), "receive", lambda *_: 0)
        self.patch(MultipleMessages, "available", lambda: False)
        client.send(b"hola")
        port.doRead()
        assert client.recv(10) == b"hola"

    async def test_where_sending_is_forbidden_from_some_time_on_it_goes_on_without(self) -> None:
        port, client = self.port(EchoDatagram(DatagramPolicy()), 0)
        self.patch(port._make_messages(), "send", lambda *_: -errno.EPERM)
        self.patch(MultipleMessages, "available", lambda: False)
        client.send(b"lost!")
        port.doRead()
        assert port.lost == 1
        client.send(b"hola")
        port.doRead()
        assert client.recv(10) == b"hola"
        traffic = port.traffic
        assert (traffic.received, traffic.bytes_received) == (2, 9)
        assert (traffic.sent, traffic.bytes_sent, traffic.lost) == (1, 4, 1)
