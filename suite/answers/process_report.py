"""What a report says about the process at the other end of a UNIX socket.

Rules: ids are those of the moment when it connected (unix(7), ``SO_PEERCRED``), and are not looked up as
names, which could take long; the command is read from ``/proc`` now, when another process may have the pid.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from suite.system import credentials


def process_report(sock: Any) -> dict[str, object]:
    """The process at the other end of *sock*; what the system does not tell is None."""
    found: dict[str, object] = dict.fromkeys(("pid", "uid", "gid", "groups", "command"))
    with suppress(OSError, AttributeError):  # it is gone, or this system does not tell
        pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        found |= {"pid": pid or None, "uid": uid, "gid": gid}  # 0: it is in another pid namespace
        if pid:
            found["command"] = _command(pid)
        found["groups"] = sorted(credentials(sock)[1])
    return found


def _command(pid: int) -> str | None:
    """The name of the command of *pid* (proc_pid_comm(5)), which is read without waiting for that process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n").decode("utf-8", "backslashreplace")
    return None
