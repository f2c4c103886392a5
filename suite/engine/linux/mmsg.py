"""``recvmmsg`` and ``sendmmsg`` (Linux, recvmmsg(2)): many datagrams in one call, without a compiler.

Rules: the buffers are made once; messages are sent back from the buffers that they were received into; the
kernel's results are copied for a whole batch at once, through views on the C arrays. The declarations are
those of 64-bit little-endian Linux; elsewhere `MultipleMessages.available` is false.

A message is a datagram, or a *train* (GSO and GRO, generic segmentation and receive offload): datagrams of
one size (the last one may be shorter) that a sender passed to one call (``UDP_SEGMENT``, as QUIC stacks do),
or that a network card has merged. With ``UDP_GRO`` (udp(7), Linux 5.0) a train is received as one message and
sent back as one, and the kernel splits it into its datagrams again.

A socket that reports destinations (`suite.engine.destination`) answers from them. Nearly all its messages
have the same one, so a reply's control messages are written only where they differ from the ones that the
last message in the same place had.
"""

from __future__ import annotations

import errno
import socket
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import accumulate
from struct import Struct
from typing import Any, Final, NamedTuple

from cffi import FFI

from suite.engine.destination import ControlMessage, destination

ffi = FFI()
ffi.cdef("""
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; unsigned int msg_namelen;
        struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen;
        int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    struct train { size_t cmsg_len; int cmsg_level, cmsg_type; uint32_t datagram, unused; };
    int recvmmsg(int, struct mmsghdr *, unsigned int, int, void *);
    int sendmmsg(int, struct mmsghdr *, unsigned int, int);
""")

#: The size of a packed address (``sockaddr_in``, ``sockaddr_in6``).
ADDRESS_SIZE: Final = {socket.AF_INET: 16, socket.AF_INET6: 28}

#: linux/udp.h; Python has no names for them.
UDP_SEGMENT, UDP_GRO = 103, 104

#: Space for the control message with a train's datagram size.
TRAIN_SIZE: Final = ffi.sizeof("struct train")

#: The control message that sends a train: ``cmsg_len``, level, type, size of a datagram, padding.
_SEGMENT: Final = Struct("=QiiH6x")
_SEGMENT_LENGTH: Final = 18

#: ``struct cmsghdr``: length, level, type. What follows is padded to whole 8 bytes.
_HEADER: Final = Struct("=Qii")

#: Space for the control message with a datagram's destination, by the family of the socket; a socket for both
#: families also receives the one of the other.
_DESTINATION_SIZE: Final = {socket.AF_INET: 32, socket.AF_INET6: 40}

#: Maximum number of combinations of destination, interface and size of a train that are remembered.
_REMEMBERED_REPLIES: Final = 1024

#: What a call returns where a seccomp filter forbids it, or the kernel does not have it.
_FORBIDDEN: Final = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES})

_WORD: Final = 4

_POINTER: Final = ffi.typeof("uintptr_t")


def _library() -> Any:
    if sys.platform != "linux" or sys.maxsize < 2**32 or sys.byteorder != "little":
        return None
    library = ffi.dlopen(None)
    return library if hasattr(library, "recvmmsg") and hasattr(library, "sendmmsg") else None


_LIBRARY: Final = _library()


def _words(things: Any, size: int, offset: int) -> memoryview:
    """A view of the 32-bit word at *offset* in each of *things*, which are *size* bytes each."""
    return memoryview(ffi.buffer(things)).cast("B").cast("I")[offset // _WORD :: size // _WORD]


def _each(things: Any, kind: str, *member: str) -> memoryview:
    """A view of one *member* of all *things*, an array of *kind*, as 32-bit words, which are large enough."""
    return _words(things, *_layout(kind, *member))


@cache
def _layout(kind: str, *member: str) -> tuple[int, int]:
    """The size of a *kind*, and the offset of *member* in it."""
    return ffi.sizeof(kind), ffi.offsetof(kind, *member)


@cache
def _splitters(size: int, most: int) -> list[Struct]:
    """For each number of parts up to *most*, what splits bytes into so many of *size* bytes each."""
    return [Struct(f"{size}s" * count) for count in range(most + 1)]


class _Reply(NamedTuple):
    """How a message is answered.

    :ivar many: whether it was sent to broadcast or multicast.
    :ivar control: the control messages of the reply.
    :ivar datagram: the size of a datagram, if the message is a train.
    """

    many: bool
    control: bytes
    datagram: int


class MultipleMessages:
    """Buffers for a batch of messages and their source addresses.

    :param count: the maximum number of messages.
    :param size: the maximum size of a message, in bytes.
    :param family: the address family of the socket, ``AF_INET`` or ``AF_INET6``.
    :param destinations: whether the socket reports destinations.
    :ivar any_trains: whether there may be trains among the messages.
    :ivar any_to_many: whether messages may have been sent to broadcast or multicast.
    """

    @staticmethod
    def available() -> bool:
        """Whether this system has the two calls, and allows them."""
        if _LIBRARY is None:
            return False
        # Without a socket they fail, but a filter answers first.
        for call in (
            lambda: _LIBRARY.recvmmsg(-1, ffi.NULL, 0, 0, ffi.NULL),
            lambda: _LIBRARY.sendmmsg(-1, ffi.NULL, 0, 0),
        ):
            if call() < 0 and ffi.errno in _FORBIDDEN:
                return False
        return True

    def __init__(self, count: int, size: int, family: int, destinations: bool = False) -> None:
        self._count = count
        self._size = size
        self._address_size = ADDRESS_SIZE[socket.AddressFamily(family)]
        self._destinations = destinations
        # In front of a train's size in what is sent, behind it in what is received.
        self._destination_size = _DESTINATION_SIZE[socket.AddressFamily(family)] if destinations else 0
        # Not cleared, so that pages that no datagram has reached are never allocated.
        self._data = ffi.new_allocator(should_clear_after_alloc=False)("char[]", count * size)
        self._addresses = ffi.new("char[]", count * self._address_size)
        room = TRAIN_SIZE + (sum(_DESTINATION_SIZE.values()) if destinations else 0)
        reply_room = self._destination_size + TRAIN_SIZE
        # The headers point to their data, and to their control messages.
        self._received, self._receive_parts, self._received_controls = self._headers(size, room)
        self._sent, self._send_parts, self._sent_controls = self._headers(0, reply_room)
        # Views of one number of every message.
        self._received_length = _each(self._received, "struct mmsghdr", "msg_len")
        self._received_control = _each(self._received, "struct mmsghdr", "msg_hdr", "msg_controllen")
        self._length = _each(self._send_parts, "struct iovec", "iov_len")
        self._control = _each(self._sent, "struct mmsghdr", "msg_hdr", "msg_controllen")
        at = ffi.offsetof("struct train", "datagram")
        self._received_datagram = _words(self._received_controls, room, at)
        self._datagram = _words(self._sent_controls, reply_room, self._destination_size + at)
        self._room = memoryview(array("I", [room] * count))
        self._nothing = memoryview(array("I", [0] * count))
        self._address_bytes = ffi.buffer(self._addresses)
        # The fastest way to split bytes into many parts.
        self._split_addresses = _splitters(self._address_size, count)
        self.any_trains = False
        self.any_to_many = False
        # What `totals` has counted, while the messages are the same; None: nothing.
        self._totals: list[int] | None = None
        if destinations:
            self._control_bytes = ffi.buffer(self._received_controls)
            self._split_controls = _splitters(room, count)
            # The control messages that the replies are written for, and what follows from them.
            self._answered: tuple[bytes, ...] = (b"",) * count
            self._to_many = [False] * count
            self._replies: dict[bytes, _Reply] = {}
        else:
            sent = ffi.buffer(self._sent_controls)
            sent[:] = _SEGMENT.pack(_SEGMENT_LENGTH, socket.IPPROTO_UDP, UDP_SEGMENT, 0) * count

    def _headers(self, size: int, room: int) -> tuple[Any, Any, Any]:
        count = self._count
        headers = ffi.new("struct mmsghdr[]", count)
        parts = ffi.new("struct iovec[]", count)
        controls = ffi.new("char[]", count * room)
        # A member of all of them at a time: a suite may have thousands of ports.
        header = partial(_each, headers, "struct mmsghdr", "msg_hdr")
        header("msg_namelen")[:] = array("I", [self._address_size]) * count
        header("msg_iovlen")[:] = array("I", [1]) * count
        _each(parts, "struct iovec", "iov_len")[:] = array("I", [size]) * count
        for things, kind, member, first, step in (
            (headers, "struct mmsghdr", ("msg_hdr", "msg_name"), self._addresses, self._address_size),
            (headers, "struct mmsghdr", ("msg_hdr", "msg_iov"), parts, _layout("struct iovec", "iov_len")[0]),
            (headers, "struct mmsghdr", ("msg_hdr", "msg_control"), controls, room),
            (parts, "struct iovec", ("iov_base",), self._data, self._size),
        ):
            whole, offset = _layout(kind, *member)
            address = int(ffi.cast(_POINTER, first))
            pointers = memoryview(ffi.buffer(things)).cast("B").cast("Q")[offset // 8 :: whole // 8]
            pointers[:] = array("Q", range(address, address + count * step, step))
        return headers, parts, controls

    def receive(self, fd: int, most: int) -> int:
        """Receive the messages waiting at the socket *fd*, at most *most*; return how many there were."""
        self._received_control[:most] = self._room[:most]
        count: int = _LIBRARY.recvmmsg(fd, self._received, most, socket.MSG_DONTWAIT, ffi.NULL)
        if count <= 0:
            return 0  # none, or an ICMP error about an earlier reply
        lengths = self._received_length[:count]
        if self._destinations:
            self._address_replies(count)
            if self.any_trains and lengths != self._length[:count]:
                self._totals = None
            self._length[:count] = lengths
            return count
        controls = self._received_control[:count]
        trains = controls != self._nothing[:count]
        if not (trains or self.any_trains):
            self._length[:count] = lengths
            return count
        # Trains that follow each other are mostly alike: then nothing has to be copied, or counted again.
        sizes = self._received_datagram[:count]
        if (
            lengths != self._length[:count]
            or controls != self._control[:count]
            or sizes != self._datagram[:count]
        ):
            self._length[:count], self._control[:count], self._datagram[:count] = lengths, controls, sizes
            self._totals = None
            # Places that this batch does not reach are cleared by a later one.
            self.any_trains = trains or self._control != self._nothing
        return count

    def sources(self, count: int) -> tuple[bytes, ...]:
        """The packed source addresses of the first *count* messages."""
        return self._split_addresses[count].unpack_from(self._address_bytes)

    def size(self, start: int, stop: int) -> int:
        """The bytes in the messages from *start* to before *stop*."""
        return self._length[start] if stop - start == 1 else sum(self._length[start:stop])

    def message(self, index: int) -> bytes:
        """The message at *index*."""
        return bytes(ffi.buffer(self._data + index * self._size, self._length[index]))

    # Destinations.

    def _address_replies(self, count: int) -> None:
        controls = self._split_controls[count].unpack_from(self._control_bytes)
        if controls == self._answered[:count]:
            return
        for index, control in enumerate(controls):
            if control != self._answered[index]:
                self._address_reply(index, control[: self._received_control[index]])
        self._answered = controls + self._answered[count:]
        self._totals = None
        self.any_to_many = any(self._to_many)
        self.any_trains = any(length > self._destination_size for length in self._control)

    def _address_reply(self, index: int, control: bytes) -> None:
        reply = self._replies.get(control)
        if reply is None:
            if len(self._replies) >= _REMEMBERED_REPLIES:
                self._replies.clear()
            reply = self._replies[control] = _reply_to(control)
        length = len(reply.control)
        ffi.memmove(self._sent[index].msg_hdr.msg_control, reply.control, length)
        self._control[index] = length
        self._datagram[index] = reply.datagram
        self._to_many[index] = reply.many

    def to_many(self, index: int) -> bool:
        """Whether the message at *index* was sent to broadcast or multicast."""
        return self._destinations and self._to_many[index]

    def send(self, fd: int, start: int, stop: int) -> int:
        """Send the messages from *start* to *stop* back; return the number sent, or minus the ``errno``."""
        sent: int = _LIBRARY.sendmmsg(fd, self._sent + start, stop - start, socket.MSG_DONTWAIT)
        return sent if sent >= 0 else -ffi.errno

    # Trains.

    def is_train(self, index: int) -> bool:
        """Whether the message at *index* is a train."""
        return self._control[index] > self._destination_size

    def count_datagrams(self, index: int) -> int:
        """The number of datagrams in the message at *index*."""
        return -(-self._length[index] // self._datagram[index]) if self.is_train(index) else 1

    def totals(self, count: int) -> list[int]:
        """The number of datagrams in the first *n* of *count* messages, for each *n* from 0 on."""
        totals = self._totals
        if totals is None or len(totals) <= count:
            totals = self._totals = [0, *accumulate(map(self.count_datagrams, range(count)))]
        return totals

    def keep_first(self, index: int, count: int) -> None:
        """Cut the train at *index* down to its first *count* datagrams, one or more."""
        self._length[index] = min(self._length[index], count * self._datagram[index])
        self._totals = None

    def datagrams(self, index: int) -> list[tuple[int, int]]:
        """The offset and length in bytes of each datagram in the message at *index*."""
        length = self._length[index]
        step = self._datagram[index] if self.is_train(index) else length
        return [(start, min(step, length - start)) for start in range(0, length or 1, step or 1)]

    def send_datagram(self, fd: int, index: int, start: int, length: int) -> int:
        """Send back one datagram of the message at *index*; return 1, or minus the ``errno``."""
        part, whole, control = self._send_parts[index], self._length[index], self._control[index]
        part.iov_base += start
        part.iov_len, self._control[index] = length, min(control, self._destination_size)
        sent = self.send(fd, index, index + 1)
        part.iov_base -= start
        part.iov_len, self._control[index] = whole, control
        return sent


def accept_trains(sock: socket.socket, accept: bool = True) -> bool:
    """Let *sock* receive trains from now on, or no longer, if the kernel supports them.

    Returns whether it may receive trains now.
    """
    with suppress(OSError):
        if sys.platform == "linux":  # elsewhere the number may mean another option
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, int(accept))
            return accept
    return False


def split_train(message: bytes, control: Iterable[ControlMessage]) -> list[bytes]:
    """The datagrams in a *message* with these *control* messages."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
            size = int.from_bytes(data[:4], sys.byteorder)
            return [message[start : start + size] for start in range(0, len(message), size)]
    return [message]


def _split(control: bytes) -> Iterator[ControlMessage]:
    """The messages in *control*, as the kernel writes them (cmsg(3))."""
    at = 0
    while at + _HEADER.size <= len(control):
        length, level, kind = _HEADER.unpack_from(control, at)
        yield level, kind, control[at + _HEADER.size : at + length]
        at += -(-max(length, _HEADER.size) // 8) * 8


def _joined(level: int, kind: int, data: bytes) -> bytes:
    length = _HEADER.size + len(data)
    return (_HEADER.pack(length, level, kind) + data).ljust(-(-length // 8) * 8, b"\0")


def _reply_to(control: bytes) -> _Reply:
    """How a message with these *control* messages is answered."""
    messages = list(_split(control))
    many, reply = destination(messages)
    answer = _joined(*reply) if reply is not None else b""
    for level, kind, data in messages:
        if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
            size = int.from_bytes(data[:4], "little")
            segment = _SEGMENT.pack(_SEGMENT_LENGTH, socket.IPPROTO_UDP, UDP_SEGMENT, size)
            return _Reply(many, answer + segment, size)
    return _Reply(many, answer, 0)
