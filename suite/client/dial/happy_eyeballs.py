"""Happy eyeballs (RFC 8305): connect to the first of several addresses that answers.

Rules: the families take turns, the system's first choice first (section 4); the next address gets its turn
when the one before has failed, or after a short delay, while the earlier attempts go on (section 5); the
first connection wins, and the other attempts are ended.

Twisted's `HostnameEndpoint` does this for Twisted's own transports; it connects no socket for the engine's,
does not let the families take turns, and of several failures it tells one.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from suite.client.dial.addresses import Address
from suite.client.dial.failures import TargetError
from suite.client.dial.sockets import connect_socket
from suite.client.dial.waiting import timeout_error, with_timeout

#: Seconds from one attempt to the next ("Connection Attempt Delay", section 5).
ATTEMPT_DELAY: Final = 0.25


def taking_turns(addresses: Iterable[Address]) -> list[Address]:
    """*addresses* with the families in turn; within a family, and of the families, the first stays first."""
    families: dict[socket.AddressFamily, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    turns = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in turns if address is not None]


async def connect_first(
    reactor: Any, addresses: Iterable[Address], timeout: float, source: str | None
) -> tuple[socket.socket, Address]:
    """A socket connected to the first of *addresses* that accepts it, and that address.

    :param timeout: seconds for all of it.
    :param source: our own address; None: the system chooses.
    :raises TargetError: none accepts it; the word is that of the last failure.
    """
    race = _Race(reactor, taking_turns(addresses), timeout, source)
    late = TargetError("timeout", "")
    try:
        return await with_timeout(reactor, timeout, late, race.start())
    except TargetError as error:
        raise race.explain() if error is late else error from None


class _Race:
    """One race of attempts; see the module's rules."""

    def __init__(self, reactor: Any, addresses: list[Address], timeout: float, source: str | None) -> None:
        self._reactor = reactor
        self._waiting = addresses
        # Every address gets its turn within the timeout.
        self._delay = min(ATTEMPT_DELAY, timeout / len(addresses))
        self._timeout = timeout
        self._source = source
        self._attempts: list[tuple[Address, Deferred[socket.socket]]] = []
        self._problems: list[tuple[Address, TargetError]] = []
        self._next_turn: IDelayedCall | None = None
        self._won: Deferred[tuple[socket.socket, Address]] = Deferred(self._cancelled)

    def start(self) -> Deferred[tuple[socket.socket, Address]]:
        """Begin; fails with `TargetError` when all attempts have failed."""
        self._attempt_next()
        return self._won

    def explain(self) -> TargetError:
        """The error for all failures so far; attempts without an outcome have timed out."""
        late = timeout_error("no connection", self._timeout)
        problems = [*self._problems, *((address, late) for address, _ in self._attempts)]
        last = problems[-1][1]
        if len(problems) == 1:
            return last
        return TargetError(last.word, "; ".join(f"{address}: {problem}" for address, problem in problems))

    def _attempt_next(self) -> None:
        self._stop_clock()
        address = self._waiting.pop(0)
        attempt = connect_socket(self._reactor, address, self._source)
        self._attempts.append((address, attempt))
        if self._waiting:
            self._next_turn = self._reactor.callLater(self._delay, self._attempt_next)
        attempt.addCallbacks(self._connected, self._failed, callbackArgs=(address,), errbackArgs=(address,))

    def _connected(self, sock: socket.socket, address: Address) -> None:
        self._stop_clock()
        self._forget(address)
        if self._won.called:  # another one in the same turn of the reactor
            sock.close()
            return
        self._won.callback((sock, address))
        self._end_attempts()

    def _failed(self, failure: Failure, address: Address) -> None:
        if failure.check(CancelledError):
            return
        failure.trap(TargetError)
        self._forget(address)
        problem: Any = failure.value
        self._problems.append((address, problem))
        if self._waiting:
            self._attempt_next()
        elif not self._attempts:
            self._won.errback(self.explain())

    def _forget(self, address: Address) -> None:
        self._attempts = [attempt for attempt in self._attempts if attempt[0] is not address]

    def _cancelled(self, _won: object) -> None:
        self._stop_clock()
        self._end_attempts()

    def _end_attempts(self) -> None:
        for _, attempt in self._attempts:
            attempt.cancel()

    def _stop_clock(self) -> None:
        turn, self._next_turn = self._next_turn, None
        if turn is not None and turn.active():
            turn.cancel()
