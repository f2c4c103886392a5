"""How much one endpoint takes on, and from whom: the values alone.

Rules: every default has a precedent, named beside it; None means no limit. What is over a limit is
refused or disconnected, and counted; see `suite.guard`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

#: How long a proxy has to say for whom it speaks, in seconds (section 2: "a few seconds", and 3 at the least,
#: which a TCP segment that is lost may take).
PROXY_TIMEOUT: Final = 5.0

#: An IPv6 host can use every address of its network, so what is counted is a network of this prefix length
#: (RFC 6177; BIND's ipv6-prefix-length is 56).
SOURCE_PREFIX: Final = 64

LOOPBACK: Final[tuple[Network, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True)
class Limits:
    """The limits of one endpoint. Durations are in seconds.

    :ivar connections: open at a time (the measure of kegel.com/c10k.html).
    :ivar per_peer: open at a time from one address, or one IPv6 /64; half of `connections`, as Postfix has it
        (``smtpd_client_connection_count_limit``), so that one peer cannot take all.
    :ivar handshake: from accept to the end of a TLS handshake (Go's ``TLSHandshakeTimeout``).
    :ivar idle: without a byte in either direction (nginx's stream ``proxy_timeout``).
    :ivar stall: in which a peer takes none of the bytes it is owed (nginx's ``send_timeout``).
    :ivar half_close: from a peer's end of input to ours (Linux's ``tcp_fin_timeout``).
    :ivar keepalive: from a TCP peer's last packet to the first question whether it is still there; if it does
        not answer, it is gone within twice this time (Go's default is 15 s, Linux's two hours; a minute is
        what most gateways remember a silent connection for, at the least).
    :ivar lifetime: of a connection, whatever it does.
    :ivar bytes: echoed on a connection (with another answer: received, or sent), after which it ends.
    :ivar rate: datagrams answered per second and source, on average (Linux's ``icmp_msgs_per_sec``).
    :ivar burst: datagrams answered at once to a source that has been quiet.
    :ivar rate_exempt: sources to which `rate` does not apply.
    :ivar full_reports: networks to which a report over UDP may be longer than the datagram that asks for it;
        whoever can forge an address in them can have it flooded.
    :ivar answer_own_ports: whether datagrams are answered that come from another host, but from a port that
        the suite listens on, too.
    :ivar allow: networks that are admitted; empty: all.
    :ivar deny: networks that are not, even if allowed.
    :ivar users: names of those whose processes may connect to a UNIX socket; with `groups` empty too: all.
    :ivar groups: names of groups, any member of which may.
    :ivar proxy_from: networks from which a PROXY header is believed.
    """

    connections: int = 10_000
    per_peer: int = 5_000
    handshake: float | None = 10.0
    idle: float | None = 600.0
    stall: float | None = 60.0
    half_close: float | None = 60.0
    keepalive: float | None = 60.0
    lifetime: float | None = None
    bytes: int | None = None
    rate: int | None = 1_000
    burst: int = 1_000
    rate_exempt: tuple[Network, ...] = LOOPBACK
    full_reports: tuple[Network, ...] = LOOPBACK
    answer_own_ports: bool = False
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    proxy_from: tuple[Network, ...] = LOOPBACK

    def admits(self, host: str) -> bool:
        """Whether the networks that are allowed and denied let *host* in."""
        if not (self.allow or self.deny):
            return True
        address = address_of(host)
        return not within(address, self.deny) and (not self.allow or within(address, self.allow))


@lru_cache(maxsize=1024)  # parsing costs as much as all else that is decided about a connection
def address_of(host: str) -> IPv4Address | IPv6Address:
    """The address that *host* says; one that is mapped into IPv6 (RFC 4291, 2.5.5.2) is what it is."""
    address = ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def source_of(address: IPv4Address | IPv6Address) -> int:
    """What counts as one source, or one peer: an IPv4 address, or an IPv6 network of `SOURCE_PREFIX` bits.

    IPv6 networks are negative, unlike any IPv4 address.
    """
    return int(address) if address.version == 4 else ~(int(address) >> 128 - SOURCE_PREFIX)


def within(address: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    """Whether *address* is in one of *networks*."""
    return any(address in network for network in networks)
