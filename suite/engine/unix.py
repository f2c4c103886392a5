"""UNIX sockets: private from the first instant, never blocked by the leftovers of a killed process.

Rules: the socket is created with its final mode; a path is in use if its lock is held (``flock``, which ends
with its process) or if a server answers on it (``connect``), never because of a pid in a file, which may have
been reused; only sockets are ever removed; what cannot be removed at the end stops nothing, and is named in a
warning.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IFileDescriptorReceiver, IProtocolFactory, IUNIXTransport
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.engine.accept import AcceptingPort
from suite.engine.binding import ClosesOnBindFailure
from suite.engine.plain import PlainStream
from suite.text import shown

logger = Logger()


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


class PathLock:
    """An exclusive lock on the file *path* that ends with the process, however the process ends."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has taken the lock."""
        return self._fd is not None

    def acquire(self) -> bool:
        """Try to take the lock; return whether it is held now.

        :raises OSError: the file can be neither opened nor created.
        """
        if self._fd is not None:
            if self._names(self._fd):
                return True
            os.close(self._fd)  # somebody has removed the file
            self._fd = None
        while True:
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                # Twisted's kind of lock, a symbolic link to a pid. Its socket will show whether that
                # server is alive.
                with suppress(FileNotFoundError):
                    os.unlink(self.path)
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            if self._names(fd):
                self._fd = fd
                return True
            os.close(fd)  # its last owner has just removed it: lock the new one

    def _names(self, fd: int) -> bool:
        """Whether the path still names the file that is open as *fd*."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> OSError | None:
        """Remove the file, then release the lock; return why the file is still there, if it is."""
        if self._fd is None:
            return None
        problem = _remove(self.path)
        os.close(self._fd)
        self._fd = None
        return problem


def _remove(path: str) -> OSError | None:
    """Remove the file at *path*, if there is one; return what prevents that."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:  # the process runs as another user by now, or the file system is read-only
        return error
    return None


def remove_stale_socket(path: str) -> None:
    """Remove the socket at *path*, unless a server is listening on it.

    :raises OSError: ``EADDRINUSE`` if a server answers, ``EEXIST`` if the path is not a socket.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "it exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            problem = _remove(path)
            if problem is not None:
                reason = f"the socket that is left there cannot be removed: {problem.strerror}"
                raise OSError(problem.errno, reason) from None
            return
        except BlockingIOError:
            pass  # a server is listening, but its queue is full
    raise OSError(errno.EADDRINUSE, "a server is listening there")


@implementer(IUNIXTransport)
class UNIXStream(PlainStream):
    """A connection over a UNIX socket."""

    @override
    def getHost(self) -> UNIXAddress:
        return UNIXAddress(self.socket.getsockname())

    @override
    def getPeer(self) -> UNIXAddress:
        path: Any = self.client[0]
        return UNIXAddress(path or None)

    @override
    def getTcpNoDelay(self) -> bool:
        return False

    @override
    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: UNIX sockets have no such delay."""

    def sendFileDescriptor(self, descriptor: int) -> None:
        """`IUNIXTransport.sendFileDescriptor`."""
        # This transport does not support it: from here on it is Twisted's own.
        self._become(unix.Server)
        self._sendmsgQueue: list[int] = []
        self.sendFileDescriptor(descriptor)


def _transport(sock: Any, protocol: Any, client: Any, *args: Any) -> tcp.Server:
    """The transport for *protocol*; Twisted's own if it is to receive file descriptors."""
    if IFileDescriptorReceiver.providedBy(protocol):
        return unix.Server(sock, protocol, client, *args)
    return UNIXStream(sock, protocol, (client, None), *args)


class BoundPath:
    """A listening socket at a path of the file system.

    :param path: the path.
    :param lock: whether a lock file ``path.lock`` (``flock``) says that the path is in use.
    """

    def __init__(self, path: str, *, lock: bool) -> None:
        self.path = path
        self._lock = PathLock(path + ".lock") if lock else None
        self._made: os.stat_result | None = None  # the socket created here, to remove no other at the end

    def listen(self, sock: socket.socket, backlog: int, mode: int) -> None:
        """Let *sock* listen at the path, with *mode* from its first instant.

        :raises OSError: the path is in use, or cannot be used; *sock* has been closed.
        """
        had_lock = self._lock is not None and self._lock.held
        try:
            if self._lock is not None and not self._lock.acquire():
                raise OSError(errno.EADDRINUSE, f"{self._lock.path} is held by a running server")
            with _umask(0o777 & ~mode):
                try:
                    sock.bind(self.path)
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
                    remove_stale_socket(self.path)
                    sock.bind(self.path)
            self._made = os.stat(self.path)
            sock.listen(backlog)
        except BaseException:
            self._remove()
            if self._lock is not None and not had_lock:
                self._lock.release()
            sock.close()
            raise

    @property
    def intact(self) -> bool:
        """Whether clients still reach this socket at its path; nobody has removed or replaced it.

        Where this process may not look any more, since it has become another user, it is taken to be there.
        """
        try:
            return self._made is not None and os.path.samestat(self._made, os.lstat(self.path))
        except PermissionError:
            return True
        except OSError:
            return False

    def hand_lock_to(self, other: BoundPath) -> None:
        """Let *other*, which takes this path over, have the lock."""
        other._lock, self._lock = self._lock, other._lock  # of its own class

    def release(self) -> None:
        """Remove the socket and lock created here, unless another process has replaced the socket.

        What cannot be removed is named in the log.
        """
        problems = {self.path: self._remove()}
        if self._lock is not None:
            problems[self._lock.path] = self._lock.release()
        left = [shown(path) for path, problem in problems.items() if problem is not None]
        if left:
            logger.warn(
                "left behind: {left}: {error}; the next start removes what it has the right to",
                left=", ".join(left),
                error=next(problem.strerror for problem in problems.values() if problem is not None),
            )

    def _remove(self) -> OSError | None:
        """Remove the socket, if it is the one made here; return why it is still there, if it is."""
        ours, self._made = self.intact, None
        return _remove(self.path) if ours else None


class UNIXPort(ClosesOnBindFailure, AcceptingPort, unix.Port):
    """A UNIX stream socket.

    The parameters are those of ``IReactorUNIX.listenUNIX``; with *wantPID* there is a lock file, locked with
    ``flock``.
    """

    transport: Any = staticmethod(_transport)

    def __init__(
        self,
        address: str | bytes,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        reactor: Any = None,
        wantPID: bool = False,
    ) -> None:
        path = os.fsdecode(address)
        super().__init__(path, factory, backlog, mode, reactor, wantPID=False)  # type: ignore[arg-type]  # UNIXAddress takes both
        self.path = path
        self._bound = None if path.startswith("\0") else BoundPath(path, lock=wantPID)

    @override
    def startListening(self) -> None:
        if self._bound is None and self._preexistingSocket is None:
            super().startListening()
            return
        if self._preexistingSocket is not None:
            # Its mode, backlog and end are left to its owner: unix.Port would set the mode 666 and a backlog
            # of 50, and at the end shut it down for every process.
            sock, self._preexistingSocket = self._preexistingSocket, None
            self._shouldShutdown = False
        else:
            try:
                sock = self.createInternetSocket()
                cast(BoundPath, self._bound).listen(sock, self.backlog, self.mode)
            except OSError as error:
                raise CannotListenError(None, self.path, error) from error
        log.msg(f"{self._getLogPrefix(self.factory)} starting on {self.path!r}")
        self._accept_on(sock)

    @override
    def connectionLost(self, reason: Failure) -> None:
        if self._bound is not None:
            self._bound.release()
        self._drop_reserve()
        tcp.Port.connectionLost(self, reason)  # unix.Port's would remove an inherited socket
