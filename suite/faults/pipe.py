"""One direction of a connection under faults: bytes come out later, slower, in pieces, or not at all.

Rules: no clock and no socket, only times that are passed in, in seconds, which never go back. The order is
fixed: bytes are corrupted, delayed, slowed down, sliced, and cut off at exact offsets of what comes out.
Without `Kind.CORRUPT`, `Kind.BLACKHOLE` and a cut, every byte comes out once, unchanged and in order, and the
end after the last one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from suite.config.faults import Fault, Kind, Span
from suite.faults.draw import Draws

#: The end of the stream, among what comes out.
END: Final = None

#: What comes out: bytes, the end, or the fault that cuts the stream off.
Output = bytes | Fault | None

#: Pieces that come out at once; those that are due, too, are so in the next turn.
MOST_PIECES: Final = 64

#: Seconds of a bandwidth that come out as one piece, unless that is less than a byte.
QUANTUM: Final = 0.01

#: Cuts, which are the last thing that comes out; `Kind.STALL` may end again.
CUTS: Final = frozenset({Kind.LIMIT, Kind.CLOSE, Kind.HALF_CLOSE, Kind.RESET})

#: Bytes that one draw decides about, while no byte is corrupted.
BLOCK: Final = 1024

NEVER: Final = float("inf")


class Window:
    """Where a fault is active: from `Fault.after` on, for `Fault.lasts`.

    :param began: when the connection was accepted.
    :param since: when the fault was decided: one without an `Fault.after` begins then.
    """

    __slots__ = ("_after", "_began", "_lasts", "_since", "_start")

    def __init__(self, fault: Fault, began: float, since: float) -> None:
        self._after = fault.after or Span(size=0)
        self._lasts = fault.lasts
        self._began = began
        self._start = self._after.size  # the offset where it begins; None until that is known
        self._since: float | None = None  # when it begins; None until that is known
        if self._after.seconds is not None:
            self._since = began + self._after.seconds
        elif not self._start:
            self._since = since

    def active(self, offset: int, now: float) -> bool:
        """Whether the fault is active for the byte at *offset*, looked at *now*."""
        if self._start is None or self._since is None:  # not reached yet, as far as we have seen
            if offset < (self._start or 0) or now < (self._since or now):
                return False
            self._start = offset if self._start is None else self._start
            self._since = now if self._since is None else self._since
        elif offset < self._start or now < self._since:
            return False
        if self._lasts is None:
            return True
        if self._lasts.size is not None:
            return offset < self._start + self._lasts.size
        return now < self._since + (self._lasts.seconds or 0.0)

    def edge(self, offset: int) -> int | None:
        """The next offset after *offset* at which it may begin or end; None if there is none."""
        edges = [] if self._start is None else [self._start]
        if self._start is not None and self._lasts is not None and self._lasts.size is not None:
            edges.append(self._start + self._lasts.size)
        return min((edge for edge in edges if edge > offset), default=None)

    def next_time(self, now: float) -> float:
        """The next time after *now* at which it begins or ends by itself; `NEVER` if there is none."""
        times = []
        if self._after.seconds is not None:
            times.append(self._began + self._after.seconds)
        if self._since is not None and self._lasts is not None and self._lasts.seconds is not None:
            times.append(self._since + self._lasts.seconds)
        return min((time for time in times if time > now), default=NEVER)


@lru_cache(maxsize=16)
def clean(share: float) -> Sequence[float]:
    """For up to `BLOCK` bytes, minus the chance that they all stay as they are: negative and rising.

    :param share: the chance that one does not.
    """
    found = [-(1.0 - share)]
    while len(found) < BLOCK:
        found.append(found[-1] * (1.0 - share))
    return tuple(found)


class Corruption:
    """Changes a share of the bytes; which ones, and to what, follows from a seed and their offsets.

    The number of bytes to the next one is geometric. It is found in a table of the powers of the chance that
    a byte stays as it is, because a logarithm is not the same on every platform.

    :param window: where it is active.
    :param first: the offset of the first byte that it will be given.
    """

    def __init__(self, fault: Fault, window: Window, draws: Draws, first: int) -> None:
        self._window = window
        self._draws = draws
        self._share = float(fault.value) if isinstance(fault.value, (int, float)) else 0.0
        self._clean = clean(self._share)
        self._next = first - 1
        self._skip()

    def _skip(self) -> None:
        """Find the next offset to change."""
        if not self._share:
            self._next = 2**63
            return
        self._next += 1
        while (kept := -self._draws.fraction()) > self._clean[-1]:
            self._next += BLOCK
        self._next += bisect_left(self._clean, kept)

    def apply(self, data: bytes, offset: int, now: float) -> bytes:
        """*data*, whose first byte is at *offset*, with some bytes changed."""
        end = offset + len(data)
        if self._next >= end:
            return data
        changed = bytearray(data)
        while self._next < end:
            flip = 1 + self._draws.integer() % 255  # never 0
            if self._window.active(self._next, now):
                changed[self._next - offset] ^= flip
            self._skip()
        return bytes(changed)


class Pipe:
    """One direction of one connection.

    :param direction: ``down`` or ``up``; the faults of the other are left out.
    :param began: when the connection was accepted.
    :ivar held: the number of bytes that have gone in and not come out.
    :ivar discarded: the number of bytes that went in and never come out.
    """

    def __init__(self, direction: str, began: float, faults: Iterable[Fault] = (), seed: int = 0) -> None:
        self.direction = direction
        self.held = 0
        self.discarded = 0
        self._began = began
        self._chunks: deque[tuple[int, float, memoryview]] = deque()  # offset, ready from, bytes
        self._fed = 0  # offset of the next byte that goes in
        self._out = 0  # offset of the next byte that comes out
        self._last_ready = began
        self._free_at = began  # when the line is free for the next piece
        self._end_ready: float | None = None  # the end has gone in
        self._finished = False  # the end, or a cut, has come out
        # The parts of the faults, by their number among those that are the same; for corruption, by the seed.
        self._windows: dict[tuple[Fault, int], Window] = {}
        self._slices: list[tuple[Fault, Window]] = []
        self._corrupting: dict[tuple[Fault, int, int], Corruption] = {}
        self.change(faults, seed, began)

    def change(self, faults: Iterable[Fault], seed: int, now: float) -> None:
        """Go on with other *faults*; what is inside keeps the delay that it has.

        Those that were there before go on as if nothing had changed.
        """
        mine = [fault for fault in faults if self._concerns(fault)]
        windows, corrupting = self._windows, self._corrupting
        self._windows, self._corrupting = {}, {}
        parts: list[tuple[Fault, Window]] = []
        count: Counter[Fault] = Counter()
        for index, fault in enumerate(mine):
            number = count[fault]
            count[fault] += 1
            window = windows.get((fault, number)) or Window(fault, self._began, now)
            self._windows[fault, number] = window
            parts.append((fault, window))
            if fault.kind is Kind.CORRUPT:
                self._corrupting[fault, number, seed] = corrupting.get((fault, number, seed)) or Corruption(
                    fault, window, Draws(seed, Kind.CORRUPT, self.direction, index), self._fed
                )

        def of(kind: Kind) -> list[tuple[Fault, Window]]:
            return [part for part in parts if part[0].kind is kind]

        self._latencies = of(Kind.LATENCY)
        self._bandwidths = of(Kind.BANDWIDTH)
        before, self._slices = self._slices, of(Kind.SLICE)
        if self._slices != before:
            self._free_at = min(self._free_at, now)  # the gap that was waited for has gone
        self._stalls = of(Kind.STALL)
        self._blackholes = of(Kind.BLACKHOLE)
        self._cuts = [(fault, *self._trigger(fault)) for fault in mine if fault.kind in CUTS]

    def _concerns(self, fault: Fault) -> bool:
        if fault.kind is Kind.BLACKHOLE:  # what the client sends is read, and never reaches the answer
            return self.direction == "up"
        return fault.direction in (self.direction, "both")

    def _trigger(self, fault: Fault) -> tuple[int | None, float | None]:
        """The offset or the time at which *fault* cuts the stream off."""
        if fault.kind is Kind.LIMIT and isinstance(fault.value, int):
            return fault.value, None
        if fault.after is None:
            return 0, None
        if fault.after.seconds is not None:
            return None, self._began + fault.after.seconds
        return fault.after.size, None

    # Going in.

    def feed(self, data: bytes, now: float) -> None:
        """Let *data* go in."""
        view = memoryview(data)
        while view and not self._finished and self._end_ready is None:
            count = self._stretch(len(view))
            self._feed_some(view[:count], now)
            view = view[count:]
        self.discarded += len(view)

    def _stretch(self, count: int) -> int:
        """The number of the next *count* bytes to go in that have the same latency and blackholes."""
        for _, window in (*self._latencies, *self._blackholes):
            edge = window.edge(self._fed)
            if edge is not None:
                count = min(count, edge - self._fed)
        return count

    def _feed_some(self, data: memoryview, now: float) -> None:
        offset = self._fed
        self._fed += len(data)
        if self._corrupting:
            changed = bytes(data)
            for corruption in self._corrupting.values():
                changed = corruption.apply(changed, offset, now)
            data = memoryview(changed)
        if any(window.active(offset, now) for _, window in self._blackholes):
            self.discarded += len(data)
            return
        self._last_ready = max(self._last_ready, now + self._latency(offset, now))
        self._chunks.append((offset, self._last_ready, data))
        self.held += len(data)

    def _latency(self, offset: int, now: float) -> float:
        return sum(
            float(fault.value)
            for fault, window in self._latencies
            if isinstance(fault.value, (int, float)) and window.active(offset, now)
        )

    def feed_end(self, now: float) -> None:
        """Let the end go in, behind all bytes; one that a blackhole swallows never comes out."""
        if self._end_ready is None and not self.swallows(now):
            self._end_ready = max(self._last_ready, now + self._latency(self._fed, now))

    def swallows(self, now: float) -> bool:
        """Whether what goes in now disappears."""
        return any(window.active(self._fed, now) for _, window in self._blackholes)

    # Coming out.

    def take(self, now: float) -> list[Output]:
        """What has come out by *now*, at most `MOST_PIECES` pieces; each is to be written by itself."""
        found: list[Output] = []
        while len(found) < MOST_PIECES and not self._finished:
            cut = self._cut_reached(now)
            if cut is not None:
                found.append(cut)
                self._finish()
            elif self._gate_opens(now) > now:
                break
            elif self._chunks:
                count, departure = self._next_piece(now)
                if departure > now:
                    break
                found.append(self._emit(count, departure, now))
            elif self._end_ready is not None and max(self._end_ready, self._free_at) <= now:
                found.append(END)
                self._finish()
            else:
                break
        return found

    def take_cut(self, now: float) -> Fault | None:
        """The cut that the clock has brought by *now*, if nobody takes what would have come out before."""
        if not self._finished:
            for fault, _, time in self._cuts:
                if time is not None and now >= time:
                    self._finish()
                    return fault
        return None

    @property
    def cut_due(self) -> float | None:
        """When `take_cut` gives one; None if it will not."""
        times = [time for _, _, time in self._cuts if time is not None]
        return None if self._finished else min(times, default=None)

    def due(self, now: float) -> float | None:
        """When something comes out next, or may; None if nothing does until more goes in."""
        if self._finished:
            return None
        times = [time for _, offset, time in self._cuts if offset is None and time is not None]
        if self._cut_reached(now) is not None:
            return now
        opens = self._gate_opens(now)
        if opens > now:
            times.append(opens)
        elif self._chunks:
            times.append(self._next_piece(now)[1])
        elif self._end_ready is not None:
            times.append(max(self._end_ready, self._free_at))
        # A stall that begins by the clock stops what would have come out later.
        due = min(times, default=NEVER)
        return None if due == NEVER else due

    def catch_up(self, now: float) -> None:
        """Nobody could take anything until *now*: what was not sent meanwhile is not made up for."""
        self._free_at = max(self._free_at, now)

    @property
    def finished(self) -> bool:
        """Whether the end, or a cut, has come out."""
        return self._finished

    def _cut_reached(self, now: float) -> Fault | None:
        for fault, offset, time in self._cuts:
            if (offset is not None and self._out >= offset) or (time is not None and now >= time):
                return fault
        return None

    def _gate_opens(self, now: float) -> float:
        """When the stalls that are active end: *now* if there are none, `NEVER` if one has no end."""
        opens = now
        for fault, window in self._stalls:
            if window.active(self._out, now):
                lasts = fault.lasts.seconds if fault.lasts is not None else None
                opens = max(opens, window.next_time(now) if lasts is not None else NEVER)
        return opens

    def _next_piece(self, now: float) -> tuple[int, float]:
        """The length of the next piece, and when it comes out."""
        offset, ready, data = self._chunks[0]
        count = len(data)
        # Up to the next offset at which something changes.
        for _, window in (*self._bandwidths, *self._slices, *self._stalls):
            edge = window.edge(offset)
            if edge is not None:
                count = min(count, edge - offset)
        for _, cut, _ in self._cuts:
            if cut is not None and cut > offset:
                count = min(count, cut - offset)
        for fault, window in self._slices:
            if isinstance(fault.value, int) and window.active(offset, now):
                count = min(count, fault.value)
        start = max(ready, self._free_at)
        rates = [
            float(fault.value)
            for fault, window in self._bandwidths
            if isinstance(fault.value, (int, float)) and window.active(offset, now)
        ]
        if not rates:
            return count, start
        rate = min(rates)
        count = min(count, max(1, int(rate * QUANTUM)))
        return count, start + count / rate

    def _emit(self, count: int, departure: float, now: float) -> bytes:
        offset, ready, data = self._chunks.popleft()
        if count < len(data):
            self._chunks.appendleft((offset + count, ready, data[count:]))
        self._out = offset + count
        self.held -= count
        gaps = [fault.gap for fault, window in self._slices if window.active(offset, now)]
        self._free_at = departure + max(gaps, default=0.0)
        return bytes(data[:count])

    def _finish(self) -> None:
        self._finished = True
        self.discarded += self.held
        self.held = 0
        self._chunks.clear()
