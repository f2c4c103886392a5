"""Whom the suite answers.

Rule for UDP: a source address is a claim, not a fact. A reply goes only where it cannot start a
loop or reach more hosts than one (CERT CA-1996-01, "UDP port denial-of-service attack").
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import ip_address

#: RFC 6335 system ports. No client sends from there, but echo (7), chargen (19), daytime (13), DNS
#: (53) and their like answer there, and would answer our answer.
FIRST_CLIENT_PORT = 1024

#: Sources remembered as answerable, at most; about 1 MiB.
REMEMBERED_SOURCES = 8192


def answerable(host: str, port: int, own_ports: Collection[int]) -> bool:
    """Whether a datagram from *host* and *port* may be answered.

    Not from a system port; not from one of *own_ports*, the UDP ports this suite listens on, on any
    host: the sender is this suite itself, or another one like it, and neither would ever stop; not
    from an address that is no single host's (broadcast, multicast, unspecified).
    """
    if port < FIRST_CLIENT_PORT or port in own_ports:
        return False
    address = ip_address(host)
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return not (address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255")


class DatagramPolicy:
    """Decides for all UDP endpoints of one suite, remembering the sources already admitted."""

    def __init__(self) -> None:
        self._own_ports: set[int] = set()
        self._admitted: set[tuple[str, int] | bytes] = set()

    def add_own_port(self, port: int) -> None:
        """From now on, *port* is one of ours."""
        self._own_ports.add(port)
        self._admitted.clear()

    def admit(self, source: tuple[str, int]) -> bool:
        """Whether a datagram from *source*, ``(host, port)`` or longer, may be answered."""
        return source in self._admitted or self._decide(source, source)

    def refused(self, sources: Sequence[bytes]) -> Sequence[int]:
        """`admit` for many, as the kernel gives them, packed ``sockaddr``: the places of those refused."""
        admitted = self._admitted
        if admitted.issuperset(sources):
            return ()
        return [
            place
            for place, source in enumerate(sources)
            if source not in admitted and not self._decide(source, unpack(source))
        ]

    def _decide(self, source: tuple[str, int] | bytes, host_and_port: tuple[str, int]) -> bool:
        if not answerable(host_and_port[0], host_and_port[1], self._own_ports):
            return False
        if len(self._admitted) >= REMEMBERED_SOURCES:
            self._admitted.clear()
        self._admitted.add(source)
        return True


def unpack(packed: bytes) -> tuple[str, int]:
    """The host and port in a packed ``sockaddr_in`` or ``sockaddr_in6``, told apart by their size."""
    address = packed[4:8] if len(packed) == 16 else packed[8:24]
    return str(ip_address(address)), int.from_bytes(packed[2:4], "big")
