"""Which datagrams a UDP endpoint answers.

Rules: a source address is a claim, not a fact. A reply is sent only where it cannot start a loop or reach
more than one host (CERT CA-1996-01, "UDP port denial-of-service attack"), and each source gets replies at a
limited rate. A message (a datagram, or a train of them) is decided once, however many datagrams it has.

A loop with another echo server, on a port that we cannot know to be one (CVE-2024-2169, "Loop DoS"), looks
like a client that sends the same payload whenever it has its answer, but never ends, and a single datagram
that is not answered ends it. So few datagrams are looked at, and the one that comes round again and again is
not answered, once.
"""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from twisted.logger import Logger, LogLevel

from suite.config.limits import Limits, address_of, source_of, within
from suite.engine.traffic import Traffic
from suite.reasons import Reason
from suite.text import host_and_port

log = Logger()

#: RFC 6335 system ports. No client sends from these, but echo (7), chargen (19), daytime (13), DNS (53)
#: and other services listen on them, and would answer our reply.
FIRST_CLIENT_PORT = 1024

#: Maximum number of sources remembered as admitted; about 1 MiB.
REMEMBERED_SOURCES = 8192

#: Maximum number of sources with a token bucket.
BUCKETS = 8192

#: Minimum number of seconds between log entries about refused datagrams.
LOG_INTERVAL = 1.0

#: One datagram in so many, or one batch of them, is looked at, in search of loops. A prime, so that nothing
#: that comes regularly is always missed.
LOOK_EVERY = 8191

#: How often the same payload from the same source is seen by these looks before it is not answered. With
#: `LOOK_EVERY`: after a quarter of a million of them, on average.
SIGHTINGS = 32

#: Maximum number of payloads that are remembered in search of loops. Those on their way in a loop are in the
#: receive buffers of two sockets, which hold about 300 each (Linux's ``rmem_default``).
LOOKED_AT = 1024

Address = IPv4Address | IPv6Address


def answerable(host: str, port: int, own_ports: Collection[int]) -> bool:
    """Whether a datagram from *host* and *port* may be answered.

    Refused are: system ports; *own_ports*, the UDP ports this suite listens on, from any host, because the
    sender would be this suite or another one, and the two would never stop; addresses that do not belong to a
    single host (broadcast, multicast, unspecified).
    """
    if port < FIRST_CLIENT_PORT or port in own_ports:
        return False
    address = address_of(host)
    return not (address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255")


class TokenBuckets:
    """A token bucket for each source.

    :param rate: the number of tokens added a second.
    :param burst: the number of tokens that a bucket holds.
    :param clock: returns the time in seconds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = burst
        self.clock = clock
        # Tokens left and the time of the last use; the least recently used source first.
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def take(self, address: Address, count: int = 1) -> int:
        """Take *count* tokens for *address*, or as many as there are; return how many."""
        source = source_of(address)
        now = self.clock()
        tokens, then = self._buckets.pop(source, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - then) * self.rate)
        taken = min(count, int(tokens))
        self._buckets[source] = (tokens - taken, now)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        return taken


class Loops:
    """Finds datagrams that go round between us and another echo server.

    Each is told by its source and payload, so that many on one way are found one after the other.
    """

    def __init__(self) -> None:
        # How often each was seen; the longest unseen first.
        self._sightings: OrderedDict[tuple[Hashable, int], int] = OrderedDict()

    def seen(self, source: Hashable, payload: bytes) -> bool:
        """Note a datagram that was looked at; return whether that makes `SIGHTINGS`, and begin again."""
        key = (source, hash(payload))
        sightings = self._sightings.pop(key, 0) + 1
        if sightings >= SIGHTINGS:
            return True
        self._sightings[key] = sightings
        if len(self._sightings) > LOOKED_AT:
            self._sightings.popitem(last=False)
        return False


class DatagramPolicy:
    """Decides which datagrams one UDP endpoint answers, and remembers the sources that it always admits.

    :param limits: the limits of the endpoint.
    :param own_ports: the UDP ports of the whole suite; more may be added.
    :param clock: returns the time in seconds.
    :param name: the name of the endpoint.
    :ivar refusals: the number of datagrams not answered, by reason.
    :ivar traffic: the datagrams that have come and gone, on any of its ports.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        own_ports: OwnPorts | None = None,
        clock: Callable[[], float] = time.monotonic,
        name: str = "",
    ) -> None:
        self.name = name
        self.refusals: Counter[Reason] = Counter()
        self.traffic = Traffic()
        self._clock = clock
        self._own_ports = own_ports if own_ports is not None else OwnPorts()
        self._admitted: set[tuple[str, int] | bytes] = set()
        self._loops = Loops()
        self._quiet_until = float("-inf")
        self.limits = limits if limits is not None else Limits()

    @property
    def limits(self) -> Limits:
        """The limits of the endpoint; setting them forgets all sources."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets = TokenBuckets(limits.rate, limits.burst, self._clock) if limits.rate else None
        self.forget()

    def forget(self) -> None:
        """Forget the sources that were admitted, so that each is checked again."""
        self._admitted.clear()

    def add_own_port(self, port: int) -> None:
        """Add *port* to the suite's own ports."""
        self._own_ports.join(port)

    def admit(self, source: tuple[str, int] | bytes, count: int = 1, to_many: bool = False) -> int:
        """How many of the *count* datagrams of a message from *source* may be answered: the first ones.

        :param source: ``(host, port)`` or longer, or a packed ``sockaddr`` as the kernel returns it.
        :param to_many: whether the message was sent to a broadcast or multicast address.
        """
        if source in self._admitted and not to_many:
            return count
        return self._decide(source, count, to_many)

    def admits_copy(self, source: tuple[str, int]) -> bool:
        """Whether a second reply may be sent to *source*, which was admitted just now; it costs the same."""
        address = address_of(source[0])
        if self._buckets is None or within(address, self._limits.rate_exempt):
            return True
        return bool(self._buckets.take(address))

    def admits_all(self, sources: Sequence[bytes]) -> bool:
        """Whether all *sources*, packed ``sockaddr`` as the kernel returns them, are always admitted."""
        return self._admitted.issuperset(sources)

    def goes_round(self, source: tuple[str, int] | bytes, message: bytes) -> bool:
        """Whether *message*, one in `LOOK_EVERY`, goes round in a loop with *source*: do not answer it."""
        if not self._loops.seen(source, message):
            return False
        self._refuse(Reason.LOOP, source, 1)
        return True

    def too_short(self, source: tuple[str, int]) -> None:
        """A datagram from *source*, admitted just now, is shorter than its answer: there will be none."""
        self._refuse(Reason.SIZE, source, 1)

    def _decide(self, source: tuple[str, int] | bytes, count: int, to_many: bool) -> int:
        host, port = unpack(source) if isinstance(source, bytes) else source[:2]
        if to_many:
            return self._refuse(Reason.DESTINATION, source, count)
        own_ports = self._own_ports.ports
        if self._limits.answer_own_ports and port in own_ports and not is_on_this_host(host):
            own_ports = Counter()
        if not answerable(host, port, own_ports):
            return self._refuse(Reason.SOURCE, source, count)
        if not self._limits.admits(host):
            return self._refuse(Reason.DENIED, source, count)
        address = address_of(host)
        if self._buckets is not None and not within(address, self._limits.rate_exempt):
            admitted = self._buckets.take(address, count)
            if admitted < count:
                self._refuse(Reason.RATE, source, count - admitted)
            return admitted
        if len(self._admitted) >= REMEMBERED_SOURCES:
            self._admitted.clear()
        self._admitted.add(source)
        self._own_ports.remembered_by(self)
        return count

    def _refuse(self, why: Reason, source: tuple[str, int] | bytes, count: int) -> int:
        self.refusals[why] += count
        now = self._clock()
        if now >= self._quiet_until:  # logging every datagram of a flood would cost more than answering
            self._quiet_until = now + LOG_INTERVAL
            host, port = unpack(source) if isinstance(source, bytes) else source[:2]
            log.emit(
                LogLevel.levelWithName(why.level),
                "not answered; {refused:,} so far",
                endpoint=self.name,
                peer=host_and_port(host, port),
                reason=why.value,
                refused=sum(self.refusals.values()),
            )
        return 0


class OwnPorts:
    """The UDP ports of a suite, and the policies that have admitted sources, before a port is added."""

    def __init__(self) -> None:
        self.ports: Counter[int] = Counter()
        self._remembering: set[DatagramPolicy] = set()

    def join(self, port: int) -> None:
        """Add *port*."""
        self.ports[port] += 1
        while self._remembering:
            self._remembering.pop().forget()

    def leave(self, port: int) -> None:
        """Remove *port*."""
        self.ports[port] -= 1
        if not self.ports[port]:
            del self.ports[port]

    def remembered_by(self, policy: DatagramPolicy) -> None:
        """*policy* has admitted a source: it is to forget it when a port joins."""
        self._remembering.add(policy)


def unpack(packed: bytes) -> tuple[str, int]:
    """The host and port in a packed ``sockaddr_in`` or ``sockaddr_in6``; their sizes differ."""
    port = int.from_bytes(packed[2:4], "big")
    if len(packed) == 16:
        return str(ip_address(packed[4:8])), port
    scope = int.from_bytes(packed[24:28], sys.byteorder)
    return str(ip_address(packed[8:24])) + (f"%{scope}" if scope else ""), port


def is_on_this_host(host: str) -> bool:
    """Whether *host*, an IP address, belongs to this host: whether a socket can be bound to it."""
    address = address_of(host)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True
