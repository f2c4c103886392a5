"""`suite.guard.sweep` and `suite.guard.keepalive` in memory: how long a connection may be in each phase."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionLost

from suite.config.limits import Limits
from suite.echo import Echo, MeasuredEcho
from suite.guard.keepalive import keep_alive
from suite.guard.streams import Guarded
from suite.guard.sweep import SWEEP, Phase
from suite.reasons import Reason
from tests.guard.endpoint import LOOPBACK, PEER, GuardedEndpoint, Transport, disconnect

# Time limits.


@pytest.mark.parametrize(
    ("limits", "reason", "end"),
    [(Limits(idle=5.0), Reason.IDLE, "lose"), (Limits(lifetime=5.0), Reason.LIFETIME, "lose")],
)
def test_quiet_connections_end_in_time(
    make_endpoint: type[GuardedEndpoint], limits: Limits, reason: Reason, end: str
) -> None:
    endpoint = make_endpoint(limits)
    protocol, transport = endpoint.connect()
    endpoint.wait(4.9)
    assert transport.ends == []
    endpoint.wait(SWEEP + 0.2)
    assert transport.ends == [end]
    disconnect(protocol)
    assert endpoint.guard.ends == {reason: 1}


def test_who_sends_is_not_idle_but_has_a_lifetime(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=2.0, lifetime=10.0))
    protocol, transport = endpoint.connect()
    for _ in range(9):
        endpoint.wait(1)
        protocol.dataReceived(b"hola")
    assert transport.ends == []
    endpoint.wait(2)
    assert transport.ends == ["lose"]


def test_while_bytes_arrive_the_kernel_is_not_asked_what_it_holds(
    make_endpoint: type[GuardedEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a busy connection costs: its peer makes progress anyway."""
    asked: list[float] = []
    endpoint = make_endpoint(Limits(stall=1))
    protocol, _ = endpoint.connect()

    def owed(_: Guarded) -> int:
        asked.append(endpoint.clock.seconds())
        return 0

    monkeypatch.setattr(Guarded, "owed", property(owed))
    for _ in range(20):
        protocol.dataReceived(b"hola")
        endpoint.wait(SWEEP / 2)
    assert asked == []
    endpoint.wait(3 * SWEEP)
    assert len(asked) == 1, "and once more, to find that nothing is owed"


def test_at_the_end_of_a_drain_what_the_kernel_holds_is_not_thrown_away(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    """Closing lets the kernel deliver it; aborting would not."""
    endpoint = make_endpoint()
    (held, held_transport), (unsent, unsent_transport) = (endpoint.connect() for _ in range(2))
    for protocol, transport, bytes_unsent in ((held, held_transport, 0), (unsent, unsent_transport, 1)):
        protocol.dataReceived(b"hola")
        transport.owed, transport.unsent = 1000, bytes_unsent
    endpoint.guard.drain(3, lambda: None)
    endpoint.wait(2.5)
    assert (held_transport.ends, unsent_transport.ends) == ([], []), "the peer may still read"
    endpoint.wait(1)
    assert held_transport.ends[0] == "lose"
    assert unsent_transport.ends == ["abort"]
    for protocol in (held, unsent):
        disconnect(protocol)


def test_a_peer_that_takes_nothing_of_what_it_is_owed_is_cut_off(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    endpoint = make_endpoint(Limits(idle=60.0, stall=5.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    transport.owed = 1000
    endpoint.wait(3)
    transport.owed = 900  # slow, but not stuck
    endpoint.wait(4)
    assert transport.ends == []
    endpoint.wait(2)
    assert transport.ends == ["abort"]
    disconnect(protocol, ConnectionLost())
    assert endpoint.guard.ends == {Reason.STALL: 1}


def test_a_peer_that_catches_up_is_idle_from_then_on(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=5.0, stall=2.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    transport.owed = 1000
    endpoint.wait(1)
    transport.owed = 0
    endpoint.wait(4.5)
    assert transport.ends == []
    endpoint.wait(1.2)
    assert transport.ends == ["lose"]


def test_a_handshake_has_its_time_and_no_more(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(handshake=3.0, idle=60.0), handshakes=True)
    quick, quick_transport = endpoint.connect()
    slow, slow_transport = endpoint.connect()
    endpoint.wait(1)
    quick.handshakeCompleted()
    endpoint.wait(2.6)
    assert (quick_transport.ends, slow_transport.ends) == ([], ["abort"])
    disconnect(slow, ConnectionLost())
    assert endpoint.guard.ends == {Reason.HANDSHAKE: 1}


def test_a_half_closed_connection_has_its_time(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(half_close=3.0, stall=60.0, idle=60.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    transport.owed = 10
    protocol.readConnectionLost()
    assert transport.ends == ["lose"]
    endpoint.wait(2.9)
    assert transport.ends == ["lose"]
    endpoint.wait(3 * SWEEP)
    assert transport.ends == ["lose", "abort"]
    disconnect(protocol, ConnectionLost())
    assert endpoint.guard.ends == {Reason.HALF_CLOSE: 1}


def test_a_half_closed_peer_that_reads_on_has_its_time_anew(make_endpoint: type[GuardedEndpoint]) -> None:
    """Such as ``nc -N`` on a slow line, which takes longer for its echo than `half_close`."""
    endpoint = make_endpoint(Limits(half_close=3.0, stall=60.0))
    protocol, transport = endpoint.connect()
    protocol.dataReceived(b"hola")
    transport.owed = 100
    protocol.readConnectionLost()
    for owed in (90, 80, 70, 0):
        endpoint.wait(2.5)
        transport.owed = owed
    endpoint.wait(3 - SWEEP)
    assert transport.ends == ["lose"]
    endpoint.wait(3 * SWEEP)
    assert transport.ends == ["lose", "abort"]


def test_what_a_peer_sends_after_our_end_is_no_progress(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(half_close=3.0))
    protocol, transport = endpoint.connect()
    protocol.end(Reason.BYTES)
    for _ in range(4):
        protocol.received += 4
        endpoint.wait(1)
    assert transport.ends[-1] == "abort"
    disconnect(protocol, ConnectionLost())
    assert endpoint.guard.ends == {Reason.BYTES: 1}


def test_an_end_has_its_first_reason(make_endpoint: type[GuardedEndpoint]) -> None:
    """A peer that is idle and does not answer our end was ended for being idle."""
    endpoint = make_endpoint(Limits(idle=2.0, half_close=3.0))
    protocol, transport = endpoint.connect()
    endpoint.wait(2 + 2 * SWEEP)
    assert transport.ends == ["lose"]
    endpoint.wait(3 + 2 * SWEEP)
    assert transport.ends == ["lose", "abort"]
    disconnect(protocol, ConnectionAborted())
    assert endpoint.guard.ends == {Reason.IDLE: 1}


def test_only_those_that_have_received_or_owe_are_asked_what_they_owe(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    """The question may cost a system call."""
    endpoint = make_endpoint()
    asked: list[str] = []

    class Asked(Transport):
        name = ""

        @property
        def owed(self) -> int:
            asked.append(self.name)
            return 0

        @owed.setter
        def owed(self, _owed: int) -> None:
            pass

    for name in ("quiet", "busy"):
        protocol = endpoint.factory.buildProtocol(PEER)
        transport = Asked()
        transport.name = name
        assert protocol is not None
        protocol.makeConnection(transport)
    assert isinstance(protocol, Echo)
    protocol.dataReceived(b"hola")
    endpoint.wait(2)
    endpoint.guard.drain(10, lambda: None)
    endpoint.wait(2)
    assert asked == ["busy"]


# Pauses.


@pytest.mark.parametrize("gap", [2.0, 3600.0])
@pytest.mark.parametrize(
    ("limits", "start", "end"),
    [
        (Limits(idle=5.0), "", "lose"),
        (Limits(stall=5.0), "owe", "abort"),
        (Limits(half_close=5.0, stall=None), "half", "abort"),
        (Limits(handshake=5.0), "handshake", "abort"),
        (Limits(), "header", "abort"),
    ],
)
def test_a_pause_of_the_process_is_not_a_silence_of_the_peer(
    make_endpoint: type[GuardedEndpoint], limits: Limits, start: str, end: str, gap: float
) -> None:
    """SIGSTOP, a suspended machine, a CPU that others had: nothing could be seen meanwhile."""
    endpoint = make_endpoint(limits, handshakes=start == "handshake", proxied=start == "header")
    protocol, transport = endpoint.connect(LOOPBACK, header=start == "header")
    if start in ("owe", "half"):
        protocol.dataReceived(b"hola")
        transport.owed = 10
    if start == "half":
        protocol.readConnectionLost()
    before = [*transport.ends]
    endpoint.wait(4)
    endpoint.clock.advance(gap)
    endpoint.wait(0.5)
    assert transport.ends == before
    endpoint.wait(0.5 + 2 * SWEEP)
    assert transport.ends == [*before, end]


def test_a_pause_gives_nothing_to_those_that_came_after_it(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=5.0))
    endpoint.connect()
    endpoint.wait(1)
    # What has happened since the process went on comes before the sweep, which is late.
    endpoint.clock.callLater(SWEEP / 100, lambda: later.append(endpoint.connect()[1]))
    later: list[Transport] = []
    endpoint.clock.advance(3600)
    endpoint.wait(5 + 2 * SWEEP)
    assert later[0].ends == ["lose"]


def test_a_lifetime_goes_on_in_a_pause(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(lifetime=60.0))
    _, transport = endpoint.connect()
    endpoint.clock.advance(3600)
    assert transport.ends == ["lose"]


def test_no_limit_is_no_limit(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=None, stall=None, half_close=None, handshake=None), handshakes=True)
    _, transport = endpoint.connect()
    endpoint.wait(100)
    assert transport.ends == []


def test_limits_may_change_under_a_connection(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(idle=600.0))
    _, transport = endpoint.connect()
    endpoint.wait(3)
    endpoint.guard.limits = Limits(idle=2.0)
    endpoint.wait(SWEEP + 0.1)
    assert transport.ends == ["lose"]


def test_after_so_many_bytes_the_echo_ends_and_what_follows_is_for_nobody(
    make_endpoint: type[GuardedEndpoint],
) -> None:
    endpoint = make_endpoint(Limits(bytes=10))
    protocol, transport = endpoint.connect()
    assert isinstance(protocol, MeasuredEcho)
    protocol.dataReceived(b"0123456")
    assert transport.ends == []
    protocol.dataReceived(b"789abc")
    protocol.dataReceived(b"more")
    assert transport.value() == b"0123456789"
    assert transport.ends == ["half"]
    disconnect(protocol)
    assert endpoint.guard.ends == {Reason.BYTES: 1}
    assert endpoint.guard.received == 10


# PROXY headers before a handshake.


def test_as_many_are_admitted_behind_a_header_as_the_limit_says(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(connections=2), handshakes=True, proxied=True)
    admitted = [endpoint.connect(LOOPBACK, header=True) for _ in range(2)]
    assert endpoint.refused(LOOPBACK)
    for protocol, transport in admitted:
        transport.read_header(PEER)
        assert protocol.phase is Phase.HANDSHAKE
        protocol.handshakeCompleted()
        protocol.dataReceived(b"hola")
        assert (transport.ends, transport.value()) == ([], b"hola")
    assert endpoint.guard.ends == {Reason.CONNECTIONS: 1}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(deny=(ip_network("192.0.2.0/24"),)), Reason.DENIED), (Limits(per_peer=1), Reason.PER_PEER)],
)
def test_a_client_named_by_a_header_is_judged_before_the_handshake(
    make_endpoint: type[GuardedEndpoint], limits: Limits, reason: Reason
) -> None:
    endpoint = make_endpoint(limits, handshakes=True, proxied=True)
    if reason is Reason.PER_PEER:
        endpoint.connect(LOOPBACK, header=True)[1].read_header(PEER)
    protocol, transport = endpoint.connect(LOOPBACK, header=True)
    assert not transport.read_header(PEER)
    assert (transport.ends, protocol.phase) == (["abort"], Phase.HEADER)
    disconnect(protocol, ConnectionAborted())
    assert endpoint.guard.ends == {reason: 1}
    assert endpoint.events[-1]["log_format"] == "refused"
    assert endpoint.events[-1]["peer"] == "192.0.2.1:40000"


def test_a_handshake_behind_a_header_counts_from_accept(make_endpoint: type[GuardedEndpoint]) -> None:
    endpoint = make_endpoint(Limits(handshake=6.0), handshakes=True, proxied=True)
    _, transport = endpoint.connect(LOOPBACK, header=True)
    endpoint.wait(4)
    transport.read_header(PEER)
    endpoint.wait(1.5)
    assert transport.ends == []
    endpoint.wait(1)
    assert transport.ends == ["abort"]


def test_whether_a_header_comes_is_said_by_the_connection(make_endpoint: type[GuardedEndpoint]) -> None:
    """A reload may switch an open port from the one to the other."""
    endpoint = make_endpoint(proxied=True)
    before, _ = endpoint.connect(LOOPBACK, header=True)
    endpoint.factory.proxied = False
    after, _ = endpoint.connect(LOOPBACK)
    assert (before.phase, after.phase) == (Phase.HEADER, Phase.ANSWERING)


# Keep-alive.


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(keepalive=60.0, stall=60.0), (1, 60, 12, 5, 120_000)),
        (Limits(keepalive=10.0, stall=60.0), (1, 10, 2, 5, 0)),
        (Limits(keepalive=10.0, stall=None), (1, 10, 2, 5, 0)),
        (Limits(keepalive=1.5, stall=2.0), (1, 2, 1, 5, 3000)),
    ],
)
def test_a_keep_alive_is_as_the_limits_say(limits: Limits, expected: tuple[int, ...]) -> None:
    """A limit for bytes on the way below `stall` would also end a peer that is there and reads nothing."""
    with socket.socket() as sock:
        transport = Transport()
        transport.socket = sock
        keep_alive(transport, limits)
        assert keep_alive_of(sock) == expected
        keep_alive(transport, Limits(keepalive=None))
        assert keep_alive_of(sock)[0] == 0


def keep_alive_of(sock: socket.socket) -> tuple[int, ...]:
    """SO_KEEPALIVE, the idle time, the interval, the number of probes, and the user timeout."""
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT,
            )
        ),
    )


def test_a_new_keep_alive_is_for_new_connections(make_endpoint: type[GuardedEndpoint]) -> None:
    """To change thousands of sockets at once would stop every echo meanwhile."""
    endpoint = make_endpoint()
    with socket.socket() as before, socket.socket() as after:
        endpoint.connect(sock=before)
        endpoint.guard.limits = Limits(keepalive=7.0)
        endpoint.connect(sock=after)
        assert (keep_alive_of(before)[:2], keep_alive_of(after)[:2]) == ((1, 60), (1, 7))
