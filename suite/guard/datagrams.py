"""Which datagrams a UDP endpoint answers.

Rule: a source address is a claim, not a fact. A reply is sent only where it cannot start a loop or reach
more than one host (CERT CA-1996-01, "UDP port denial-of-service attack"), and each source gets replies at a
limited rate.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from twisted.logger import Logger

from suite.config.limits import Limits, address_of, source_of, within
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

    def take(self, address: Address) -> bool:
        """Take a token for *address*; return whether there was one."""
        source = source_of(address)
        now = self.clock()
        tokens, then = self._buckets.pop(source, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - then) * self.rate)
        enough = tokens >= 1
        self._buckets[source] = (tokens - enough, now)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        return enough


class DatagramPolicy:
    """Decides which datagrams one UDP endpoint answers, and remembers the sources that it always admits.

    :param limits: the limits of the endpoint.
    :param own_ports: the UDP ports of the whole suite; more may be added.
    :param clock: returns the time in seconds.
    :param name: the name of the endpoint.
    :ivar refusals: the number of datagrams not answered, by reason.
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
        self._clock = clock
        self._own_ports = own_ports if own_ports is not None else OwnPorts()
        self._admitted: set[tuple[str, int] | bytes] = set()
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
        """Add *port* to the suite's own ports, and follow changes of them from now on."""
        self._own_ports.join(port, self)

    def admit(self, source: tuple[str, int]) -> bool:
        """Whether a datagram from *source*, ``(host, port)`` or longer, may be answered."""
        return source in self._admitted or self._decide(source, source)

    def admits_all(self, sources: Sequence[bytes]) -> bool:
        """Whether all *sources*, packed ``sockaddr`` as the kernel returns them, are always admitted."""
        return self._admitted.issuperset(sources)

    def refuses(self, source: bytes) -> bool:
        """Whether a datagram from *source*, a packed ``sockaddr``, must not be answered."""
        return source not in self._admitted and not self._decide(source, unpack(source))

    def _decide(self, source: tuple[str, int] | bytes, host_and_port: tuple[str, int]) -> bool:
        host, port = host_and_port[:2]
        if not answerable(host, port, self._own_ports.ports):
            return self._refuse(Reason.SOURCE, host, port)
        if not self._limits.admits(host):
            return self._refuse(Reason.DENIED, host, port)
        address = address_of(host)
        if self._buckets is not None and not within(address, self._limits.rate_exempt):
            return self._buckets.take(address) or self._refuse(Reason.RATE, host, port)
        if len(self._admitted) >= REMEMBERED_SOURCES:
            self._admitted.clear()
        self._admitted.add(source)
        return True

    def _refuse(self, why: Reason, host: str, port: int) -> bool:
        self.refusals[why] += 1
        now = self._clock()
        if now >= self._quiet_until:  # logging every datagram of a flood would cost more than answering
            self._quiet_until = now + LOG_INTERVAL
            log.info(
                "not answered; {refused:,} so far",
                endpoint=self.name,
                peer=host_and_port(host, port),
                reason=why.value,
                refused=sum(self.refusals.values()),
            )
        return False


class OwnPorts:
    """The UDP ports of a suite, and the policies that depend on them."""

    def __init__(self) -> None:
        self.ports: Counter[int] = Counter()
        self._policies: list[DatagramPolicy] = []

    def join(self, port: int, policy: DatagramPolicy) -> None:
        """Add *port*, whose datagrams *policy* decides about."""
        self.ports[port] += 1
        self._policies.append(policy)
        for each in self._policies:
            each.forget()

    def leave(self, port: int, policy: DatagramPolicy) -> None:
        """Remove *port*, and its *policy* with it."""
        self.ports -= Counter([port])
        self._policies.remove(policy)


def unpack(packed: bytes) -> tuple[str, int]:
    """The host and port in a packed ``sockaddr_in`` or ``sockaddr_in6``; their sizes differ."""
    address = packed[4:8] if len(packed) == 16 else packed[8:24]
    return str(ip_address(address)), int.from_bytes(packed[2:4], "big")
