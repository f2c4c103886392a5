"""Faults between a UDP port and the protocol that answers on it.

Rules: `FaultyDatagrams` is a protocol to the port and a transport to the answering protocol, so that neither
knows of it, and what is not admitted never comes here. A fault makes no datagram longer, and adds one copy at
the most, which costs a token of its source like any reply. A delayed reply leaves from the address that was
asked. What waits belongs to the endpoint, not to a port: a reload leaves it where it is.

With ``faults = "requested"`` the first datagram of a source is a request, and the answer to it is no longer
than three times the request (as QUIC answers an address that it has not validated, RFC 9000, section 8.1).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import implementer

from suite.config.fault_text import words
from suite.config.faults import NO_FAULTS, Faults, Kind
from suite.engine.interfaces import INeedsNoLogContext
from suite.faults.line import Line
from suite.faults.packets import PacketDecider, Verdict, strike_datagrams
from suite.faults.replay import said_of_datagrams
from suite.faults.requested import request
from suite.faults.streams import LONGEST_REQUEST
from suite.guard.datagrams import LOG_INTERVAL, DatagramPolicy
from suite.text import host_and_port

if TYPE_CHECKING:
    from suite.guard.shared import EndpointShare  # which one process alone does not need

log = Logger()

#: Seconds of silence after which a source is forgotten that has chosen its faults.
FORGOTTEN_AFTER: Final = 60.0

#: What the answer to a wrong request begins with; a request that does so itself is such an answer, come back.
ERROR: Final = b"error: "

#: The answer to a request has at most so many times the bytes of the request.
MOST_AMPLIFIED: Final = 3

Address = tuple[str, int]


class _Source:
    """A source that has chosen its faults; its datagrams are counted from 1."""

    def __init__(self, faults: Faults, now: float) -> None:
        self.decider = PacketDecider(faults)
        self.last_received = now


class DatagramFaults:
    """How one UDP endpoint misbehaves, on all of its ports.

    :param clock: the reactor.
    :param policy: decides which datagrams are answered; its name is the endpoint's.
    :param struck: counts the datagrams that each kind of fault strikes.
    :ivar line: what waits to be sent.
    :ivar any: whether anything is declared.
    :ivar share: what other workers count of the same endpoint; None: there are no others.
    """

    share: EndpointShare | None = None

    def __init__(self, clock: IReactorTime, policy: DatagramPolicy, struck: Counter[Kind]) -> None:
        self.line = Line(clock)
        self.struck = struck
        self._clock = clock
        self._policy = policy
        self._faults = NO_FAULTS
        self.any = False
        self._decider: PacketDecider | None = None
        self._told: Faults | None = None  # which faults the log has said to be in force
        self._sources: OrderedDict[Address, _Source] = OrderedDict()
        self._quiet_until = float("-inf")

    @property
    def faults(self) -> Faults:
        """What is declared; once nothing is, the next datagram under faults is number 1 again."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self.any = strike_datagrams(faults)
        if not self.any or faults.requested:
            if self._decider is not None and self._told is not None:
                self._tell(self._decider.number + 1, NO_FAULTS)
            if self._decider is not None and self.share is not None:
                # Each worker does it after its last number, so it holds once all of them have.
                self.share.numbers.restart()
            self._decider = self._told = None
        elif self._decider is None:
            self._decider = PacketDecider(faults)
            if self.share is not None:
                self._decider.next_number = self._next_number
                self._decider.claim = self._claim
        else:
            self._decider.faults = faults
        if not faults.requested:
            self._sources.clear()

    # As the share is then, not as it is now.

    def _next_number(self) -> int:
        return cast("EndpointShare", self.share).numbers.next()

    def _claim(self, what: object) -> bool:
        return cast("EndpointShare", self.share).claim(what)

    def answer(self, datagram: bytes, addr: Address, send: Callable[[], Callable[[bytes], object]]) -> bool:
        """Let *datagram* go back to *addr* as the faults allow; return false if they do not touch it.

        :param send: makes what sends a reply, now or later.
        """
        source = self._sources.get(addr)
        decider = self._decider if source is None else source.decider
        if decider is None:
            return False
        verdict = decider.decide(addr[0], len(datagram), self._clock.seconds())
        if source is None and decider.in_force is not self._told:
            self._told = decider.in_force
            self._tell(verdict.number, decider.in_force)
        if verdict.duplicated and not self._policy.admits_copy(addr):
            kinds = tuple(kind for kind in verdict.kinds if kind is not Kind.DUPLICATE)
            verdict = verdict._replace(duplicated=False, kinds=kinds)
        if not verdict.kinds and not self.line.has_before(addr):
            return False
        lost = 0
        if not verdict.lost:
            lost = self.line.put(verdict.apply(datagram), verdict, addr, send())
        if verdict.kinds:
            self._note(verdict, addr, lost)
        return True

    def _tell(self, number: int, faults: Faults) -> None:
        """Log that *faults* are in force from datagram *number* on."""
        log.info(
            "{declared}",
            endpoint=self._policy.name,
            declared=said_of_datagrams(number, faults),
            unlimited=True,  # a replay needs all of them
        )

    def _note(self, verdict: Verdict, addr: Address, lost: int) -> None:
        """Count what *verdict* says, and log it."""
        for kind in verdict.kinds:
            self.struck[kind] += 1
        if lost:
            self.struck[Kind.LOSS] += lost
        log.debug(
            "faults: datagram {number}: {verdict}" + ("; lost: too much is waiting" if lost else ""),
            endpoint=self._policy.name,
            peer=host_and_port(*addr[:2]),
            number=verdict.number,
            verdict=verdict,
        )
        now = self._clock.seconds()
        if now >= self._quiet_until:
            self._quiet_until = now + LOG_INTERVAL
            counts = [f"{kind} {count:,}" for kind, count in self.struck.items()]
            log.info("faults so far: {counts}", endpoint=self._policy.name, counts=", ".join(counts))

    # Requests.

    def awaits_request(self, addr: Address) -> bool:
        """Whether the next datagram from *addr* is to be a request for faults."""
        if not self._faults.requested:
            return False
        now = self._clock.seconds()
        source = self._sources.get(addr)
        if source is None or now - source.last_received > FORGOTTEN_AFTER:
            return True
        source.last_received = now
        self._sources.move_to_end(addr)
        return False

    def request(self, datagram: bytes, addr: Address) -> bytes | None:
        """The answer to a request for faults; None: there is none.

        What is wrong and comes from another server, which answers our answers, is not answered, as no error
        of ICMP is by another one (RFC 1122, section 3.2.2).
        """
        problem = f"a request has at most {LONGEST_REQUEST} bytes"
        if len(datagram) <= LONGEST_REQUEST:
            try:
                self._choose(datagram.decode("ascii", "replace").strip(), addr)
            except ValueError as error:
                problem = str(error)
            else:
                problem = ""
        answer = b"ok\n"
        if problem:
            if datagram.startswith(ERROR) or self._policy.goes_round(addr, datagram):
                return None
            answer = ERROR + problem.encode("ascii", "backslashreplace") + b"\n"
        return answer[: MOST_AMPLIFIED * len(datagram)]

    def _choose(self, text: str, addr: Address) -> None:
        """Let the source *addr* have the faults that it asks for.

        :raises ValueError: it cannot have them.
        """
        decision = request(text, "UDP", self._faults)
        now = self._clock.seconds()
        self._sources[addr] = _Source(Faults(decision.faults, decision.seed), now)
        self._sources.move_to_end(addr)
        while len(self._sources) > self._faults.most:
            self._sources.popitem(last=False)
        log.info(
            "faults requested: {faults}",
            endpoint=self._policy.name,
            peer=host_and_port(*addr[:2]),
            faults="; ".join(map(words, decision.faults)) or "none",
        )


@implementer(INeedsNoLogContext)
class FaultyDatagrams(DatagramProtocol):
    """The faults of an endpoint between one of its ports and the protocol that answers.

    :param wrapped: the answering protocol; it answers through ``transport.write(datagram, addr)``.
    :param policy: decides which sources are answered.
    :param faults: the endpoint's.
    """

    noisy = False

    def __init__(self, wrapped: DatagramProtocol, policy: DatagramPolicy, faults: DatagramFaults) -> None:
        self.wrapped = wrapped
        self.policy = policy
        self.faults = faults
        self.traffic = policy.traffic

    # To the port.

    @override
    def startProtocol(self) -> None:
        self.wrapped.makeConnection(self)  # type: ignore[arg-type]  # all of a transport that answers need

    @override
    def stopProtocol(self) -> None:
        self.wrapped.doStop()

    @override
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if not self.faults.awaits_request(addr):
            self.wrapped.datagramReceived(datagram, addr)
        elif self.policy.admit(addr, 1, self.sent_to_many):
            answer = self.faults.request(datagram, addr)
            if answer is not None:
                self.transport.write(answer, addr)  # type: ignore[union-attr]  # listening

    # To the answering protocol.

    if not TYPE_CHECKING:  # mypy sees a name that is misspelt

        def __getattr__(self, name: str) -> Any:
            # What the answers ask of a port, this one passes on.
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__} has no {name}", name=name, obj=self)
            return getattr(self.transport, name)

    @property
    def sent_to_many(self) -> bool:
        """Whether the datagram that is being received was sent to a broadcast or multicast address."""
        return getattr(self.transport, "sent_to_many", False)

    def write(self, datagram: bytes, addr: Any = None) -> None:
        """Answer with *datagram*, as the faults allow."""
        if not self.faults.answer(datagram, addr, partial(self._way_back, addr)):
            self.transport.write(datagram, addr)  # type: ignore[union-attr]  # listening

    def _way_back(self, addr: Address) -> Callable[[bytes], object]:
        """What answers, now or later, the datagram from *addr* that is being received."""
        keep_reply = getattr(self.transport, "keep_reply", None)
        if keep_reply is not None:
            send: Callable[[bytes], object] = keep_reply(addr).send
            return send
        return partial(_write_if_open, self.transport, addr)


def _write_if_open(transport: Any, addr: Address, datagram: bytes) -> None:
    """Answer through a port that is not one of ours."""
    if getattr(transport, "connected", True):
        transport.write(datagram, addr)
