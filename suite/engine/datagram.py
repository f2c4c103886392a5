"""UDP in bounded turns.

Rules: no datagram is cut short; at most `DATAGRAMS_PER_TURN` are taken before every other
descriptor has had its turn; a reply that the kernel refuses is a lost datagram, never an error.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet import udp
from twisted.logger import Logger
from typing_extensions import override

from suite.engine.careful import CarefulPort

log = Logger()

#: More than any UDP payload (65,507 bytes over IPv4, 65,527 over IPv6).
MAX_DATAGRAM: Final = 65_535

#: Twisted stops after 256 KiB, which a flood of empty datagrams never reaches.
DATAGRAMS_PER_TURN: Final = 64


class DatagramPort(CarefulPort, udp.Port):
    """A UDP port.

    :ivar lost: replies that the kernel has refused.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lost = 0

    @override
    def doRead(self) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, address = self.socket.recvfrom(self.maxPacketSize)
            except OSError:
                return  # none left, or an ICMP error about an earlier reply
            try:
                self.protocol.datagramReceived(data, address)
            except Exception:  # noqa: BLE001  # one datagram must not close the port
                log.failure("datagram from {address} failed", address=address)
            if not self.connected:
                return

    @override
    def write(self, datagram: bytes, addr: Any = None) -> None:
        """Send to *addr*, as `datagramReceived` was given it (four parts over IPv6)."""
        try:
            self.socket.sendto(datagram, addr)
        except OSError:
            self.lost += 1
