"""Which datagram suffers what: pure, and the same every time.

Rules: the datagrams of an endpoint are numbered from 1, in the order in which they arrive; those that are not
admitted do not count. What is drawn for one follows from the seed, its number and the place of the fault in
the file, not from a clock, nor from what was drawn for another. Only loss in bursts remembers something: the
state of the endpoint's line. Where an earlier run is replayed, what it recorded is in force, from the same
datagrams on.

The order is fixed: loss → truncate → corrupt → duplicate → reorder → delay → rate. What is lost suffers
nothing else; what is cut off cannot be corrupted; a second copy is like the first, and shares its way. Of
several faults of a kind: each may lose the datagram, the shortest truncation and the lowest rate hold, each
corrupts, there is one more copy at the most, and delays add up.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import itemgetter
from typing import Final, NamedTuple, cast

from suite.config.fault_text import shown
from suite.config.faults import Bursts, Fault, Faults, Kind, Recorded
from suite.config.limits import address_of, within
from suite.faults.decide import PRECISION
from suite.faults.draw import Draws
from suite.faults.pipe import BLOCK, Window, clean

#: The order in which faults are applied.
ORDER: Final = (
    Kind.LOSS,
    Kind.TRUNCATE,
    Kind.CORRUPT,
    Kind.DUPLICATE,
    Kind.REORDER,
    Kind.DELAY,
    Kind.RATE,
)

#: Maximum number of hosts whose networks are remembered.
REMEMBERED_HOSTS: Final = 4096

#: Offsets shown of what is corrupted.
SHOWN_OFFSETS: Final = 5


def strike_datagrams(faults: Faults) -> bool:
    """Whether there is anything in *faults* that datagrams can suffer, or choose."""
    if faults.replayed is not None:
        return bool(faults.replayed.datagrams)
    return faults.requested or any(fault.kind in ORDER for fault in faults.entries)


class Verdict(NamedTuple):
    """What happens to one datagram.

    :ivar number: the number of the datagram.
    :ivar kinds: the faults that strike it, in their order; only `Kind.LOSS` if it is lost.
    :ivar lost: whether it is never answered.
    :ivar size: the number of bytes that are left of it; None: all.
    :ivar changes: the offsets of the bytes that are corrupted, and what each is XORed with.
    :ivar duplicated: whether it is answered twice.
    :ivar reordered: whether the next datagram from the same source overtakes it.
    :ivar delay: the number of seconds by which it is late.
    :ivar rate: the bytes a second of the line that it goes through; None: any number.
    """

    number: int
    kinds: tuple[Kind, ...] = ()
    lost: bool = False
    size: int | None = None
    changes: tuple[tuple[int, int], ...] = ()
    duplicated: bool = False
    reordered: bool = False
    delay: float = 0.0
    rate: int | None = None

    def apply(self, data: bytes) -> bytes:
        """What becomes of the bytes of the datagram."""
        if self.size is not None:
            data = data[: self.size]
        if self.changes:
            changed = bytearray(data)
            for offset, flip in self.changes:
                changed[offset] ^= flip
            data = bytes(changed)
        return data

    def __str__(self) -> str:
        return self.shown()

    def shown(self) -> str:
        """It for people: ``lost``, or ``truncated to 10; delayed 213 ms``; ``no fault`` if there is none."""
        said = []
        if self.lost:
            said.append("lost")
        if self.size is not None:
            said.append(f"truncated to {self.size:,}")
        if self.changes:
            offsets = [f"{offset:,}" for offset, _ in self.changes[:SHOWN_OFFSETS]]
            more = len(self.changes) - len(offsets)
            said.append(f"corrupted at {', '.join(offsets)}" + (f" and {more:,} more" if more else ""))
        if self.duplicated:
            said.append("duplicated")
        if self.reordered:
            said.append("reordered")
        if self.delay:
            said.append(shown(Fault(Kind.DELAY, self.delay)).replace("delay", "delayed", 1))
        if self.rate is not None:
            said.append(shown(Fault(Kind.RATE, self.rate)))
        return "; ".join(said) or "no fault"


class Arrival(NamedTuple):
    """A datagram, for `PacketDecider.predict`.

    :ivar size: bytes.
    :ivar host: where it comes from.
    :ivar seconds: when, after the first one.
    """

    size: int = 0
    host: str = "127.0.0.1"
    seconds: float = 0.0


class PacketDecider:
    """Decides about the datagrams of one endpoint.

    :param faults: what is declared; it may be replaced at any time, and the count of datagrams goes on.
    :ivar number: the number of the last datagram that was decided about; 0 before the first.
    :ivar received: how many bytes they had.
    :ivar next_number: gives each datagram its number, higher than those before: from 1, unless other workers
        count, too.
    :ivar claim: whether what strikes once for all workers strikes at this one; None: there are no others.
    :ivar in_force: what the last datagram was decided by: `faults` or, where an earlier run is replayed, what
        is recorded of it.
    """

    claim: Callable[[object], bool] | None = None

    def __init__(self, faults: Faults) -> None:
        self.number = 0
        self.received = 0
        self.next_number: Callable[[], int] = itertools.count(1).__next__
        self._began: float | None = None
        self._declared: list[_Declared] = []
        # Those that strike once, and have, or may at this worker alone; see `Decider`.
        self._spent: set[tuple[Fault, int]] = set()
        self._claimed: set[tuple[Fault, int]] = set()
        self._hosts: dict[str, tuple[bool, ...]] = {}
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """What is declared; setting it leaves what stays the same in the state in which it is."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._declare(replace(faults, entries=(), replayed=None) if faults.replayed else faults)
        recorded = faults.replayed.datagrams if faults.replayed else {}
        # The next one is the last.
        self._to_come = sorted(recorded.items(), key=itemgetter(0), reverse=True)
        self._repeat(self.number)

    def _repeat(self, number: int) -> None:
        """Let what is recorded for the datagram *number*, or for one before it, be in force."""
        latest: Recorded | None = None
        while self._to_come and self._to_come[-1][0] <= number:
            latest = self._to_come.pop()[1]
        if latest is not None:
            self._declare(Faults(latest.faults, latest.seed))

    def _declare(self, faults: Faults) -> None:
        kept = {declared.key: declared for declared in self._declared}
        self.in_force = faults
        self._hosts = {}
        found: list[_Declared] = []
        for index, fault in enumerate(faults.entries):
            if fault.kind not in ORDER:  # of the streams of the same endpoint
                continue
            declared = kept.get((faults.seed, index, fault)) or _Declared(faults.seed, index, fault)
            before = found[-1] if found else declared
            together = bool(fault.profile) and before.profile == declared.profile
            declared.first = before.first if together else declared
            found.append(declared)
        self._declared = sorted(found, key=lambda declared: ORDER.index(declared.fault.kind))

    def decide(self, host: str, size: int, now: float) -> Verdict:
        """What happens to the next datagram.

        :param host: where it comes from.
        :param size: the number of its bytes.
        :param now: the time in seconds, which never goes back.
        """
        self.number = number = self.next_number()
        if self._to_come:
            self._repeat(number)
        if self._began is None:
            self._began = now
        offset = self.received
        self.received += size
        passing = _Passing(number, size)
        for declared, concerned in zip(self._declared, self._concerned(host), strict=True):
            # Asked in any case: a fault that lasts from a number of bytes on has to notice when that is.
            if declared.windowed and not declared.active(offset, now, self._began):
                continue
            fault = declared.fault
            if not concerned or number % fault.every or (passing.lost and fault.kind is not Kind.LOSS):
                continue
            if fault.once and (fault, fault.place) in self._spent:
                continue
            draws = declared.base.split(number)
            happens = draws.happens(fault.chance)
            if declared.first is not declared:
                happens = declared.first.base.split(number).happens(fault.chance)
            if happens and self._may_strike(fault) and declared.strike(passing, draws):
                passing.kinds.append(fault.kind)
                if fault.once:
                    self._spent.add((fault, fault.place))
        if not passing.kinds:
            return Verdict(number)
        return passing.verdict()

    def _may_strike(self, fault: Fault) -> bool:
        """Whether *fault*, if it strikes once, may do so at this worker."""
        key = (fault, fault.place)
        if not fault.once or self.claim is None or key in self._claimed:
            return True
        if self.claim(key):
            self._claimed.add(key)
        return key in self._claimed

    def predict(self, arrivals: Iterable[Arrival]) -> list[Verdict]:
        """What happens to *arrivals*, the first datagrams of an endpoint with these faults.

        What this object has decided, or will decide, makes no difference, and is not changed.
        """
        fresh = PacketDecider(self.faults)
        return [fresh.decide(arrival.host, arrival.size, arrival.seconds) for arrival in arrivals]

    def _concerned(self, host: str) -> tuple[bool, ...]:
        """For each fault, whether it is for a client at *host*."""
        found = self._hosts.get(host)
        if found is None:
            if len(self._hosts) >= REMEMBERED_HOSTS:
                self._hosts.clear()
            found = tuple(
                not declared.fault.networks or within(address_of(host), declared.fault.networks)
                for declared in self._declared
            )
            self._hosts[host] = found
        return found


class _Passing:
    """One datagram on its way past the faults; the fields are those of its `Verdict`."""

    __slots__ = (
        "changes",
        "delay",
        "duplicated",
        "kinds",
        "left",
        "lost",
        "number",
        "rate",
        "reordered",
        "size",
    )

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.left = size  # bytes that are left of it
        self.kinds: list[Kind] = []
        self.lost = self.duplicated = self.reordered = False
        self.size: int | None = None
        self.changes: list[tuple[int, int]] = []
        self.delay = 0.0
        self.rate: int | None = None

    def verdict(self) -> Verdict:
        """What happens to it in the end."""
        return Verdict(
            self.number,
            tuple(dict.fromkeys(self.kinds)),
            self.lost,
            self.size,
            tuple(self.changes),
            self.duplicated,
            self.reordered,
            round(self.delay, PRECISION),
            self.rate,
        )


class _Declared:
    """A fault of an endpoint, and its state.

    :ivar key: the seed, its place among the faults, and the fault.
    :ivar profile: the profile that it is part of, and its place in the file.
    :ivar first: the first fault of the same profile, whose number decides whether they strike.
    :ivar base: a sequence of numbers for each datagram is split off from this.
    :ivar strike: lets it strike a datagram; returns whether it makes a difference.
    """

    def __init__(self, seed: int, index: int, fault: Fault) -> None:
        self.key = (seed, index, fault)
        self.fault = fault
        self.profile = (fault.profile, fault.place)
        self.first = self
        self.base = Draws(seed, "datagram", index)
        self.windowed = fault.after is not None or fault.lasts is not None
        strikes: dict[Kind, Callable[[_Passing, Draws], bool]] = {
            Kind.LOSS: self._lose_in_bursts if isinstance(fault.value, Bursts) else self._lose,
            Kind.TRUNCATE: self._truncate,
            Kind.CORRUPT: self._corrupt,
            Kind.DUPLICATE: self._duplicate,
            Kind.REORDER: self._reorder,
            Kind.DELAY: self._delay,
            Kind.RATE: self._slow_down,
        }
        self.strike = strikes[fault.kind]
        self._amount = cast(float, fault.value)
        self._bad = False  # the state of the line (`Bursts`); as netem's, it begins in the good one
        self._window: Window | None = None

    def active(self, offset: int, now: float, began: float) -> bool:
        """Whether it is active for a datagram whose first byte is at *offset* of all that was received."""
        if self._window is None:
            self._window = Window(self.fault, began, now)
        return self._window.active(offset, now)

    def _lose(self, passing: _Passing, draws: Draws) -> bool:
        lost = draws.happens(self._amount)
        passing.lost = passing.lost or lost
        return lost

    def _lose_in_bursts(self, passing: _Passing, draws: Draws) -> bool:
        """As ``loss_gilb_ell`` in Linux' ``net/sched/sch_netem.c``.

        The first number decides whether the state changes, the second one about the datagram, by the state
        from before.
        """
        bursts = cast(Bursts, self.fault.value)
        was_bad = self._bad
        if draws.happens(bursts.r if was_bad else bursts.p):
            self._bad = not was_bad
        lost = draws.happens(bursts.bad if was_bad else bursts.good)
        passing.lost = passing.lost or lost
        return lost

    def _truncate(self, passing: _Passing, _: Draws) -> bool:
        size = cast(int, self.fault.value)
        if size >= passing.left:
            return False
        passing.size = passing.left = size
        return True

    def _corrupt(self, passing: _Passing, draws: Draws) -> bool:
        changes = self._changes(draws, passing.left)
        passing.changes += changes
        return bool(changes)

    def _changes(self, draws: Draws, size: int) -> list[tuple[int, int]]:
        """Which of *size* bytes are corrupted, and how: offsets, and numbers from 1 to 255.

        The number of bytes to the next one is geometric; see `suite.faults.pipe.Corruption`.
        """
        share = self._amount
        if not share:
            return []
        table = clean(share)
        found = []
        offset = 0
        while offset < size:
            kept = -draws.fraction()
            if kept > table[-1]:
                offset += BLOCK
                continue
            offset += bisect_left(table, kept)
            if offset < size:
                found.append((offset, 1 + draws.integer() % 255))
            offset += 1
        return found

    def _duplicate(self, passing: _Passing, draws: Draws) -> bool:
        duplicated = draws.happens(self._amount)
        passing.duplicated = passing.duplicated or duplicated
        return duplicated

    def _reorder(self, passing: _Passing, draws: Draws) -> bool:
        reordered = draws.happens(self._amount)
        passing.reordered = passing.reordered or reordered
        return reordered

    def _delay(self, passing: _Passing, draws: Draws) -> bool:
        delay = round(draws.around(self._amount, self.fault.jitter, self.fault.distribution), PRECISION)
        passing.delay += delay
        return delay > 0

    def _slow_down(self, passing: _Passing, _: Draws) -> bool:
        rate = cast(int, self.fault.value)
        passing.rate = rate if passing.rate is None else min(rate, passing.rate)
        return True
