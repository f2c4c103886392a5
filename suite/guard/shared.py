"""What the workers of a suite count together, so that a limit holds for all of them.

Rules: the memory is shared, and each part of it has one writer, its worker; nothing is locked, so a worker
that is killed leaves nothing locked, and what it has counted is cleared. A worker counts a connection first,
then takes its turn, then reads what all have counted, and takes the connection back if that is too much.
Turns are in one order (a file position that the kernel advances for one process at a time), and whoever has
a later one sees what was counted before an earlier one: of connections that compete for the last place, at
most one gets it, and never is there one too many. One that is about to be taken back may cost another its
place: a limit may be short by one for each worker at that moment.

Sources are found by hashing, in a table of each worker. It has room for three times as many sources as the
worker may have descriptors. Where a source finds no place nevertheless, each worker counts it for itself:
nobody is refused for that, and such a source may have `per_peer` connections at each worker.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from suite.system import descriptor_limit

#: Places for what is counted of a listening socket: each needs a descriptor of every worker.
SLOTS: Final = 4096

#: The most sources that a table is made for; one of as many takes 16 MiB, if all of them have been there.
MOST_SOURCES: Final = 2**18

#: Entries for each source that a worker may have: a source that has to be elsewhere is then nearby.
ROOM: Final = 3

#: How many entries a source may be in.
WINDOW: Final = 32

#: The endpoint's slot, and a source: the version of IP, and what `source_of` says, without its sign; or
#: `_CLAIM`, and a hash.
_KEY: Final = struct.Struct("=IIQ")
_CLAIM: Final = 1
_FREE: Final = bytes(_KEY.size)

_COUNT: Final = struct.calcsize("I")


class Numbers:
    """The numbers from 1, of which each is given once, to whichever process asks.

    :param descriptor: `make_counter`'s; it stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self.next: Callable[[], int] = partial(os.lseek, descriptor, 1, os.SEEK_CUR)
        self._descriptor = descriptor

    def restart(self) -> None:
        """Begin with 1 again."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)


def make_counter(name: str = "echo-suite-counter") -> int:
    """A descriptor for `Numbers`, at their beginning: an empty file in memory, which is the caller's.

    Processes that have inherited it share its position, and one at a time moves that.

    :param name: for those who look at descriptors.
    :raises OSError: there are no more descriptors, or there is no ``/proc``.
    """
    made = os.memfd_create(name)
    try:
        # Since Linux 6.15, only what has been opened by a path has a position that is locked while it moves
        # (FMODE_ATOMIC_POS: do_dentry_open in fs/open.c; file_seek_cur_needs_f_lock in fs/file.c).
        return os.open(f"/proc/self/fd/{made}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(made)


class Shared:
    """The memory, made before the first worker is.

    :param workers: how many there are; their numbers begin with 1.
    :param sources: how many a worker may have at a time; None: as many as this process may have descriptors.
    :raises OSError: there is not enough memory, or as `make_counter`.
    """

    def __init__(self, workers: int, sources: int | None = None) -> None:
        if sources is None:
            sources = min(descriptor_limit() or MOST_SOURCES, MOST_SOURCES)
        self._entries = ROOM * sources
        used = (SLOTS + self._entries + WINDOW) * _COUNT + (self._entries + WINDOW) * _KEY.size
        self._stride = -(-used // mmap.PAGESIZE) * mmap.PAGESIZE
        self._file = make_counter("echo-suite-limits")
        try:
            os.ftruncate(self._file, workers * self._stride)
            self._memory = mmap.mmap(self._file, workers * self._stride)
        except BaseException:
            os.close(self._file)
            raise
        self._turn = Numbers(self._file)
        self._secret = secrets.randbits(60)
        begins = range(0, workers * self._stride, self._stride)
        self._regions = [_Region(self._memory, begin, self._entries) for begin in begins]
        self._taken: set[int] = set()

    @property
    def descriptor(self) -> int:
        """The descriptor that a worker has to keep."""
        return self._file

    def of(self, number: int) -> WorkerShare:
        """What worker *number* counts, and reads of the others; to be made anew for each process."""
        return WorkerShare(self._regions, self._regions[number - 1], self._turn, self._secret)

    def clear(self, number: int) -> None:
        """Forget what worker *number* has counted: it is dead, and so are its connections."""
        # The pages are given back, and are zero when they are next read: madvise(2).
        self._memory.madvise(mmap.MADV_REMOVE, (number - 1) * self._stride, self._stride)

    def open_at(self, number: int, slots: Iterable[int] | None = None) -> int:
        """How many connections are open at worker *number*.

        :param slots: count those of these slots only; None: of all.
        """
        opened = self._regions[number - 1].open
        return sum(opened) if slots is None else sum(opened[slot] for slot in slots)

    def take_slot(self) -> int:
        """A slot that nobody has, and in which nothing is counted any more.

        :raises OSError: there are none; the text says how many there are.
        """
        for slot in range(SLOTS):
            if slot not in self._taken and not any(region.open[slot] for region in self._regions):
                self._taken.add(slot)
                return slot
        raise OSError(errno.ENOSPC, f"workers can share {SLOTS:,} sockets at the most")

    def release_slot(self, slot: int) -> None:
        """Give back *slot*, on which nobody listens any more; there may be connections yet."""
        self._taken.discard(slot)

    def close(self) -> None:
        """Give everything back."""
        for region in self._regions:
            region.release()
        self._memory.close()
        os.close(self._file)


class _Region:
    """What one worker has counted.

    :ivar open: by slot, how many connections are open.
    :ivar opened_by: by entry, how many of them are of the source that has it; or 1, for a claim.
    """

    def __init__(self, memory: mmap.mmap, begin: int, entries: int) -> None:
        self._memory = memory
        whole = memoryview(memory)
        sources_at = begin + SLOTS * _COUNT
        self._keys_at = sources_at + (entries + WINDOW) * _COUNT
        self.open = whole[begin:sources_at].cast("I")
        self.opened_by = whole[sources_at : self._keys_at].cast("I")
        whole.release()

    def find(self, key: bytes, home: int) -> int | None:
        """The entry that has *key*, if one does of the `WINDOW` from *home* on."""
        memory, begin = self._memory, self._keys_at
        end = begin + (home + WINDOW) * _KEY.size
        at = memory.find(key, begin + home * _KEY.size, end)
        while at >= 0 and (at - begin) % _KEY.size:  # the end of one key and the beginning of the next
            at = memory.find(key, at + 1, end)
        return (at - begin) // _KEY.size if at >= 0 else None

    def put(self, entry: int, key: bytes) -> None:
        """Let *entry* have *key*."""
        at = self._keys_at + entry * _KEY.size
        self._memory[at : at + _KEY.size] = key

    def release(self) -> None:
        """Let the memory go."""
        self.open.release()
        self.opened_by.release()


class WorkerShare:
    """What one worker counts, and reads of the others."""

    def __init__(self, regions: list[_Region], own: _Region, turn: Numbers, secret: int) -> None:
        self.own = own
        self.others = [region for region in regions if region is not own]
        self.entries: dict[bytes, int] = {}  # where the own sources are
        self.take_turn = turn.next
        self.secret = secret

    def endpoint(self, slot: int, counter: int) -> EndpointShare:
        """What is counted of the endpoint that has *slot*.

        :param counter: the descriptor that numbers its connections, or datagrams (`make_counter`).
        """
        return EndpointShare(self, slot, counter)


class EndpointShare:
    """What one worker counts of one endpoint.

    :ivar numbers: those of its connections, or datagrams, at whichever worker.
    """

    def __init__(self, share: WorkerShare, slot: int, counter: int) -> None:
        self.slot = slot
        self.numbers = Numbers(counter)
        self._share = share
        self._counter = counter

    # Connections.

    def admits(self, opened: int, most: int) -> bool:
        """Whether one more connection can be open; if so, it is counted.

        :param opened: how many are open at this worker, with this one.
        :param most: how many may be at all workers.
        """
        self.set_open(opened)
        self._share.take_turn()
        if opened + self._open_elsewhere() <= most:
            return True
        self.set_open(opened - 1)
        return False

    def set_open(self, opened: int) -> None:
        """*opened* connections are open at this worker."""
        self._share.own.open[self.slot] = opened

    def _open_elsewhere(self) -> int:
        slot = self.slot
        return sum([region.open[slot] for region in self._share.others])

    # Sources.

    def admits_from(self, source: int, opened: int, most: int) -> bool:
        """Whether one more connection from *source* can be open; if so, it is counted.

        :param source: as `suite.config.limits.source_of` has it.
        :param opened: how many are open at this worker, with this one.
        :param most: how many may be at all workers.
        """
        self.set_open_from(source, opened)
        self._share.take_turn()
        # As a rule, all that are open are not too many for one source, and need not be told apart.
        if self._share.own.open[self.slot] + self._open_elsewhere() <= most:
            return True
        if opened + self._open_elsewhere_from(source) <= most:
            return True
        self.set_open_from(source, opened - 1)
        return False

    def set_open_from(self, source: int, opened: int) -> None:
        """*opened* connections from *source* are open at this worker."""
        self._set(self._key(source), self._home(source), opened)

    def _open_elsewhere_from(self, source: int) -> int:
        return self._count_elsewhere(self._key(source), self._home(source))

    def _key(self, source: int) -> bytes:
        return _KEY.pack(self.slot, 4, source) if source >= 0 else _KEY.pack(self.slot, 6, ~source)

    # What happens once.

    def claim(self, what: object) -> bool:
        """Whether this worker is the one at which *what* happens, of which there is one for all workers.

        If two want it at the same instant, neither may get it; a later one does. What a worker has got that
        has died since, another can get.

        :param what: it has the same hash in all workers, as they are forked from one process.
        """
        # The counter stands for the endpoint, because a slot may be another's later.
        place = hash((os.fstat(self._counter).st_ino, what))
        key, home = _KEY.pack(self.slot, _CLAIM, place & (2**64 - 1)), self._home(place)
        self._set(key, home, 1)
        self._share.take_turn()
        if not self._count_elsewhere(key, home):
            return True
        self._set(key, home, 0)
        return False

    # The tables.

    def _home(self, of: int) -> int:
        """The first entry that may have *of*; nobody outside can tell what shares them."""
        region = self._share.own
        return hash((self._share.secret, self.slot, of)) % (len(region.opened_by) - WINDOW)

    def _set(self, key: bytes, home: int, count: int) -> None:
        own, entries = self._share.own, self._share.entries
        entry = entries.get(key)
        if entry is None:
            entry = own.find(_FREE, home) if count else None
            if entry is not None:
                entries[key] = entry
                own.opened_by[entry] = count
                own.put(entry, key)
        elif count:
            own.opened_by[entry] = count
        else:
            del entries[key]
            own.put(entry, _FREE)

    def _count_elsewhere(self, key: bytes, home: int) -> int:
        found = [(region, region.find(key, home)) for region in self._share.others]
        return sum(region.opened_by[entry] for region, entry in found if entry is not None)
