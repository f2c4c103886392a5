"""``python tests/forbidding.py CALL,… COMMAND …``: run a command whose system calls CALL fail with ENOSYS.

As a seccomp filter does (seccomp(2)): Docker's default profile, or ``SystemCallFilter=`` in a systemd unit.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final

#: The numbers of system calls, by machine (asm/unistd.h).
NUMBERS: Final = {
    "x86_64": {"recvmmsg": 299, "sendmmsg": 307, "prlimit64": 302, "memfd_create": 319},
    "aarch64": {"recvmmsg": 243, "sendmmsg": 269, "prlimit64": 261, "memfd_create": 279},
}

#: linux/prctl.h, linux/seccomp.h and linux/filter.h.
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def forbid(*calls: str) -> None:
    """Make the system calls named *calls* fail in this process from now on.

    :raises OSError: the kernel does not do that.
    """
    numbers = [NUMBERS[platform.machine()][call] for call in calls]
    instructions = struct.pack("=HBBI", _LOAD, 0, 0, 0)  # the number of the call
    for number in numbers:
        instructions += struct.pack("=HBBI", _JUMP_IF_EQUAL, 0, 1, number)
        instructions += struct.pack("=HBBI", _RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    instructions += struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW)
    program = _Program(len(instructions) // 8, instructions)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0),
    ):
        if prctl(*arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    forbid(*sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
