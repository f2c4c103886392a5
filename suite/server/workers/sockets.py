"""Listening sockets that several processes serve: opened by the supervisor, and given to its workers.

Rules: of TCP and UDP there is a socket for each worker, with a queue of its own, among which the kernel
divides what comes (socket(7), SO_REUSEPORT); all of them stay open in the supervisor, so that what waits for
a worker that has died waits for the one that replaces it. A UNIX socket, and one that was inherited, is one
for all; a UDP socket that was inherited is the first worker's alone, so that rates hold.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from typing_extensions import override

from suite.config.limits import Limits
from suite.endpoints.descriptions import Description
from suite.endpoints.inherited import Inherited
from suite.endpoints.sockets import ListeningSocket, Sockets, listen_error
from suite.guard.shared import Shared, make_counter
from suite.guard.steering import steer


@dataclass(frozen=True)
class Given:
    """What a worker is told of a socket that it is given.

    :ivar slot: see `ListeningSocket.slot`; it tells sockets from each other, too.
    :ivar key: see `ListeningSocket.key`.
    :ivar fd: see `ListeningSocket.fd`.
    :ivar counted: whether a second descriptor comes with it: `ListeningSocket.counter`.
    """

    slot: int
    key: tuple[object, ...]
    fd: int | None
    counted: bool

    @classmethod
    def of(cls, sock: ListeningSocket) -> Self:
        """What is told of *sock*."""
        assert sock.slot is not None  # noqa: S101  # those that workers serve have one
        return cls(sock.slot, sock.key, sock.fd, sock.counter is not None)


#: What a worker listens on: the slots of each endpoint's sockets, by its name.
Layout = Mapping[str, Sequence[int]]


class SharedSockets(Sockets):
    """The sockets of a supervisor.

    :param workers: how many workers there are.
    :param shared: what they share.
    """

    def __init__(self, workers: int, shared: Shared, watchable: int) -> None:
        super().__init__(watchable=watchable)
        self._workers = workers
        self._shared = shared
        self._steered: dict[ListeningSocket, Limits] = {}

    @override
    def open(
        self, description: Description, undo: ExitStack, *, shared: bool = True
    ) -> list[ListeningSocket]:
        found = super().open(description, undo, shared=shared)
        for sock in found:
            if sock.transport == "UDP" and sock.group:
                try:
                    self._steer(sock, description.endpoint.limits, undo)
                except OSError as error:
                    raise listen_error(description, error) from error
        return found

    def _steer(self, sock: ListeningSocket, limits: Limits, undo: ExitStack) -> None:
        before = self._steered.get(sock)
        if limits != before:
            steer(sock.sock, self._workers, limits)
            self._steered[sock] = limits
            if before is not None:
                undo.callback(self._steer, sock, before, ExitStack())

    @override
    def keep_only(self, wanted: Collection[ListeningSocket]) -> list[ListeningSocket]:
        unwanted = super().keep_only(wanted)
        for sock in unwanted:
            self._steered.pop(sock, None)
            if sock.slot is not None:
                self._shared.release_slot(sock.slot)
        return unwanted

    @override
    def _share(self, new: ListeningSocket, description: Description, undo: ExitStack) -> None:
        new.slot = self._shared.take_slot()
        undo.callback(self._shared.release_slot, new.slot)
        if new.transport != "UNIX" and new.fd is None:
            self._make_group(new, description)
        before = self._open.get(new.key)
        if before is not None and before.counter is not None:
            # In place of one whose connections are open yet: their numbers are taken.
            new.counter = os.dup(before.counter)
        elif new.transport != "UDP" or new.group:
            new.counter = make_counter()

    def _make_group(self, new: ListeningSocket, description: Description) -> None:
        first = new.sock
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(1, self._workers):
            another = socket.socket(first.family, first.type)
            new.group.append(another)
            another.setblocking(False)
            for level, option in _OPTIONS:
                if level != socket.IPPROTO_IPV6 or first.family == socket.AF_INET6:
                    another.setsockopt(level, option, first.getsockopt(level, option))
            another.bind(first.getsockname())
            if first.type == socket.SOCK_STREAM:
                another.listen(int(description.arguments["backlog"]))


#: What the sockets of a group have in common.
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
)


def descriptors_for(worker: int, sock: ListeningSocket) -> list[int]:
    """What *worker* is given of *sock*; nothing if it is another's alone.

    :param worker: its number, from 1.
    """
    if sock.fd is not None and sock.transport == "UDP" and worker != 1:
        return []
    own = [sock.sock, *sock.group][worker - 1] if sock.group else sock.sock
    return [own.fileno()] + ([sock.counter] if sock.counter is not None else [])


class GivenSocket(ListeningSocket):
    """A socket that a worker has been given, which stays the supervisor's, too."""

    @override
    def close(self) -> None:
        if self.counter is not None:
            os.close(self.counter)
            self.counter = None
        self.sock.close()


class GivenSockets(Sockets):
    """The sockets of a worker: those that it has been given, by `Given.slot`.

    :ivar layout: which of them each endpoint has.
    """

    def __init__(self) -> None:
        super().__init__(Inherited({}))
        self.layout: Layout = {}
        self._new: dict[int, tuple[Given, socket.socket, int | None]] = {}
        self._used: dict[int, ListeningSocket] = {}

    def take(self, given: Given, descriptors: Sequence[int]) -> None:
        """*descriptors* are ours from now on: a socket and, if it is counted, its counter."""
        sock = socket.socket(fileno=descriptors[0])
        sock.setblocking(False)
        self._new[given.slot] = given, sock, descriptors[1] if given.counted else None

    def forget_unused(self) -> None:
        """Close what has been given for a plan that nobody serves: what no endpoint of the layout has."""
        kept = {slot for slots in self.layout.values() for slot in slots}
        for slot in self._used.keys() - kept:
            self._used.pop(slot).close()
        for _, sock, counter in self._new.values():
            sock.close()
            if counter is not None:
                os.close(counter)
        self._new.clear()

    @override
    def open(
        self, description: Description, undo: ExitStack, *, shared: bool = True
    ) -> list[ListeningSocket]:
        return [self._use(slot, description) for slot in self.layout[description.endpoint.name]]

    def _use(self, slot: int, description: Description) -> ListeningSocket:
        if slot not in self._used:
            given, sock, counter = self._new.pop(slot)
            found = GivenSocket(sock, description, fd=given.fd)
            found.key, found.slot, found.counter = given.key, slot, counter
            self._used[slot] = found
        return self._used[slot]

    @override
    def keep_only(self, wanted: Collection[ListeningSocket]) -> list[ListeningSocket]:
        kept = set(wanted)
        unwanted = [sock for sock in self._used.values() if sock not in kept]
        self._used = {slot: sock for slot, sock in self._used.items() if sock in kept}
        return unwanted
