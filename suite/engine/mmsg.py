"""``recvmmsg`` and ``sendmmsg`` (Linux, recvmmsg(2)): many datagrams in one call, with no compiler.

Rules: the buffers are made once; what was received is sent back from the same bytes; lengths are
copied for a whole batch at once, through views on the C arrays. The declarations are those of 64-bit
Linux; elsewhere `MultipleMessages.available` says no.
"""

from __future__ import annotations

import socket
import sys
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
    int recvmmsg(int, struct mmsghdr *, unsigned int, int, void *);
    int sendmmsg(int, struct mmsghdr *, unsigned int, int);
""")

#: The size of a packed address (``sockaddr_in``, ``sockaddr_in6``).
ADDRESS_SIZE: Final = {socket.AF_INET: 16, socket.AF_INET6: 28}

_WORD: Final = 4
_LOW_WORD: Final = 0 if sys.byteorder == "little" else 1


def _library() -> Any:
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return None
    library = ffi.dlopen(None)
    return library if hasattr(library, "recvmmsg") and hasattr(library, "sendmmsg") else None


_LIBRARY: Final = _library()


class MultipleMessages:
    """Room for some datagrams and where they came from.

    :param count: how many at the most.
    :param size: of the largest one, in bytes.
    :param family: of the socket, ``AF_INET`` or ``AF_INET6``.
    """

    @staticmethod
    def available() -> bool:
        """Whether this system has the two calls."""
        return _LIBRARY is not None

    def __init__(self, count: int, size: int, family: int) -> None:
        self._count = count
        self._address_size = ADDRESS_SIZE[socket.AddressFamily(family)]
        # Not cleared: memory that no datagram has ever filled should not be real.
        self._data = ffi.new_allocator(should_clear_after_alloc=False)("char[]", count * size)
        self._addresses = ffi.new("char[]", count * self._address_size)
        self._received, self._receive_parts = self._headers(size)  # the headers point at their parts
        self._sent, send_parts = self._headers(0)
        # Every entry's length, seen as one array. Both are 32 bits: no datagram needs the upper half.
        header = ffi.sizeof("struct mmsghdr") // _WORD
        length = ffi.offsetof("struct mmsghdr", "msg_len") // _WORD
        part = ffi.sizeof("struct iovec") // _WORD
        part_length = ffi.offsetof("struct iovec", "iov_len") // _WORD + _LOW_WORD
        self._lengths_received = memoryview(ffi.buffer(self._received)).cast("B").cast("I")[length::header]
        self._lengths_to_send = memoryview(ffi.buffer(send_parts)).cast("B").cast("I")[part_length::part]
        self._send_parts = send_parts
        self._address_bytes = ffi.buffer(self._addresses)
        # The quickest way to cut bytes into many parts.
        self._split_addresses = [Struct(f"{self._address_size}s" * n) for n in range(count + 1)]

    def _headers(self, size: int) -> tuple[Any, Any]:
        headers = ffi.new("struct mmsghdr[]", self._count)
        parts = ffi.new("struct iovec[]", self._count)
        stride = len(self._data) // self._count
        for index in range(self._count):
            parts[index].iov_base = self._data + index * stride
            parts[index].iov_len = size
            headers[index].msg_hdr.msg_name = self._addresses + index * self._address_size
            headers[index].msg_hdr.msg_namelen = self._address_size
            headers[index].msg_hdr.msg_iov = parts + index
            headers[index].msg_hdr.msg_iovlen = 1
        return headers, parts

    def receive(self, fd: int, most: int) -> int:
        """Take what there is from the socket *fd*, *most* at the most; return how many datagrams that is."""
        count: int = _LIBRARY.recvmmsg(fd, self._received, most, socket.MSG_DONTWAIT, ffi.NULL)
        if count <= 0:
            return 0  # none, or an ICMP error about an earlier reply
        self._lengths_to_send[:count] = self._lengths_received[:count]
        return count

    def sources(self, count: int) -> tuple[bytes, ...]:
        """Where each of the first *count* datagrams came from, as packed addresses."""
        return self._split_addresses[count].unpack_from(self._address_bytes)

    def send(self, fd: int, start: int, stop: int) -> int:
        """Send the datagrams from *start* to *stop* back; return how many, or minus the ``errno``."""
        sent: int = _LIBRARY.sendmmsg(fd, self._sent + start, stop - start, socket.MSG_DONTWAIT)
        return sent if sent >= 0 else -ffi.errno
