"""``recvmmsg`` and ``sendmmsg`` (Linux, recvmmsg(2)): many datagrams in one call, without a compiler.

Rules: the buffers are made once; messages are sent back from the buffers that they were received into; the
kernel's results are copied for a whole batch at once, through views on the C arrays. The declarations are
those of 64-bit little-endian Linux; elsewhere `MultipleMessages.available` is false.

A message is a datagram, or a *train* (GSO and GRO, generic segmentation and receive offload): datagrams of
one size (the last one may be shorter) that a sender passed to one call (``UDP_SEGMENT``, as QUIC stacks do),
or that a network card has merged. With ``UDP_GRO`` (udp(7), Linux 5.0) a train is received as one message and
sent back as one, and the kernel splits it into its datagrams again.
"""

from __future__ import annotations

import socket
import sys
from array import array
from contextlib import suppress
from struct import Struct
from typing import Any, Final

from cffi import FFI

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

#: Space for the control message with a train's datagram size, and its `cmsg_len` on send.
TRAIN_SIZE: Final = ffi.sizeof("struct train")
TRAIN_LENGTH: Final = ffi.offsetof("struct train", "datagram") + 2

_WORD: Final = 4


def _library() -> Any:
    if sys.platform != "linux" or sys.maxsize < 2**32 or sys.byteorder != "little":
        return None
    library = ffi.dlopen(None)
    return library if hasattr(library, "recvmmsg") and hasattr(library, "sendmmsg") else None


_LIBRARY: Final = _library()


def _each(things: Any, kind: str, *member: str) -> memoryview:
    """A view of one *member* of all *things*, an array of *kind*, as 32-bit words, which are large enough."""
    words = memoryview(ffi.buffer(things)).cast("B").cast("I")
    return words[ffi.offsetof(kind, *member) // _WORD :: ffi.sizeof(kind) // _WORD]


class MultipleMessages:
    """Buffers for a batch of messages and their source addresses.

    :param count: the maximum number of messages.
    :param size: the maximum size of a message, in bytes.
    :param family: the address family of the socket, ``AF_INET`` or ``AF_INET6``.
    """

    @staticmethod
    def available() -> bool:
        """Whether this system has the two calls."""
        return _LIBRARY is not None

    def __init__(self, count: int, size: int, family: int) -> None:
        self._count = count
        self._size = size
        self._address_size = ADDRESS_SIZE[socket.AddressFamily(family)]
        # Not cleared, so that pages that no datagram has reached are never allocated.
        self._data = ffi.new_allocator(should_clear_after_alloc=False)("char[]", count * size)
        self._addresses = ffi.new("char[]", count * self._address_size)
        # The headers point to their data, and to their control messages about trains.
        self._received, self._receive_parts, self._trains = self._headers(size)
        self._sent, self._send_parts, self._trains_to_send = self._headers(0)
        for index in range(count):
            train = self._trains_to_send[index]
            train.cmsg_len, train.cmsg_level, train.cmsg_type = TRAIN_LENGTH, socket.IPPROTO_UDP, UDP_SEGMENT
        # Views of one number of every message.
        self._received_length = _each(self._received, "struct mmsghdr", "msg_len")
        self._received_control = _each(self._received, "struct mmsghdr", "msg_hdr", "msg_controllen")
        self._received_datagram = _each(self._trains, "struct train", "datagram")
        self._length = _each(self._send_parts, "struct iovec", "iov_len")
        self._control = _each(self._sent, "struct mmsghdr", "msg_hdr", "msg_controllen")  # 0: not a train
        self._datagram = _each(self._trains_to_send, "struct train", "datagram")
        self._room = memoryview(array("I", [TRAIN_SIZE] * count))
        self._address_bytes = ffi.buffer(self._addresses)
        # The fastest way to split bytes into many parts.
        self._split_addresses = [Struct(f"{self._address_size}s" * n) for n in range(count + 1)]

    def _headers(self, size: int) -> tuple[Any, Any, Any]:
        headers = ffi.new("struct mmsghdr[]", self._count)
        parts = ffi.new("struct iovec[]", self._count)
        trains = ffi.new("struct train[]", self._count)
        for index in range(self._count):
            parts[index].iov_base = self._data + index * self._size
            parts[index].iov_len = size
            header = headers[index].msg_hdr
            header.msg_name = self._addresses + index * self._address_size
            header.msg_namelen = self._address_size
            header.msg_iov = parts + index
            header.msg_iovlen = 1
            header.msg_control = trains + index
        return headers, parts, trains

    def receive(self, fd: int, most: int) -> int:
        """Receive the messages waiting at the socket *fd*, at most *most*; return how many there were."""
        self._received_control[:most] = self._room[:most]
        count: int = _LIBRARY.recvmmsg(fd, self._received, most, socket.MSG_DONTWAIT, ffi.NULL)
        if count <= 0:
            return 0  # none, or an ICMP error about an earlier reply
        self._length[:count] = self._received_length[:count]
        self._control[:count] = self._received_control[:count]
        self._datagram[:count] = self._received_datagram[:count]
        return count

    def sources(self, count: int) -> tuple[bytes, ...]:
        """The packed source addresses of the first *count* messages."""
        return self._split_addresses[count].unpack_from(self._address_bytes)

    def send(self, fd: int, start: int, stop: int) -> int:
        """Send the messages from *start* to *stop* back; return the number sent, or minus the ``errno``."""
        sent: int = _LIBRARY.sendmmsg(fd, self._sent + start, stop - start, socket.MSG_DONTWAIT)
        return sent if sent >= 0 else -ffi.errno

    # Trains.

    def is_train(self, index: int) -> bool:
        """Whether the message at *index* is a train."""
        return bool(self._control[index])

    def datagrams(self, index: int) -> list[tuple[int, int]]:
        """The offset and length in bytes of each datagram in the message at *index*."""
        length = self._length[index]
        step = self._datagram[index] if self.is_train(index) else length
        return [(start, min(step, length - start)) for start in range(0, length or 1, step or 1)]

    def send_datagram(self, fd: int, index: int, start: int, length: int) -> int:
        """Send back one datagram of the message at *index*; return 1, or minus the ``errno``."""
        part, whole, control = self._send_parts[index], self._length[index], self._control[index]
        part.iov_base += start
        part.iov_len, self._control[index] = length, 0
        sent = self.send(fd, index, index + 1)
        part.iov_base -= start
        part.iov_len, self._control[index] = whole, control
        return sent


def accept_trains(sock: socket.socket) -> None:
    """Let *sock* receive trains from now on, if the kernel supports them."""
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
