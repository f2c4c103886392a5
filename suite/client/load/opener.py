"""Opening the connections of a load, spread over the addresses of its target.

Rules: connections take turns over the addresses that accept them; an address that accepts none is an error,
except one whose family could be replaced by another: a name such as localhost often has ``::1`` where only
``127.0.0.1`` is served, and every client then uses the other.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from suite.client.dial.addresses import Address
from suite.client.dial.datagrams import Datagrams
from suite.client.dial.dialer import DialedSocket, Dialer
from suite.client.dial.failures import TargetError
from suite.client.dial.waiting import with_timeout
from suite.client.load.datagrams import LoadDatagrams
from suite.client.load.stats import AddressStats
from suite.client.load.streams import LoadStream
from suite.client.load.traffic import LoadConnection, Traffic

#: Datagrams sent, at equal intervals, to find out whether an address answers.
ATTEMPTS: Final = 3

PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Opener:
    """Opens connections to one target.

    :param dialer: connects to the target.
    :ivar stats: the figures of every address, those that cannot be used included; empty before `find`.
    """

    def __init__(self, traffic: Traffic, dialer: Dialer) -> None:
        self._traffic = traffic
        self._dialer = dialer
        self._usable: list[tuple[Address, AddressStats]] = []
        self._dialed: dict[Address, DialedSocket] = {}  # by `find`, and not yet used
        self.stats: list[AddressStats] = []

    async def find(self) -> None:
        """Find the addresses that can be used; errors are in `stats`.

        :raises TargetError: the name of the target cannot be resolved.
        """
        addresses = list(dict.fromkeys(await self._dialer.addresses()))
        if self._dialer.target.transport == "udp":
            contact = self._ask
        elif len(addresses) > 1:
            contact = self._dial
        else:  # opening the first connection will tell
            self._usable = [(addresses[0], AddressStats(str(addresses[0])))]
            self.stats = [self._usable[0][1]]
            return
        found: list[tuple[bool, Any]] = await _all([contact(address) for address in addresses])
        self.stats = [AddressStats(str(address)) for address in addresses]
        for address, stats, (good, outcome) in zip(addresses, self.stats, found, strict=True):
            if good:
                self._usable.append((address, stats))
            else:
                outcome.trap(TargetError)
                stats.note(outcome.value)
        families = {address.family for address, _ in self._usable}
        for address, stats in zip(addresses, self.stats, strict=True):
            stats.excused = bool(stats.errors and families) and address.family not in families

    @property
    def usable(self) -> int:
        """The number of addresses that connections are spread over."""
        return len(self._usable)

    async def open(self, index: int) -> LoadConnection | None:
        """Open connection number *index*; None if that fails, which is in `stats` then."""
        if not self._usable:
            return None
        address, stats = self._usable[index % len(self._usable)]
        try:
            connection = await self._open(index, address, stats)
        except TargetError as error:
            stats.note(_explained(error, address, used=stats.opened > 0))
            return None
        stats.opened += 1
        return connection

    async def _open(self, index: int, address: Address, stats: AddressStats) -> LoadConnection:
        if self._dialer.target.transport == "udp":
            return LoadDatagrams(self._traffic, stats, index, address, self._dialer.options.source)
        dialed = self._dialed.pop(address, None) or await self._dialer.connect([address])
        connection = LoadStream(self._traffic, stats, index)
        await self._dialer.adopt(dialed, connection)
        return connection

    def close(self) -> None:
        """Close what `find` has opened and no connection has used."""
        for dialed in self._dialed.values():
            dialed.socket.close()
        self._dialed.clear()

    async def _dial(self, address: Address) -> None:
        self._dialed[address] = await self._dialer.connect([address])

    async def _ask(self, address: Address) -> None:
        """Wait until *address* answers a datagram."""
        answer: Deferred[None] = Deferred()

        def received(_data: bytes) -> None:
            if not answer.called:
                answer.callback(None)

        def failed(error: TargetError) -> None:
            if not answer.called:
                answer.errback(error)

        def refused(failure: Failure) -> None:
            failure.trap(TargetError)
            failed(cast(TargetError, failure.value))

        dialer, timeout = self._dialer, self._dialer.options.timeout
        datagrams = Datagrams(
            dialer.reactor, [address], received, failed, timeout=timeout, source=dialer.options.source
        )
        hello = LoopingCall(datagrams.send, os.urandom(self._traffic.size))
        hello.clock = dialer.reactor
        hello.start(timeout / ATTEMPTS).addErrback(refused)
        late = TargetError("lost", f"no datagram came back within {timeout:g} s")
        try:
            await with_timeout(dialer.reactor, timeout, late, answer)
        finally:
            if hello.running:
                hello.stop()
            datagrams.close()


async def _all(work: list[Coroutine[Any, Any, None]]) -> list[tuple[bool, Any]]:
    """Do all of *work* at the same time; cancelled, all of it is."""
    running = [Deferred.fromCoroutine(each) for each in work]
    try:
        return await DeferredList(running, consumeErrors=True)
    finally:
        for each in running:
            each.cancel()


def _explained(error: TargetError, address: Address, *, used: bool) -> TargetError:
    """*error*, or what it means if the system has no local port left for *address*.

    :param used: whether there has been a connection to it; if not, EADDRNOTAVAIL over IPv6 means that this
        machine has no IPv6.
    """
    exhausted = {os.strerror(errno.EADDRNOTAVAIL)}
    if address.family not in (socket.AF_INET, socket.AF_INET6):
        return error
    if address.family == socket.AF_INET6 and not used:
        return error
    # A datagram socket that gets no port is told to try again.
    exhausted.add(os.strerror(errno.EAGAIN))
    if error.detail not in exhausted:
        return error
    ports = ""
    with suppress(OSError, ValueError):
        first, last = PORT_RANGE.read_text().split()
        ports = f" {first} to {last} ({PORT_RANGE})"
    return TargetError(
        "system",
        f"no local port is left for {address}: all of the range{ports} are in use; use fewer --connections,"
        " spread them over more addresses of the target, or widen the range:"
        " sysctl -w net.ipv4.ip_local_port_range='1024 65535'",
    )
