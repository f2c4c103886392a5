"""What is between the suite and the operating system: limits, identities, the service manager.

Rules: no Twisted; what the environment says to this process alone is taken out of it, so that no child
believes that it is meant; an identity is not taken before it has been seen that the old one cannot come
back.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from suite.errors import PrivilegeError
from suite.text import one_line

if sys.platform != "win32":  # where the suite runs as well, without what this module is about
    import grp
    import pwd
    import resource

#: User and group ids are 32 bits, of which -1 means "leave it as it is" (setresuid(2)).
MAX_ID: Final = 2**32 - 2

#: How long a change of state may wait for room in the service manager's queue, in seconds. A manager
#: that never hears READY=1 ends the service; so long it may be busy.
MANAGER_PATIENCE: Final = 1.0


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as its hard limit permits.

    Not for a select(2) reactor: it cannot watch descriptors above 1023, where ``EMFILE`` is kinder.

    :returns: how many it may have now; `sys.maxsize` where there is no limit. It never fails: what the
        system refuses stays as it is.
    """
    if sys.platform == "win32":
        return sys.maxsize
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # a sandbox forbids it; macOS refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


class UnknownIdentityError(ValueError):
    """A user or group that this system does not know.

    :ivar key: ``user`` or ``group``: which of the two is at fault.
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
    """Whom a process acts as.

    :ivar uid: user id.
    :ivar gid: group id.
    :ivar groups: all groups, supplementary ones and *gid*, in ascending order.
    :ivar names: of the user and the group, for people; a number where there is no name.
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
    """Look up whom to act as.

    :param user: a name or a number; None: whoever we are, if *group* is None too.
    :param group: a name or a number; None: the user's own. The supplementary groups are the user's in
        either case, as ``initgroups(3)`` has them; a number without an account has none.
    :raises UnknownIdentityError: one of them is not known here, or does not suffice.
    """
    if user is None:
        if group is None:
            return _present()
        # A process that is root, whatever its group, has dropped nothing.
        raise UnknownIdentityError("group", f"{group!r} stands alone; expected user as well")
    account = _account(user)
    if group is not None:
        gid = _group_id(group)
    elif account is not None:
        gid = account.pw_gid
    else:
        raise UnknownIdentityError(
            "user", f"{user!r} has no account that names its group; expected group as well"
        )
    if account is None:
        uid = int(user)
        return ProcessIdentity(uid, gid, (gid,), (str(uid), _group_name(gid)))
    groups = _sorted(gid, os.getgrouplist(account.pw_name, gid))
    return ProcessIdentity(account.pw_uid, gid, groups, (account.pw_name, _group_name(gid)))


def _account(user: str) -> pwd.struct_passwd | None:
    """The account of *user*; None for a number that has none."""
    with suppress(KeyError, ValueError):  # ValueError: there is a NUL in it
        return pwd.getpwnam(user)
    if not _is_id(user):
        raise UnknownIdentityError(
            "user", f"{user!r} is no user of this system; expected the name or number of one"
        )
    try:
        return pwd.getpwuid(int(user))
    except KeyError:
        return None


def _group_id(group: str) -> int:
    with suppress(KeyError, ValueError):
        return grp.getgrnam(group).gr_gid
    if not _is_id(group):
        raise UnknownIdentityError(
            "group", f"{group!r} is no group of this system; expected the name or number of one"
        )
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
    # Whether the kernel's list of supplementary groups has gid in it makes no difference.
    return tuple(sorted({gid, *groups}))


def _present() -> ProcessIdentity:
    """Whom this process acts as."""
    uid, gid = os.geteuid(), os.getegid()
    return ProcessIdentity(uid, gid, _sorted(gid, os.getgroups()), (_user_name(uid), _group_name(gid)))


def _is_present(wanted: ProcessIdentity) -> bool:
    """Whether this process is *wanted*, in its real, effective and saved ids alike."""
    return (
        os.getresuid() == (wanted.uid,) * 3
        and os.getresgid() == (wanted.gid,) * 3
        and _sorted(wanted.gid, os.getgroups()) == wanted.groups
    )


def become(wanted: ProcessIdentity) -> None:
    """Act as *wanted* from here on, with no way back; nothing is done where we do already.

    :raises PrivilegeError: that is not permitted, or it did not take. The process may be anything in
        between by then: all that is left to do is to end it.
    """
    if not hasattr(os, "setresuid"):
        raise PrivilegeError(str(wanted), "this system has no setresuid; expected to be started as that user")
    if _is_present(wanted):
        return
    before = _present()
    try:
        os.setgroups(wanted.groups)
        os.setresgid(wanted.gid, wanted.gid, wanted.gid)
        os.setresuid(wanted.uid, wanted.uid, wanted.uid)
    except OSError as error:
        raise PrivilegeError(
            str(wanted), f"{error.strerror}; started as {before}; expected root or that user"
        ) from None
    if not _is_present(wanted):
        raise PrivilegeError(
            str(wanted), f"the system did as if, but this is {_present()}; expected to be the other"
        )
    # With the wrong securebits (capabilities(7), SECBIT_NO_SETUID_FIXUP), root keeps its powers.
    back = (os.setresuid,) * (wanted.uid != 0) + (os.setresgid,) * (0 not in (wanted.uid, wanted.gid))
    if any(_takes_zero(set_ids) for set_ids in back):
        raise PrivilegeError(str(wanted), "root could be had back; expected it to be gone for good")


def _takes_zero(set_ids: Callable[[int, int, int], None]) -> bool:
    """Whether *set_ids* lets this process be root again."""
    try:
        set_ids(-1, 0, -1)
    except OSError:
        return False
    return True


class Notifier:
    """Tells a service manager how this process is: the protocol of sd_notify(3).

    Where no manager listens (``NOTIFY_SOCKET`` is not set), every method does nothing, and so it is
    when a manager has gone or refuses to hear: a service runs for its users, and not for its manager.

    :param environ: where the manager has put what it has to say; that is removed from it.
    :ivar watchdog_interval: seconds from one call of `watchdog` to the next, half of what the manager
        waits before it takes us for hung (sd_watchdog_enabled(3)); None: it does not wait for any.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        limit = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_interval: float | None = None
        self._socket: socket.socket | None = None
        if not path.startswith(("/", "@")):  # sd_notify(3) knows no other kind of socket address here
            return
        # unix(7): an abstract address begins with NUL, which no environment can hold.
        self._address = os.fsencode(path if path.startswith("/") else "\0" + path[1:])
        # Made now and kept: when there are no descriptors left, this must go on.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # The kernel's own time-out: poll(2), as Python's would, sees room in our buffer, not in theirs.
        seconds, microseconds = divmod(int(MANAGER_PATIENCE * 1e6), 10**6)
        timeval = struct.pack("ll", seconds, microseconds)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        if watched and limit.isascii() and limit.isdigit() and int(limit) > 0:
            self.watchdog_interval = int(limit) / 2e6

    def ready(self, status: str) -> None:
        """Everything is open, or open again after `reloading`."""
        self._send("READY=1", f"STATUS={one_line(status)}")

    def reloading(self, status: str) -> None:
        """The configuration is being read again; `ready` must follow, whatever comes of it."""
        # The manager compares it with when it asked (systemd.service(5), Type=notify-reload).
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", f"STATUS={one_line(status)}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._send("STOPPING=1", f"STATUS={one_line(status)}")

    def status(self, text: str) -> None:
        """How things are, in a line for people."""
        self._send(f"STATUS={one_line(text)}", flags=socket.MSG_DONTWAIT)

    def watchdog(self) -> None:
        """Still alive; see `watchdog_interval`."""
        self._send("WATCHDOG=1", flags=socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Say nothing from here on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *fields: str, flags: int = 0) -> None:
        """Send *fields* as one datagram."""
        if self._socket is None:
            return
        message = "\n".join(fields).encode()
        with suppress(OSError):  # it has gone, it refuses, or its queue is full
            self._socket.sendto(message, flags, self._address)


#: Linux, include/uapi/asm-generic/socket.h; Python has no name for it.
SO_PEERGROUPS: Final = 59


#: As many of a peer's groups as Python can ask for.
MOST_GROUPS: Final = 256


def credentials(sock: Any) -> tuple[int, set[int]]:
    """The user and the groups of the process at the other end of a UNIX socket.

    unix(7), ``SO_PEERCRED``: as they were when it connected.

    :raises OSError: this system does not tell.
    """
    _pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS * 4)
    return uid, {gid, *struct.unpack(f"{len(packed) // 4}I", packed)}


def user_ids(names: Iterable[str]) -> Iterator[int]:
    """The ids of users.

    :raises KeyError: there is no user of that name.
    """
    for name in names:
        yield int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def group_ids(names: Iterable[str]) -> Iterator[int]:
    """The ids of groups.

    :raises KeyError: there is no group of that name.
    """
    for name in names:
        yield int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
