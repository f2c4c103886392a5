"""The line that datagrams under faults leave on: some are overtaken, some late, some wait for those before.

Rules: what waits is bounded (`MOST_HELD`), and what finds no room is lost, as in a router; there is one
timer, for what is due first; nothing leaves before its time; what is due at the same time leaves in the order
in which it came. A datagram that is to be overtaken waits for the next one of its source, which is never made
to wait for that itself: otherwise they could wait for each other without end (Mbed TLS, pull request 4754),
or all be late and none out of order (clumsy, issue 50).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from suite.faults.packets import Verdict

#: Bytes that may wait at one endpoint, the overhead of each datagram included: 8,192 small datagrams. netem's
#: default, 1,000 packets, is known to be too few for a long delay at a high rate.
MOST_HELD: Final = 8 * 1024 * 1024

#: What a datagram costs beside its bytes: the objects around it, some 900 bytes as measured.
OVERHEAD: Final = 1024

#: Seconds that a datagram waits to be overtaken.
LONGEST_WAIT: Final = 0.1

#: Datagrams that are sent before every other descriptor has its turn; as in `suite.engine.datagram`.
SENT_PER_TURN: Final = 64


class _Packet:
    """A datagram on the line.

    :ivar number: its place among all that have waited.
    :ivar waits: whether room is kept for it.
    """

    __slots__ = ("data", "delay", "number", "rate", "send", "waits")

    def __init__(self, data: bytes, verdict: Verdict, send: Callable[[bytes], object]) -> None:
        self.data = data
        self.delay = verdict.delay
        self.rate = verdict.rate
        self.send = send
        self.number = 0
        self.waits = False


class Line:
    """Sends the datagrams of one endpoint, each in its time.

    :ivar waiting: the number of datagrams that wait.
    :ivar held: the number of their bytes, with `OVERHEAD`.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.waiting = 0
        self.held = 0
        self._clock = clock
        self._count = 0
        # When something is due, a number that keeps the order, and what it is; the number is unique.
        self._due: list[tuple[float, int, Callable[[float], object]]] = []
        self._steps = 0
        self._timer: IDelayedCall | None = None
        self._free_at = 0.0  # when the last datagram that goes at a rate is through
        self._overtaken: dict[Hashable, list[_Packet]] = {}  # what is to be overtaken, by its source
        self._drained: Callable[[], None] | None = None
        self._last = 0  # the last number that a drain waits for
        self._left = 0  # how many of these are left
        self._drain_end: IDelayedCall | None = None

    def put(self, data: bytes, verdict: Verdict, source: Hashable, send: Callable[[bytes], object]) -> int:
        """Send *data* as the *verdict* says; return how many copies of it have found no room.

        :param source: where the datagram came from.
        :param send: sends it.
        """
        now = self._clock.seconds()
        packets = [_Packet(data, verdict, send) for _ in range(1 + verdict.duplicated)]
        before = self._overtaken.get(source)
        if verdict.reordered and before is None:
            packets = [packet for packet in packets if self._keep(packet)]
            if packets:
                self._overtaken[source] = packets
                self._at(now + LONGEST_WAIT, partial(self._waited, source, packets))
            lost = 1 + verdict.duplicated - len(packets)
        else:
            lost = sum(not self._delay(packet, now) for packet in packets)
            if before is not None:
                self._waited(source, before, now)
        self._schedule()
        return lost

    def has_before(self, source: Hashable) -> bool:
        """Whether a datagram waits for the next one of *source*."""
        return source in self._overtaken

    # The way of a datagram.

    def _waited(self, source: Hashable, packets: list[_Packet], now: float) -> None:
        """*packets* have been overtaken, or have waited long enough for that."""
        if self._overtaken.get(source) is packets:
            del self._overtaken[source]
            for packet in packets:
                self._delay(packet, now)
            packets.clear()  # the time that they would have waited for is still to come

    def _delay(self, packet: _Packet, now: float) -> bool:
        if not packet.delay:
            return self._queue(packet, now)
        if not self._keep(packet):
            return False
        self._at(now + packet.delay, partial(self._queue, packet))
        return True

    def _queue(self, packet: _Packet, now: float) -> bool:
        """Let *packet* wait until those before it are through, and so is it."""
        if packet.rate is None:
            self._send(packet)
            return True
        if not self._keep(packet):
            return False
        self._free_at = max(self._free_at, now) + len(packet.data) / packet.rate
        self._at(self._free_at, lambda _: self._send(packet))
        return True

    def _send(self, packet: _Packet) -> None:
        self._forget(packet)
        packet.send(packet.data)

    # Room.

    def _keep(self, packet: _Packet) -> bool:
        """Keep room for *packet*; return whether there is some."""
        if packet.waits:
            return True
        room = len(packet.data) + OVERHEAD
        if self.held + room > MOST_HELD:
            return False
        self.held += room
        self.waiting += 1
        self._count += 1
        packet.number = self._count
        packet.waits = True
        return True

    def _forget(self, packet: _Packet) -> None:
        if not packet.waits:
            return
        packet.waits = False
        self.waiting -= 1
        self.held -= len(packet.data) + OVERHEAD
        if packet.number <= self._last:
            self._left -= 1
            if not self._left:
                self._end_drain()

    # Time.

    def _at(self, time: float, step: Callable[[float], object]) -> None:
        self._steps += 1
        heapq.heappush(self._due, (time, self._steps, step))

    def _schedule(self) -> None:
        """Set the timer for what is due first."""
        timer = self._timer
        if not self._due:
            if timer is not None:
                timer.cancel()
                self._timer = None
            return
        due = self._due[0][0]
        if timer is None:
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._run)
        elif timer.getTime() > due:
            timer.reset(max(0.0, due - self._clock.seconds()))

    def _run(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for _ in range(SENT_PER_TURN):
            if not self._due or self._due[0][0] > now:
                break
            due, _, step = heapq.heappop(self._due)
            step(due)  # not *now*: a late timer must not make the line slower
        self._schedule()

    # The end.

    def drain(self, seconds: float, done: Callable[[], None]) -> None:
        """Call *done* once all that waits now has left, or after *seconds*."""
        if not self.waiting or seconds <= 0:
            done()
            return
        self._drained = done
        self._last, self._left = self._count, self.waiting
        self._drain_end = self._clock.callLater(seconds, self._end_drain)

    def _end_drain(self) -> None:
        done, self._drained = self._drained, None
        self._last = self._left = 0
        if self._drain_end is not None and self._drain_end.active():
            self._drain_end.cancel()
        self._drain_end = None
        if done is not None:
            done()

    def stop(self) -> None:
        """Drop all that waits."""
        self._due.clear()
        self._overtaken.clear()
        self.waiting = self.held = 0
        self._schedule()
        self._end_drain()
