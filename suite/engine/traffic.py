"""How many datagrams have come and gone, counted where that costs least.

Rules: a batch that is sent back whole is counted once, as it came; only where something is not sent back is
that counted, too. So nothing is counted for each datagram of a batch.
"""

from __future__ import annotations


class Traffic:
    """The datagrams of one protocol, on whichever of the engine's ports they come: it may outlive them all.

    :ivar came: datagrams given to the protocol one by one, and `bytes_came` their bytes.
    :ivar went: datagrams that it has sent, and the kernel has taken, and `bytes_went` their bytes.
    :ivar echoed: datagrams received in batches, to be sent back, and `bytes_echoed` their bytes.
    :ivar kept: those of them that have not been sent back, and `bytes_kept` their bytes.
    :ivar lost: answers that the kernel has refused.
    """

    __slots__ = (
        "bytes_came",
        "bytes_echoed",
        "bytes_kept",
        "bytes_went",
        "came",
        "echoed",
        "kept",
        "lost",
        "went",
    )

    def __init__(self) -> None:
        self.came = self.bytes_came = self.went = self.bytes_went = 0
        self.echoed = self.bytes_echoed = self.kept = self.bytes_kept = 0
        self.lost = 0

    def keep(self, datagrams: int, size: int) -> None:
        """Of a batch that has been counted, *datagrams* with *size* bytes are not sent back."""
        self.kept += datagrams
        self.bytes_kept += size

    @property
    def received(self) -> int:
        """Datagrams received."""
        return self.came + self.echoed

    @property
    def bytes_received(self) -> int:
        """Bytes received, without headers."""
        return self.bytes_came + self.bytes_echoed

    @property
    def sent(self) -> int:
        """Datagrams sent."""
        return self.went + self.echoed - self.kept

    @property
    def bytes_sent(self) -> int:
        """Bytes sent, without headers."""
        return self.bytes_went + self.bytes_echoed - self.bytes_kept
