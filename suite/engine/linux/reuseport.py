"""Which socket of a ``SO_REUSEPORT`` group a datagram goes to: by its source alone.

Rules: the datagrams of an IPv4 address, or of an IPv6 network of 64 bits, go to one socket, because what
limits a source has to see all of them. Which one depends on numbers that are drawn anew in each process, so
that nobody can choose to meet somebody else there, or to flood one socket only. Without this, the kernel
hashes both addresses and both ports (``udp_ehashfn``), and so it does where a socket of the group is missing.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
from array import array
from collections.abc import Container
from typing import Final

_SO_ATTACH_REUSEPORT_CBPF: Final = 51  # asm-generic/socket.h
_SO_DETACH_REUSEPORT_BPF: Final = 68

#: Offsets beyond this are the IP header's; others would be the payload's (linux/filter.h, SKF_NET_OFF).
_IP: Final = 0x100000000 - 0x100000

# Instructions of classic BPF (linux/bpf_common.h): what they do with the registers A and X.
_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD = 0x30, 0x28, 0x20  # A, from a fixed offset
_LOAD_HALF_AT_X: Final = 0x48  # A, from an offset to which X is added
_LOAD_HEADER_LENGTH: Final = 0xB1  # X, from the byte that an IPv4 header begins with
_A_TO_X: Final = 0x07
_SHIFT_RIGHT, _MULTIPLY, _XOR_X = 0x74, 0x24, 0xAC
_JUMP_IF_EQUAL: Final = 0x15
_RETURN_A: Final = 0x16

#: Odd numbers to multiply by, so that nobody knows what has the same hash.
_FACTORS: Final = tuple(secrets.randbits(32) | 1 for _ in range(3))

Instruction = tuple[int, int, int, int]  # its code; how many to skip if so, and if not; a number


def steer_by_source(sock: socket.socket, sockets: int, *, loopback_by_port: Container[int] = ()) -> None:
    """Let the datagrams of a source go to one socket of the group that *sock* is in.

    :param sock: a bound UDP socket; what is attached to it holds for its whole group.
    :param sockets: how many are in the group.
    :param loopback_by_port: versions of IP, 4 and 6, of which loopback addresses are no sources: their
        datagrams are hashed by the port that they come from.
    :raises OSError: the system does not permit it.
    """
    program = _program(sockets, loopback_by_port)
    packed = array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    attached = struct.pack("HP", len(program), packed.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, attached)


def steer_by_connection(sock: socket.socket) -> None:
    """Let the kernel choose by addresses and ports, as it does by itself, in the group that *sock* is in.

    :raises OSError: the system does not permit it.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:  # nothing is attached
            raise


def _program(sockets: int, loopback_by_port: Container[int]) -> list[Instruction]:
    """What gives a datagram the index of its socket: they count from 0, in the order of their bind(2)."""
    first, second, third = ((_MULTIPLY, 0, 0, factor) for factor in _FACTORS)
    # The hash of A: its high bits to the low ones, and all to the high ones; then the first 16 of them, times
    # the number of sockets, without the last 16 bits.
    choose = [
        first,
        (_A_TO_X, 0, 0, 0),
        (_SHIFT_RIGHT, 0, 0, 15),
        (_XOR_X, 0, 0, 0),
        second,
        (_SHIFT_RIGHT, 0, 0, 16),
        (_MULTIPLY, 0, 0, sockets),
        (_SHIFT_RIGHT, 0, 0, 16),
        (_RETURN_A, 0, 0, 0),
    ]
    four = [(_LOAD_WORD, 0, 0, _IP + 12), *choose]
    if 4 in loopback_by_port:
        by_port = [(_LOAD_HEADER_LENGTH, 0, 0, _IP), (_LOAD_HALF_AT_X, 0, 0, _IP), *choose]
        four = [(_LOAD_BYTE, 0, 0, _IP + 12), (_JUMP_IF_EQUAL, 0, len(by_port), 127), *by_port, *four]
    six = [
        (_LOAD_WORD, 0, 0, _IP + 8),
        third,
        (_A_TO_X, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _IP + 12),
        (_XOR_X, 0, 0, 0),
        *choose,
    ]
    if 6 in loopback_by_port:
        # A header before that of UDP would be taken for its port: that is as good to spread them by.
        by_port = [(_LOAD_HALF, 0, 0, _IP + 40), *choose]
        for offset, word in ((20, 1), (16, 0), (12, 0), (8, 0)):  # ::1, from its end
            by_port = [(_LOAD_WORD, 0, 0, _IP + offset), (_JUMP_IF_EQUAL, 0, len(by_port), word), *by_port]
        six = [*by_port, *six]
    version = [(_LOAD_BYTE, 0, 0, _IP), (_SHIFT_RIGHT, 0, 0, 4), (_JUMP_IF_EQUAL, 0, len(four), 4)]
    return [*version, *four, *six]
