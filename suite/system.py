"""The suite's dealings with the operating system: limits, process identities, the service manager.

Rules: no Twisted; environment variables meant for this process alone are removed, so that no child process
acts on them; after a change of identity, a check makes sure that the old one cannot be regained.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from suite.errors import PrivilegeError
from suite.text import one_line

if sys.platform != "win32":  # the suite runs on Windows too, without these features
    import grp
    import pwd
    import resource

#: User and group ids are 32 bits, of which -1 means "leave it as it is" (setresuid(2)).
MAX_ID: Final = 2**32 - 2

#: Seconds that the first READY=1 may wait for room in the service manager's queue: a manager that never gets
#: it ends the service.
MANAGER_PATIENCE: Final = 1.0

#: Seconds that a later change of state may wait; all connections wait with it.
SERVING_PATIENCE: Final = 0.01


#: As many descriptors as select(2) can watch: FD_SETSIZE, of glibc, musl, and the BSDs.
SELECTABLE: Final = 1024


def adjust_descriptor_limit(most: int | None = None) -> None:
    """Allow this process as many descriptors as its hard limit permits, or *most*.

    Never fails: if the system refuses, or does not even tell, the limit stays as it was.

    :param most: no more than these can be used: `SELECTABLE`. Beyond them, accept(2) then fails with
        ``EMFILE``, which is dealt with; a descriptor that cannot be watched is not.
    """
    if sys.platform == "win32":
        return
    with suppress(OSError, ValueError):  # a sandbox forbids it; macOS refuses "unlimited"
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        fits = most is None or (hard != resource.RLIM_INFINITY and hard <= most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if most is None or fits else most, hard))


def descriptor_limit() -> int | None:
    """How many descriptors this process may have; None: as many as it likes, or the system does not tell."""
    if sys.platform == "win32":
        return None
    try:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except OSError:  # a sandbox forbids it
        return None
    return None if soft == resource.RLIM_INFINITY else soft


class UnknownIdentityError(ValueError):
    """A user or group that does not exist on this system.

    :ivar key: the key at fault, ``user`` or ``group``.
    :ivar problem: the bad value and what was expected.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return one_line(f"{self.key}: {self.problem}")


@dataclass(frozen=True)
class ProcessIdentity:
    """The user and the groups that a process runs as.

    :ivar uid: the user id.
    :ivar gid: the group id.
    :ivar groups: the ids of all groups, *gid* included, in ascending order.
    :ivar names: the names of the user and the group, for people; an id without a name is shown as a number.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    names: tuple[str, str] = field(compare=False)

    def __str__(self) -> str:
        user, group = self.names
        others = ",".join(str(gid) for gid in self.groups if gid != self.gid)
        return f"{user}:{group} (uid {self.uid}, gid {self.gid}{', groups ' * bool(others)}{others})"


def identity(user: str | None, group: str | None) -> ProcessIdentity:
    """Look up the identity of *user* and *group*.

    :param user: a name or an id; None, if *group* is None too: the current user.
    :param group: a name or an id; None: the user's primary group. The supplementary groups are the user's
        in either case, as ``initgroups(3)`` sets them; an id without an account has none.
    :raises UnknownIdentityError: one of them does not exist, or both are needed.
    """
    if user is None:
        if group is None:
            return _present()
        # Root in another group is still root.
        raise UnknownIdentityError("group", f"{group!r} is set without a user; expected user as well")
    account = _account(user)
    if group is not None:
        gid = _group_id(group)
    elif account is not None:
        gid = account.pw_gid
    else:
        raise UnknownIdentityError(
            "user", f"{user!r} has no account, so its group is unknown; expected group as well"
        )
    if account is None:
        uid = int(user)
        return ProcessIdentity(uid, gid, (gid,), (str(uid), _group_name(gid)))
    groups = _sorted(gid, os.getgrouplist(account.pw_name, gid))
    return ProcessIdentity(account.pw_uid, gid, groups, (account.pw_name, _group_name(gid)))


def _account(user: str) -> pwd.struct_passwd | None:
    """The account of *user*; None for an id without an account."""
    with suppress(KeyError, ValueError):  # ValueError: there is a NUL in it
        return pwd.getpwnam(user)
    if not _is_id(user):
        raise UnknownIdentityError("user", f"no such user {user!r}; expected a user name or id")
    try:
        return pwd.getpwuid(int(user))
    except KeyError:
        return None


def _group_id(group: str) -> int:
    with suppress(KeyError, ValueError):
        return grp.getgrnam(group).gr_gid
    if not _is_id(group):
        raise UnknownIdentityError("group", f"no such group {group!r}; expected a group name or id")
    return int(group)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_ID


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _sorted(gid: int, groups: Iterable[int]) -> tuple[int, ...]:
    # The kernel's list of supplementary groups may or may not contain gid; both mean the same.
    return tuple(sorted({gid, *groups}))


def _present() -> ProcessIdentity:
    """The identity of this process."""
    uid, gid = os.geteuid(), os.getegid()
    return ProcessIdentity(uid, gid, _sorted(gid, os.getgroups()), (_user_name(uid), _group_name(gid)))


def _is_present(wanted: ProcessIdentity) -> bool:
    """Whether the real, effective and saved ids of this process, and its groups, are those of *wanted*."""
    return (
        os.getresuid() == (wanted.uid,) * 3
        and os.getresgid() == (wanted.gid,) * 3
        and _sorted(wanted.gid, os.getgroups()) == wanted.groups
    )


def become(wanted: ProcessIdentity) -> None:
    """Switch to *wanted* for good; do nothing if this process already runs as *wanted*.

    :raises PrivilegeError: the switch is not permitted, or had no lasting effect. The process may be in
        between the two identities, and must exit.
    """
    if not hasattr(os, "setresuid"):
        raise PrivilegeError(
            str(wanted), "this system has no setresuid; expected to be started as that user already"
        )
    if _is_present(wanted):
        return
    before = _present()
    try:
        os.setgroups(wanted.groups)
        os.setresgid(wanted.gid, wanted.gid, wanted.gid)
        os.setresuid(wanted.uid, wanted.uid, wanted.uid)
    except OSError as error:
        raise PrivilegeError(
            str(wanted), f"{error.strerror}; started as {before}; expected a start as root or as that user"
        ) from None
    if not _is_present(wanted):
        raise PrivilegeError(
            str(wanted),
            f"setresuid reported success, but the process is still {_present()}; expected the new identity",
        )
    # With the wrong securebits (capabilities(7), SECBIT_NO_SETUID_FIXUP), root keeps its powers.
    back = (os.setresuid,) * (wanted.uid != 0) + (os.setresgid,) * (0 not in (wanted.uid, wanted.gid))
    if any(_takes_zero(set_ids) for set_ids in back):
        raise PrivilegeError(
            str(wanted), "the process could become root again; expected root to be given up for good"
        )


def _takes_zero(set_ids: Callable[[int, int, int], None]) -> bool:
    """Whether *set_ids* lets this process become root again."""
    try:
        set_ids(-1, 0, -1)
    except OSError:
        return False
    return True


class Notifier:
    """Reports the state of this process to a service manager, with the protocol of sd_notify(3).

    Without a manager (``NOTIFY_SOCKET`` is not set), or with one that is gone or refuses messages, every
    method does nothing: the service runs for its users, not for its manager.

    :param environ: the environment; the variables that the manager has set for this process are removed.
    :ivar watchdog_interval: seconds between calls of `watchdog`: half the time after which the manager
        considers this process hung (sd_watchdog_enabled(3)); None: the manager expects no calls.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        limit = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_interval: float | None = None
        self._socket: socket.socket | None = None
        if not path.startswith(("/", "@")):  # neither a path nor an abstract address
            return
        # unix(7): an abstract address begins with NUL, which no environment can hold.
        self._address = os.fsencode(path if path.startswith("/") else "\0" + path[1:])
        # Created now and kept, because notifications must work even when the process is out of descriptors.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wait_at_most(MANAGER_PATIENCE)
        if watched and limit.isascii() and limit.isdigit() and int(limit) > 0:
            self.watchdog_interval = int(limit) / 2e6

    def _wait_at_most(self, seconds: float) -> None:
        if self._socket is None:
            return
        # The kernel's own timeout: Python's uses poll(2), which sees room in our buffer, not the manager's.
        whole, microseconds = divmod(int(seconds * 1e6), 10**6)
        timeval = struct.pack("ll", whole, microseconds)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    def ready(self, status: str) -> None:
        """Everything is open, or open again after `reloading`."""
        self._send("READY=1", f"STATUS={one_line(status)}")
        self._wait_at_most(SERVING_PATIENCE)

    def reloading(self, status: str) -> None:
        """The configuration is being read again; `ready` must follow, whether that succeeds or fails."""
        # The manager compares this time with that of its request (systemd.service(5), Type=notify-reload).
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", f"STATUS={one_line(status)}")

    def stopping(self, status: str) -> None:
        """The shutdown has begun."""
        self._send("STOPPING=1", f"STATUS={one_line(status)}")

    def status(self, text: str) -> None:
        """Report the current state, in a line for people."""
        self._send(f"STATUS={one_line(text)}", flags=socket.MSG_DONTWAIT)

    def watchdog(self) -> None:
        """Report that this process is alive; see `watchdog_interval`."""
        self._send("WATCHDOG=1", flags=socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close the socket; later calls do nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *fields: str, flags: int = 0) -> None:
        """Send *fields* as one datagram."""
        if self._socket is None:
            return
        message = "\n".join(fields).encode()
        with suppress(OSError):  # the manager is gone, refuses the message, or its queue is full
            self._socket.sendto(message, flags, self._address)


#: Linux, include/uapi/asm-generic/socket.h; Python has no name for it.
SO_PEERGROUPS: Final = 59

#: The most groups of a peer that Python can read: `socket.getsockopt` returns at most 1,024 bytes.
MOST_GROUPS: Final = 256


def credentials(sock: Any) -> tuple[int, set[int]]:
    """The user and the groups of the process at the other end of a UNIX socket.

    They are those of the moment when it connected (unix(7), ``SO_PEERCRED``).

    :raises OSError: this system does not report them.
    """
    _pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS * 4)
    return uid, {gid, *struct.unpack(f"{len(packed) // 4}I", packed)}


@dataclass(frozen=True)
class Members:
    """The ids of users, and of groups any member of which is meant."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()


NOBODY: Final = Members()


def user_id(name: str) -> int:
    """The id of a user: it may take as long as the system's directory (nsswitch.conf(5)) takes to answer.

    :raises KeyError: there is no user of that name.
    """
    return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    """The id of a group; see `user_id`.

    :raises KeyError: there is no group of that name.
    """
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
