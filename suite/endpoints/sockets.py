"""The listening sockets of a suite: opened or adopted once, kept until no endpoint wants them.

Rules: a socket is opened before anything that it replaces is closed; what can be changed on an open socket
(backlog, mode, lock) never closes it; whatever `Sockets.open` has done, it can undo. What answers on a socket
comes and goes without it.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.logger import Logger

from suite.endpoints.descriptions import INHERITED, Description
from suite.endpoints.inherited import Inherited, UnusableSocketError, transport_of
from suite.errors import ListenError
from suite.files import Stamp, stamp_of
from suite.system import ProcessIdentity
from suite.text import shown

if TYPE_CHECKING:
    from suite.engine.unix import BoundPath

log = Logger()

#: What makes it possible to open a port below 1024.
LOW_PORT: Final = (
    "; ports below 1024 are for root: start as root with `user` in the configuration, or give a systemd unit"
    " AmbientCapabilities=CAP_NET_BIND_SERVICE, or lower sysctl net.ipv4.ip_unprivileged_port_start"
)


#: What an endpoint costs, and where more can be had: the soft limit is at the hard one already.
NO_DESCRIPTORS: Final = (
    "; an endpoint needs a file descriptor, and one of a UNIX socket two (without lockfile=0): raise the hard"
    " limit (ulimit -Hn, or LimitNOFILE= of a systemd unit)"
)


class ListeningSocket:
    """A bound socket; if it is of a stream, it listens.

    :ivar sock: the socket.
    :ivar key: `Description.socket_key`; for an inherited socket, its descriptor.
    :ivar path: the path of a UNIX socket; None for others.
    :ivar transport: TCP, UDP or UNIX, as the socket itself says.
    :ivar stamp: `suite.files.stamp_of` *path* since it was made or changed last; empty without one.
    :ivar fd: the number of the descriptor if it was inherited; otherwise None.
    :ivar group: further sockets with the same address, among which the kernel divides what comes: one for
        each worker but the first.
    :ivar slot: its place in what workers share; None: there are no workers.
    :ivar counter: the descriptor that counts connections for all workers; None: there are no workers.
    """

    slot: int | None = None
    counter: int | None = None

    def __init__(
        self,
        sock: socket.socket,
        description: Description,
        *,
        path: BoundPath | None = None,
        fd: int | None = None,
    ) -> None:
        self.sock = sock
        self.key = description.socket_key() if fd is None else ("inherited", fd)
        self.transport = transport_of(sock)
        self.fd = fd
        self.path = path
        self.group: list[socket.socket] = []
        self.stamp = self._stamp()
        self.v6only = description.v6only
        self._backlog = description.arguments.get("backlog", "")
        self._mode = int(description.arguments.get("mode", "0"), 8)

    def look_again(self) -> None:
        """Take its path to be as it can be seen now: this process may have become another user."""
        self.stamp = self._stamp()

    def _stamp(self) -> Stamp:
        return stamp_of(self.path.path) if self.path is not None else ()

    @property
    def intact(self) -> bool:
        """Whether clients still reach it: nobody has removed or replaced the path of a UNIX socket."""
        return self.path is None or self.path.intact

    def change(self, description: Description, undo: ExitStack) -> None:
        """Apply what *description* says of backlog and mode.

        :raises OSError: the system does not permit it.
        """
        backlog, mode = (description.arguments.get(name, "") for name in ("backlog", "mode"))
        if backlog and backlog != self._backlog:
            before = self._backlog
            self._listen(backlog)
            undo.callback(self._listen, before)
        if self.path is not None and mode:
            found = self._present_mode(self.path.path)
            if found != int(mode, 8):  # changed in the configuration, or by somebody else
                self._chmod(int(mode, 8))
                undo.callback(self._chmod, found)

    def _present_mode(self, path: str) -> int:
        try:
            return os.stat(path).st_mode & 0o777
        except PermissionError:  # where another user may not look: as it was left
            return self._mode

    def _chmod(self, mode: int) -> None:
        path = cast("BoundPath", self.path).path
        os.chmod(path, mode)
        self._mode = mode
        self.stamp = self._stamp()

    def _listen(self, backlog: str) -> None:
        for sock in (self.sock, *self.group):
            sock.listen(int(backlog))
        self._backlog = backlog

    def close(self) -> None:
        """Stop listening; what waits in the queue is reset. An inherited socket stays open."""
        if self.counter is not None:
            os.close(self.counter)
            self.counter = None
        if self.fd is not None:
            return
        if self.path is not None:
            self.path.release()
        for sock in (self.sock, *self.group):
            sock.close()


class Sockets:
    """The listening sockets of one suite.

    :param watchable: the first descriptor that the reactor cannot watch.
    :ivar inherited: the descriptors that the parent process has passed.
    """

    def __init__(self, inherited: Inherited | None = None, watchable: int = sys.maxsize) -> None:
        self.inherited = inherited if inherited is not None else Inherited()
        self._watchable = watchable
        self._open: dict[tuple[object, ...], ListeningSocket] = {}
        self._replaced: list[ListeningSocket] = []
        self._made: list[str] = []  # directories

    def open(
        self, description: Description, undo: ExitStack, *, shared: bool = True
    ) -> list[ListeningSocket]:
        """The sockets that *description* describes: those that are open, changed as it says, or new ones.

        Only an inherited name stands for more than one.

        :param undo: gets what takes back the changes and closes the new sockets.
        :param shared: whether workers serve it, if there are any.
        :raises ListenError: a socket cannot be opened, changed or adopted.
        """
        try:
            if description.kind in INHERITED:
                wanted = self.inherited.wanted(description)
                return [self._adopt(fd, description, undo, shared=shared) for fd in wanted]
            found = self._open.get(description.socket_key())
            if found is not None and found.intact and found.v6only == description.v6only:
                found.change(description, undo)
                return [found]
            return [self._replace(found, description, undo, shared=shared)]
        except UnusableSocketError as error:
            raise ListenError(description.endpoint.name, description.address, str(error)) from None
        except OSError as error:
            raise listen_error(description, error) from error

    def _adopt(self, fd: int, description: Description, undo: ExitStack, *, shared: bool) -> ListeningSocket:
        sock = self.inherited.adopt(fd, description)
        found = self._open.get(("inherited", fd))
        if found is None:
            found = ListeningSocket(sock, description, fd=fd)
            undo.callback(found.close)
            if shared:
                self._share(found, description, undo)
            self._check_watchable(found)
            self._keep(found, undo)
        return found

    def _share(self, new: ListeningSocket, description: Description, undo: ExitStack) -> None:
        """Let other processes serve *new*, too, if there are any.

        :param undo: gets what takes that back.
        :raises OSError: the system does not permit it.
        """

    def _replace(
        self, old: ListeningSocket | None, description: Description, undo: ExitStack, *, shared: bool
    ) -> ListeningSocket:
        """Open a socket, in place of *old*, which stays open until `keep_only`."""
        if description.kind == "unix":
            self._made += make_directory(description)
            new = _listen_on_path(description, old)
        else:
            # Those that are replaced are open until the change is made. Few sockets have rivals: not a list.
            others = chain(self._open.values(), self._replaced)
            rivals = (other.sock for other in others if other.transport != "UNIX")
            new = ListeningSocket(_bind(description, rivals), description)
        undo.callback(new.close)
        if shared:
            self._share(new, description, undo)
        if old is not None and old.path is not None and new.path is not None:
            undo.callback(new.path.hand_lock_to, old.path)
        self._check_watchable(new)
        self._keep(new, undo)
        return new

    def _check_watchable(self, new: ListeningSocket) -> None:
        fd = new.sock.fileno()
        if fd >= self._watchable:
            raise UnusableSocketError(
                f"its socket is descriptor {fd}, and select can watch those below {self._watchable}; expected"
                " fewer, or another --reactor"
            )

    def _keep(self, new: ListeningSocket, undo: ExitStack) -> None:
        before = self._open.get(new.key)
        self._open[new.key] = new
        if before is None:
            undo.callback(self._open.pop, new.key)
        else:
            self._replaced.append(before)
            undo.callback(self._replaced.remove, before)
            undo.callback(self._open.__setitem__, new.key, before)

    def give_directories(self, user: ProcessIdentity) -> None:
        """Let *user*, whom this process is about to become, own the directories that were made here.

        It can then remove its sockets at the end, and put them right before that.
        """
        for directory in self._made if os.geteuid() == 0 else ():
            try:
                os.chown(directory, user.uid, user.gid, follow_symlinks=False)
            except OSError as error:  # a file system without owners, a sandbox
                log.warn(
                    "{directory} cannot be given to {user}: {error}; sockets there will be left behind",
                    directory=shown(directory),
                    user=user.names[0],
                    error=error.strerror,
                )
        self._made.clear()

    def look_again(self) -> None:
        """`ListeningSocket.look_again` of all."""
        for sock in self._open.values():
            sock.look_again()

    def keep_only(self, wanted: Collection[ListeningSocket]) -> list[ListeningSocket]:
        """Give up the sockets that are not *wanted*; return them, to be closed."""
        kept = set(wanted)
        unwanted = [sock for sock in [*self._open.values(), *self._replaced] if sock not in kept]
        self._open = {sock.key: sock for sock in wanted}
        self._replaced = []
        return unwanted


def _listen_on_path(description: Description, old: ListeningSocket | None) -> ListeningSocket:
    """Open the UNIX socket of *description*, in place of *old*, if any, whose path somebody has removed."""
    from suite.engine.unix import BoundPath  # noqa: PLC0415  # needs fcntl

    arguments = description.arguments
    backlog, mode = int(arguments["backlog"]), int(arguments["mode"], 8)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    if arguments["address"].startswith("\0"):
        try:
            sock.bind(arguments["address"])
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return ListeningSocket(sock, description)
    path = BoundPath(arguments["address"], lock=arguments["lockfile"] == "1")
    if old is not None and old.path is not None:
        old.path.hand_lock_to(path)
    try:
        path.listen(sock, backlog, mode)
        return ListeningSocket(sock, description, path=path)
    except BaseException:
        if old is not None and old.path is not None:
            path.hand_lock_to(old.path)
        raise


def make_directory(description: Description) -> list[str]:
    """Make the directory of a UNIX socket if it is missing but its parent exists; return it if it was.

    It is at most 0755, whatever the umask.

    :raises ListenError: the directory cannot be made.
    """
    if description.kind != "unix" or description.arguments["address"].startswith("\0"):
        return []
    directory = os.path.dirname(description.arguments["address"])
    try:
        if directory and not os.path.isdir(directory):
            os.mkdir(directory, 0o755)
            return [directory]
    except OSError as error:
        raise ListenError(
            description.endpoint.name, description.address, f"{shown(directory)}: {error.strerror}"
        ) from error
    return []


def _address(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """The family of the IP address *host*, and what bind(2) takes for it."""
    if ":" not in host:
        return socket.AF_INET, (host, port)
    # The name of an interface, after a percent sign, becomes its number.
    flags = socket.AI_NUMERICHOST
    return socket.AF_INET6, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0][4]


def _bind(description: Description, rivals: Iterable[socket.socket]) -> socket.socket:
    """Bind the address of *description*.

    :param rivals: sockets of this process that may hold it until what they serve has been replaced.
    """
    arguments = description.arguments
    kind = socket.SOCK_DGRAM if description.transport == "UDP" else socket.SOCK_STREAM
    family, address = _address(arguments["interface"], int(arguments["port"]))
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM and os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, description.v6only)
        try:
            _listen(sock, address, arguments)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            same = [rival for rival in rivals if rival.type == kind and rival.getsockname()[1] == address[1]]
            if not same:
                raise
            _listen_beside(sock, address, arguments, same)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen(sock: socket.socket, address: Any, arguments: dict[str, str]) -> None:
    if sock.getsockname()[1] == 0:
        sock.bind(address)
    if sock.type == socket.SOCK_STREAM:
        sock.listen(int(arguments["backlog"]))


def _listen_beside(
    sock: socket.socket, address: Any, arguments: dict[str, str], rivals: list[socket.socket]
) -> None:
    """Listen although *rivals* of this process still hold the address (socket(7), SO_REUSEPORT).

    The option is set only for this moment, because it lets other processes of the same user take a share of
    the connections; the sockets of workers always have it. (Linux may remember it of the port until all
    sockets there are closed.)
    """
    option = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    changed = [each for each in (sock, *rivals) if not each.getsockopt(socket.SOL_SOCKET, option)]
    try:
        for each in changed:
            each.setsockopt(socket.SOL_SOCKET, option, 1)
        _listen(sock, address, arguments)
    finally:
        for each in changed:
            each.setsockopt(socket.SOL_SOCKET, option, 0)


def listen_error(description: Description, error: Exception) -> ListenError:
    """The `ListenError` for an *error* of the system or of a plugin."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
        if isinstance(error.filename, str) and error.filename != description.arguments.get("address"):
            reason = f"{shown(error.filename)}: {reason}"  # the lock of a UNIX socket
        if error.errno == errno.EACCES and 0 < int(description.arguments.get("port", 0)) < 1024:
            reason += LOW_PORT
        elif error.errno == errno.EMFILE:
            reason += NO_DESCRIPTORS
    else:
        reason = str(error) or type(error).__name__
    return ListenError(description.endpoint.name, description.address, reason)
