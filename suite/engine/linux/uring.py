"""``io_uring`` (Linux, io_uring(7)): many messages in one call, without a compiler.

Rules: the kernel reads and fills the rings only during a system call of ours, which is the meaning of
``IORING_SETUP_DEFER_TASKRUN``, and only one thread makes these calls; bytes are received into buffers that
all sockets share, and sent from there; a send is done, or has failed, when the call that submits it returns.

The layouts and numbers are those of ``linux/io_uring.h``, the same for every 64-bit Linux.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import sys
from array import array
from contextlib import suppress
from typing import Any, Final

from cffi import FFI

ffi = FFI()
ffi.cdef("""
    struct params {
        uint32_t sq_entries, cq_entries, flags, idle_cpu, idle, features, wq_fd, reserved[3];
        struct { uint32_t head, tail, mask, entries, flags, dropped, array, reserved; uint64_t addr; } sq;
        struct { uint32_t head, tail, mask, entries, overflow, cqes, flags, reserved; uint64_t addr; } cq;
    };
    struct buffers { uint64_t ring; uint32_t entries; uint16_t group, flags; uint64_t reserved[3]; };
    struct cancel {
        uint64_t addr; int32_t fd; uint32_t flags; int64_t seconds, nanoseconds; uint64_t reserved[4];
    };
    long syscall(long, long, long, long, long, long, long);
""")

#: asm-generic/unistd.h; the same on every architecture.
SETUP, ENTER, REGISTER = 425, 426, 427

#: CQSIZE, SUBMIT_ALL, TASKRUN_FLAG, SINGLE_ISSUER, DEFER_TASKRUN
SETUP_FLAGS: Final = 1 << 3 | 1 << 7 | 1 << 9 | 1 << 12 | 1 << 13
#: IORING_FEAT_RECVSEND_BUNDLE: Linux 6.10 or later. The features used here exist since 6.1, but have not been
#: tested there.
NEEDED_FEATURES: Final = 1 << 14
GETEVENTS: Final = 1
OVERFLOW: Final = 1 << 1  # IORING_SQ_CQ_OVERFLOW
UNFINISHED: Final = OVERFLOW | 1 << 2  # and IORING_SQ_TASKRUN
EVENTFD_DISABLED: Final = 1 << 0
REGISTER_EVENTFD, REGISTER_BUFFERS, REGISTER_SYNC_CANCEL = 4, 22, 24
CANCEL_ALL_OF_ANY: Final = 1 << 0 | 1 << 2
OFFSET_RINGS, OFFSET_ENTRIES = 0, 0x10000000

# A submission queue entry: opcode, flags, ioprio, fd, offset, address, length, flags of the operation, user
# data, buffer group; the rest is not used here.
ENTRY: Final = struct.Struct("=BBHiQQIIQH22x")
OP_ASYNC_CANCEL, OP_SEND, OP_RECV = 14, 26, 27
BUFFER_SELECT, SKIP_SUCCESS = 1 << 5, 1 << 6
MULTISHOT: Final = 1 << 1

#: Flags of a completion: a buffer was used (its number is in the upper half); more completions will follow.
USED_BUFFER, MORE = 1 << 0, 1 << 1

# The kind of a completion, in the upper half of its user data; the lower half is the descriptor.
RECEIVED, SENT, CANCELLED = 0, 1, 2

#: Flags for a send that is finished when the call returns: either complete, or failed, with the number of
#: bytes sent until then.
AT_ONCE: Final = 0x40 | 0x100 | 0x4000  # MSG_DONTWAIT, MSG_WAITALL, MSG_NOSIGNAL

ENTRIES: Final = 512
COMPLETIONS: Final = 4096
#: The number of buffers, and of the entries for sends, which come first; the next entry is for all others.
BUFFERS: Final = 256
BUFFER_SIZE: Final = 16 * 1024


def _system_call() -> Any:
    # x86-64 only: on other architectures the kernel might see our stores in another order.
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 2**32:
        return None
    return getattr(ffi.dlopen(None), "syscall", None)


_CALL: Final = _system_call()


class NotAcceptedError(OSError):
    """The kernel has not accepted all entries; the others have been taken back.

    :ivar accepted: the number of entries accepted, the first ones.
    """

    accepted = 0


def _address(thing: Any) -> int:
    return int(ffi.cast("uintptr_t", thing))


class Ring:
    """A submission queue, a completion queue, and the buffers of the messages.

    :raises OSError: this system has no ``io_uring``, one that is too old, or does not permit its use.
    :ivar wakeup: an eventfd, readable when there may be completions; -1 once the ring is closed.
    :ivar plain: the flags of ordinary receptions, in the order of their buffers.
    :ivar received: the kind of ordinary receptions. Comparing whole views with these two is cheaper than
        converting their elements to numbers.
    """

    def __init__(self) -> None:
        if _CALL is None:
            raise OSError("this system has no io_uring")
        params: Any = ffi.new("struct params *")
        params.flags = SETUP_FLAGS
        params.cq_entries = COMPLETIONS
        self._fd = _check(_CALL(SETUP, ENTRIES, _address(params), 0, 0, 0, 0))
        self.wakeup = -1
        try:
            if not params.features & NEEDED_FEATURES:
                raise OSError("the kernel's io_uring is too old")
            self._map(params)
            self._provide_buffers()
            self.wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._register(REGISTER_EVENTFD, ffi.new("int *", self.wakeup), 1)
        except BaseException:
            self.close()
            raise

    def _map(self, params: Any) -> None:
        size = max(params.sq.array + 4 * params.sq_entries, params.cq.cqes + 16 * params.cq_entries)
        words = memoryview(mmap.mmap(self._fd, size, offset=OFFSET_RINGS)).cast("I")
        self._words = words
        self._submitted_at = params.sq.tail // 4
        self._taken_at = params.cq.head // 4
        self._completed_at = params.cq.tail // 4
        self._flags_at = params.sq.flags // 4
        self._silence_at = params.cq.flags // 4
        self._order = words[params.sq.array // 4 :][: params.sq_entries]
        self._completions = words[params.cq.cqes // 4 :][: 4 * params.cq_entries]
        self._submitted = words[self._submitted_at]
        self._taken = words[self._taken_at]
        self._entries = mmap.mmap(self._fd, 64 * params.sq_entries, offset=OFFSET_ENTRIES)
        for index in range(BUFFERS):
            ENTRY.pack_into(
                self._entries, 64 * index, OP_SEND, SKIP_SUCCESS, 0, -1, 0, 0, 0, AT_ONCE, SENT << 32, 0
            )
        entries = memoryview(self._entries).cast("I")[: 16 * BUFFERS]
        # Views of the fields that differ from one send to another.
        self._send_fd = entries[1::16]
        self._send_address = entries[4::16], entries[5::16]
        self._send_length = entries[6::16]
        self._send_user_data = entries[8::16]
        self._indices = memoryview(array("I", range(BUFFERS)))
        self._other = memoryview(array("I", [BUFFERS]))

    def _provide_buffers(self) -> None:
        # Not cleared, so that pages that no message has reached are never allocated.
        self._data = ffi.new_allocator(should_clear_after_alloc=False)("char[]", BUFFERS * BUFFER_SIZE)
        self._bytes = memoryview(ffi.buffer(self._data))
        start = _address(self._data)
        addresses = [start + index * BUFFER_SIZE for index in range(BUFFERS)]
        # Twice, so that a range that wraps around is still one slice.
        self._addresses = (
            memoryview(array("I", [address & 0xFFFFFFFF for address in addresses] * 2)),
            memoryview(array("I", [address >> 32 for address in addresses] * 2)),
        )
        self.plain = memoryview(
            array("I", [index << 16 | USED_BUFFER | MORE for index in range(BUFFERS)] * 2)
        )
        self.received = memoryview(array("I", [RECEIVED] * COMPLETIONS))
        # Buffers are used and given back in the same order, so these entries never change.
        self._buffers = mmap.mmap(-1, 16 * BUFFERS)
        for index, address in enumerate(addresses):
            struct.pack_into("=QIHH", self._buffers, 16 * index, address, BUFFER_SIZE, index, 0)
        self._given_at = memoryview(self._buffers).cast("H")[7:8]
        self._given_at[0] = self._given = BUFFERS
        registration: Any = ffi.new("struct buffers *")
        registration.ring = _address(ffi.from_buffer(self._buffers))
        registration.entries = BUFFERS
        self._register(REGISTER_BUFFERS, registration, 1)

    def _register(self, what: int, argument: Any, count: int) -> None:
        _check(_CALL(REGISTER, self._fd, what, _address(argument), count, 0, 0))

    def cancel_all(self) -> None:
        """Cancel all operations: from now on, nothing more is received.

        The completions that say so come at the next `enter`; the cancellations need none.
        """
        everything: Any = ffi.new("struct cancel *")
        everything.flags = CANCEL_ALL_OF_ANY
        everything.seconds = everything.nanoseconds = -1
        _CALL(REGISTER, self._fd, REGISTER_SYNC_CANCEL, _address(everything), 1, 0, 0)

    def close(self) -> None:
        """Cancel all operations, and release their sockets."""
        if self._fd < 0:
            return
        if self.wakeup >= 0:
            # Without this, the kernel would release the sockets some time after the ring is closed.
            self.cancel_all()
            with suppress(OSError):  # the ring is being closed: no error matters any more
                self.enter(0)
            os.close(self.wakeup)
        os.close(self._fd)
        self._fd = self.wakeup = -1

    # Submitting.

    def receive(self, fd: int) -> None:
        """Receive from the socket *fd*, message after message, until its end or `cancel`."""
        self._do(OP_RECV, BUFFER_SELECT, MULTISHOT, fd, 0, 0, 0, 0, RECEIVED << 32 | fd, 0)

    def cancel(self, fd: int) -> None:
        """Stop receiving at *fd*; its last completion tells when that has happened."""
        self._do(OP_ASYNC_CANCEL, SKIP_SUCCESS, 0, -1, 0, RECEIVED << 32 | fd, 0, 0, CANCELLED << 32 | fd, 0)

    def _do(self, *entry: int) -> None:
        ENTRY.pack_into(self._entries, 64 * BUFFERS, *entry)
        self._submit(self._other)
        done = _CALL(ENTER, self._fd, 1, 0, 0, 0, 0)
        if done < 1:
            raise self._take_back(done, 1)

    def _take_back(self, done: int, count: int) -> NotAcceptedError:
        """The kernel has accepted only *done* of *count* entries: remove the rest from the queue."""
        number = ffi.errno if done < 0 else errno.EAGAIN
        error = NotAcceptedError(number, os.strerror(number))
        error.accepted = max(done, 0)
        self._submitted = self._submitted - count + error.accepted & 0xFFFFFFFF
        self._words[self._submitted_at] = self._submitted
        return error

    def send_back(self, fds: memoryview, lengths: memoryview, first: int) -> None:
        """Send to each of *fds*, at the next `enter`, one of the buffers from *first* on."""
        count = len(fds)
        self._send_fd[:count] = fds
        self._send_user_data[:count] = fds
        self._send_length[:count] = lengths
        low, high = self._addresses
        self._send_address[0][:count] = low[first : first + count]
        self._send_address[1][:count] = high[first : first + count]
        self._submit(self._indices[:count])

    def _submit(self, indices: memoryview) -> None:
        count = len(indices)
        start = self._submitted % ENTRIES
        fit = min(count, ENTRIES - start)
        self._order[start : start + fit] = indices[:fit]
        if fit < count:
            self._order[: count - fit] = indices[fit:]
        self._submitted = self._submitted + count & 0xFFFFFFFF
        self._words[self._submitted_at] = self._submitted

    def enter(self, count: int) -> None:
        """Submit *count* entries, and let the kernel complete all operations that it can.

        :raises NotAcceptedError: the call has failed (io_uring_enter(2): ``EAGAIN``, ``EBUSY``, ``ENOMEM``),
            or the kernel has not accepted all entries.
        """
        done = _CALL(ENTER, self._fd, count, 0, GETEVENTS, 0, 0)
        if done < count and (count or ffi.errno != errno.EINTR):
            raise self._take_back(done, count)

    # Completions.

    def begin(self) -> None:
        """Disable eventfd wake-ups while we process completions."""
        self._words[self._silence_at] = EVENTFD_DISABLED

    def end(self) -> None:
        """Enable wake-ups again, and wake at once if completions are left."""
        self._words[self._silence_at] = 0
        if self.has_more():
            return  # the eventfd is still readable
        with suppress(BlockingIOError):
            os.eventfd_read(self.wakeup)
        # Later completions make the eventfd readable again; earlier ones are found here.
        if self.has_more():
            self.wake()

    def wake(self) -> None:
        """Make `wakeup` readable."""
        os.eventfd_write(self.wakeup, 1)

    def has_lost_some(self) -> bool:
        """Whether there are completions that only a call of `enter` can bring."""
        return bool(self._words[self._flags_at] & OVERFLOW)

    def has_more(self) -> bool:
        """Whether completions are left: the kernel completes a limited number at each `enter`."""
        words = self._words
        return words[self._completed_at] != self._taken or bool(words[self._flags_at] & UNFINISHED)

    def completed(self) -> int:
        """The number of completions to process."""
        count: int = self._words[self._completed_at] - self._taken & 0xFFFFFFFF
        return count

    def completions(self, count: int) -> memoryview:
        """The next *count* completions, four words each: descriptor, kind, result, flags."""
        start = self._taken % COMPLETIONS
        if start + count <= COMPLETIONS:
            return self._completions[4 * start : 4 * (start + count)]
        first = bytes(self._completions[4 * start :])
        return memoryview(first + bytes(self._completions[: 4 * (start + count - COMPLETIONS)])).cast("I")

    def take(self, count: int) -> None:
        """Mark the next *count* completions as processed."""
        self._taken = self._taken + count & 0xFFFFFFFF
        self._words[self._taken_at] = self._taken

    def buffer(self, index: int, length: int) -> bytes:
        """The first *length* bytes of the buffer *index*."""
        start = index * BUFFER_SIZE
        return bytes(self._bytes[start : start + length])

    def give(self, count: int) -> None:
        """Let the kernel use the next *count* buffers again."""
        self._given = self._given + count & 0xFFFF
        self._given_at[0] = self._given


def _check(result: Any) -> int:
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return int(result)
