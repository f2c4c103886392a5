"""Whom a stream endpoint admits; every refusal is counted and logged.

Rules: what decides is checked as soon as it is known, and once; a client is counted, for `per_peer`, from
when it is known until its connection has ended.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger, LogLevel

from suite.config.limits import Limits, address_of, source_of, within
from suite.reasons import Reason
from suite.system import NOBODY, credentials
from suite.text import host_and_port

if TYPE_CHECKING:
    from suite.guard.shared import EndpointShare  # which one process alone does not need

log = Logger()


class Admission:
    """Decides who may connect to one endpoint.

    :param clock: the source of time.
    :param name: the name of the endpoint.
    :ivar limits: the limits to enforce; they may be replaced at any time, also for open connections, except
        that these keep their `keepalive`.
    :ivar members: who `users` and `groups` of the limits are, because asking the system may take long.
    :ivar ends: the number of connections ended or refused, by reason.
    :ivar share: what other workers count of the same endpoint; None if there are none. See `share_with`.
    """

    share: EndpointShare | None = None

    def __init__(self, clock: IReactorTime, name: str, limits: Limits) -> None:
        self.clock = clock
        self.name = name
        self.ends: Counter[Reason] = Counter()
        self.limits = limits
        self.members = NOBODY
        self._by_source: Counter[int] = Counter()
        self._silent_until = float("-inf")

    @abstractmethod
    def _count_open(self) -> int:
        """The number of open connections."""

    def refuses(self, address: IAddress | None, *, header: bool = False) -> bool:
        """Whether a connection from *address* is refused; a refusal is counted and logged.

        :param header: whether it has to send a PROXY header, which will name the client.
        """
        if header and not self.trusts(address):
            return True
        reason: Reason | None = None
        share, opened, most = self.share, self._count_open(), self.limits.connections
        if opened >= most or (share is not None and not share.admits(opened + 1, most)):
            reason = Reason.CONNECTIONS
        elif not header:
            reason = self.refusal_of(getattr(address, "host", None))
        if reason is not None:
            if share is not None:
                share.set_open(opened)
            self._refuse(reason, shown_peer(address))
        return reason is not None

    def trusts(self, address: IAddress | None) -> bool:
        """Whether PROXY headers are accepted from *address*; a refusal is counted and logged.

        On a UNIX socket there is no address to check: the socket's mode, `users` and `groups` decide.
        """
        host = getattr(address, "host", None)
        if host is None or within(address_of(host), self.limits.proxy_from):
            return True
        self.header_refused(cast(IAddress, address), "not from proxy_from")
        return False

    def header_refused(self, address: IAddress, problem: str) -> None:
        """Count and log a connection from *address* without an acceptable PROXY header."""
        self._refuse(Reason.PROXY, shown_peer(address), problem)

    def refusal_of(self, host: str | None) -> Reason | None:
        """Why a client at *host* is refused, if it is."""
        limits = self.limits
        if host is None:
            return None
        if not limits.admits(host):
            return Reason.DENIED
        source, share = source_of(address_of(host)), self.share
        opened = self._by_source[source]
        if opened >= limits.per_peer:
            return Reason.PER_PEER
        if share is not None and not share.admits_from(source, opened + 1, limits.per_peer):
            return Reason.PER_PEER
        return None

    def _refuse(self, reason: Reason, peer: str, detail: str = "") -> None:
        self.ends[reason] += 1
        log.emit(
            level_of(reason),
            "refused: {detail}" if detail else "refused",
            endpoint=self.name,
            peer=peer,
            reason=reason.value,
            detail=detail,
        )

    def out_of_descriptors(self, address: IAddress) -> None:
        """Count a connection from *address* that was closed at once, for want of a file descriptor.

        One a second is logged at most: a process short of descriptors is short of other things, too.
        """
        self.ends[Reason.DESCRIPTORS] += 1
        now = self.clock.seconds()
        if now >= self._silent_until:
            self._silent_until = now + 1
            log.emit(
                level_of(Reason.DESCRIPTORS),
                "refused; {refused:,} so far",
                endpoint=self.name,
                peer=shown_peer(address),
                reason=Reason.DESCRIPTORS.value,
                refused=self.ends[Reason.DESCRIPTORS],
            )

    def admits_user(self, transport: Any) -> bool:
        """Whether the process that has connected *transport*, a UNIX socket's, may do so."""
        limits = self.limits
        if not (limits.users or limits.groups):
            return True
        try:
            uid, groups = credentials(transport.getHandle())
        except OSError:  # it is gone, or this system does not tell
            return False
        return uid in self.members.users or not groups.isdisjoint(self.members.groups)

    def count(self, host: str | None) -> int | None:
        """Count a connection for the client at *host*; return what it is counted under, for `uncount`."""
        if host is None:
            return None
        source = source_of(address_of(host))
        self._by_source[source] += 1
        if self.share is not None:
            self.share.set_open_from(source, self._by_source[source])
        return source

    def uncount(self, source: int | None) -> None:
        """A connection counted under *source* has ended."""
        if source is not None:
            self._by_source[source] -= 1
            if self.share is not None:
                self.share.set_open_from(source, self._by_source[source])
            if not self._by_source[source]:
                del self._by_source[source]

    def share_with(self, share: EndpointShare) -> None:
        """Count together with other workers from now on, at *share*: what is open already, too."""
        before, self.share = self.share, share
        if before is not None and before.slot != share.slot:
            before.set_open(0)
            for source in self._by_source:
                before.set_open_from(source, 0)
        share.set_open(self._count_open())
        for source, opened in self._by_source.items():
            share.set_open_from(source, opened)


def level_of(reason: Reason) -> Any:
    """The log level of *reason*."""
    return LogLevel.lookupByName(reason.level)


def shown_peer(address: object) -> str:
    """The address of a peer, for people."""
    host = getattr(address, "host", None)
    return "local" if host is None else host_and_port(host, cast(Any, address).port)
