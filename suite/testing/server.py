"""``python -m suite.testing.server FILE FD DIRECTORY``: the process that `suite.testing.suite` starts.

It is the ordinary suite, on its own reactor, except that it records what it receives. Rules: records are
bounded; questions arrive on the socket inherited as descriptor FD, one JSON array per line, and each is
answered by one line of JSON; when the other end of that socket is gone, the suite exits and removes
DIRECTORY, which the parent process would have removed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.logger import globalLogPublisher
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer_only

from suite.admin.control import Control
from suite.admin.conversation import answer_to
from suite.admin.faults import FaultRequests
from suite.echo import Echo, EchoDatagram, EchoFactory, MeasuredEcho
from suite.endpoints.descriptions import EVERY_HOST, Description
from suite.endpoints.sockets import ListeningSocket
from suite.engine.interfaces import INeedsNoLogContext
from suite.errors import SuiteError
from suite.faults.streams import FaultyStream
from suite.guard.datagrams import DatagramPolicy
from suite.guard.streams import Guard
from suite.server import endpoint, process, service
from suite.server.plan import Plan
from suite.testing.fault_log import FaultLog, only_a_fault_holds
from suite.text import host_and_port

#: The most bytes kept for an endpoint: the last ones received.
KEPT: Final = 2**20

#: The most datagrams kept for an endpoint, since they may be small or empty.
KEPT_DATAGRAMS: Final = 10_000


class Record:
    """A record of what one endpoint has received.

    :ivar opened: the number of connections accepted.
    :ivar received: the number of bytes received.
    :ivar datagrams: the number of datagrams received.
    :ivar open: the open connections, in the order in which they were accepted.
    """

    def __init__(self) -> None:
        self.open: dict[RecordedEcho, None] = {}
        self.clear()

    def clear(self) -> None:
        """Forget everything except which connections are open."""
        self.opened = self.received = self.datagrams = 0
        self._stream = bytearray()
        self._datagrams: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Record bytes of a stream."""
        self.received += len(data)
        self._stream += data
        del self._stream[:-KEPT]

    def add_datagram(self, data: bytes) -> None:
        """Record a datagram."""
        self.received += len(data)
        self.datagrams += 1
        self._datagrams.append(data)
        self._size += len(data)
        while self._size > KEPT or len(self._datagrams) > KEPT_DATAGRAMS:
            self._size -= len(self._datagrams.popleft())

    def kept(self) -> bytes:
        """The last bytes, in the order in which they arrived."""
        return bytes(self._stream) + b"".join(self._datagrams)

    def kept_datagrams(self) -> list[bytes]:
        """The last datagrams."""
        return list(self._datagrams)


class RecordedEcho(Echo):
    """An `Echo` that keeps a `Record`.

    Its ``dataReceived`` is not marked as one that only writes back, so the engine calls it for every byte.
    """

    record: Record

    @override
    def connectionMade(self) -> None:
        self.record.opened += 1
        self.record.open[self] = None
        super().connectionMade()

    @override
    def dataReceived(self, data: bytes) -> None:
        self.record.add(data)
        super().dataReceived(data)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        del self.record.open[self]


class RecordedMeasuredEcho(RecordedEcho, MeasuredEcho):
    """A `MeasuredEcho` that keeps a `Record`."""


class RecordedFactory(EchoFactory):
    """Makes a `RecordedEcho` for every connection."""

    protocol = RecordedEcho
    measured = RecordedMeasuredEcho

    def __init__(self, record: Record, guard: Guard, refusal: type[Protocol] | None) -> None:
        super().__init__(guard, refusal)
        self.record = record

    @override
    def build(self, addr: IAddress | None, *, header: bool) -> Protocol | None:
        protocol = super().build(addr, header=header)
        answering = protocol.wrapped if isinstance(protocol, FaultyStream) else protocol
        if isinstance(answering, RecordedEcho):
            answering.record = self.record
        return protocol


@implementer_only(INeedsNoLogContext)  # not IEchoesDatagrams, whose datagrams never reach the protocol
class RecordedDatagrams(EchoDatagram):
    """An `EchoDatagram` that keeps a `Record`, also of datagrams that it does not answer."""

    def __init__(self, record: Record, policy: DatagramPolicy) -> None:
        super().__init__(policy)
        self.record = record

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.record.add_datagram(datagram)
        super().datagramReceived(datagram, addr)


class RecordedEndpoint(endpoint.RunningEndpoint):
    """An endpoint with a `Record`."""

    def __init__(self, record: Record, *arguments: Any) -> None:
        self.record = record
        super().__init__(*arguments)

    @override
    def make_factory(self, guard: Guard) -> EchoFactory:
        return RecordedFactory(self.record, guard, super().make_factory(guard).refusal)

    @override
    def make_datagrams(self, policy: DatagramPolicy) -> DatagramProtocol:
        answering = super().make_datagrams(policy)
        return RecordedDatagrams(self.record, policy) if isinstance(answering, EchoDatagram) else answering


class RecordingSuite(service.EchoSuite):
    """The suite, with a `Record` of each endpoint.

    :param control: the descriptor of a connected stream socket on which questions arrive.
    :param directory: the directory to remove when the other end of *control* is gone.
    """

    def __init__(
        self,
        control: int,
        directory: str,
        reactor: Any,
        plan: Plan,
        announce: Callable[[str], None],
    ) -> None:
        super().__init__(reactor, plan, announce)
        self.records: dict[str, Record] = {}
        self.fault_log = FaultLog()
        self.control = Control(self, FaultRequests(self))
        self.companions.append(self.control)
        self._control = control
        self._directory = directory

    @override
    def make_endpoint(
        self, description: Description, context: SSL.Context | None, sockets: list[ListeningSocket]
    ) -> endpoint.RunningEndpoint:
        record = self.records.setdefault(description.endpoint.name, Record())
        return RecordedEndpoint(record, self.surroundings, description, context, sockets)

    @override
    def startService(self) -> None:
        self.opened.addCallback(lambda _: self._listen_for_questions())
        super().startService()

    def _listen_for_questions(self) -> None:
        """Report the endpoints and their addresses, then answer questions."""
        described = [
            {
                "name": name,
                "transport": endpoint.description.transport,
                "proxied": endpoint.description.proxied,
                "address": client_address(endpoint.description, endpoint.ports[0]),
            }
            for name, endpoint in self.endpoints.items()
        ]
        globalLogPublisher.addObserver(self.fault_log)
        answers: dict[str, Callable[..., object]] = {
            **{word: partial(answer, self.records) for word, answer in ANSWERS.items()},
            "clear": self._clear,
            "faults": self._faults,
            "request": self._request,
        }
        asked = Factory.forProtocol(partial(Questions, self.reactor, answers, self._abandoned))
        asked.noisy = False
        os.set_blocking(self._control, False)
        connection = self.reactor.adoptStreamConnection(self._control, socket.AF_UNIX, asked)
        os.close(self._control)  # the connection has its own descriptor
        connection.protocol.say(described)

    @override
    def stopService(self) -> Deferred[None]:
        """Stop, and let the drain not wait for what no client waits for."""
        self._abort_what_only_faults_hold()
        return super().stopService()

    def _abort_what_only_faults_hold(self) -> None:
        for name, record in self.records.items():
            for connection in filter(only_a_fault_holds, list(record.open)):
                self.fault_log.leave(name, cast(Any, connection).number)
                cast(Any, connection.transport).abortConnection()

    def _clear(self) -> None:
        """Reset all records; a connection whose client has left is none of the next test's."""
        self._abort_what_only_faults_hold()
        clear(self.records)
        self.fault_log.clear()

    def _faults(self, name: str) -> Sequence[tuple[int, str, str | None]]:
        """What became of the connections, or the datagrams, of the endpoint *name*."""
        guard = self.endpoints[name].guard
        if guard is None:
            return self.fault_log.datagrams(name)
        opened = [each.number for each in guard.open if not only_a_fault_holds(each)]
        return self.fault_log.connections(name, opened)

    def _request(self, request: dict[str, object]) -> dict[str, Any]:
        """What the control socket would answer."""
        return answer_to(request, self.control.answer)

    def _abandoned(self) -> None:
        """The other end of the control socket is gone: shut down."""
        try:
            self.reactor.stop()
        except ReactorNotRunning:
            return  # already shutting down, which closes this connection
        self.reactor.addSystemEventTrigger(
            "after", "shutdown", shutil.rmtree, self._directory, ignore_errors=True
        )


class Questions(LineOnlyReceiver):
    """Answers questions.

    :param answers: what answers each question.
    :param abandoned: called when the connection is lost.
    """

    delimiter = b"\n"

    def __init__(
        self, reactor: Any, answers: Mapping[str, Callable[..., object]], abandoned: Callable[[], None]
    ) -> None:
        self.reactor = reactor
        self.answers = answers
        self.abandoned = abandoned

    def say(self, answer: object) -> None:
        """Send one line."""
        self.transport.write(json.dumps(answer).encode() + b"\n")  # type: ignore[union-attr]  # it is connected

    @override
    def lineReceived(self, line: bytes) -> None:
        word, *arguments = json.loads(line)
        # In the next turn, when connections that began or ended before the question have been processed.
        self.reactor.callLater(0, lambda: self.say(self.answers[word](*arguments)))

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.abandoned()


def counts(records: dict[str, Record], endpoint: str) -> list[int]:
    """The fields of `suite.testing.Counts`, in order."""
    record = records[endpoint]
    opened = [connection for connection in record.open if not only_a_fault_holds(connection)]
    return [record.opened, len(opened), record.received, record.datagrams]


def received(records: dict[str, Record], endpoint: str) -> str:
    """The last bytes, in base64."""
    return b64encode(records[endpoint].kept()).decode()


def datagrams(records: dict[str, Record], endpoint: str) -> list[str]:
    """The last datagrams, each in base64."""
    return [b64encode(datagram).decode() for datagram in records[endpoint].kept_datagrams()]


def open_connections(records: dict[str, Record]) -> list[tuple[str, str, int]]:
    """Endpoint, peer and bytes received of every open connection."""
    return [
        (endpoint, peer_of(connection), connection.received)
        for endpoint, record in records.items()
        for connection in record.open
        if not only_a_fault_holds(connection)
    ]


def clear(records: dict[str, Record]) -> None:
    """Reset all counts and received bytes."""
    for record in records.values():
        record.clear()


def abort(records: dict[str, Record]) -> None:
    """Abort every connection."""
    for record in records.values():
        for connection in list(record.open):
            cast(Any, connection.transport).abortConnection()


ANSWERS: Final[dict[str, Callable[..., object]]] = {
    "counts": counts,
    "received": received,
    "datagrams": datagrams,
    "open": open_connections,
    "abort": abort,
}


def client_address(description: Description, port: IListeningPort) -> tuple[str, int] | str:
    """The address at which clients reach *port*: host and port, or the path of a socket."""
    host = port.getHost()
    if isinstance(host, (IPv4Address, IPv6Address)):
        return EVERY_HOST.get(host.host, host.host), host.port
    if isinstance(host, UNIXAddress) and host.name:
        path = os.fsdecode(host.name)
        return path if path.startswith("\0") else os.path.abspath(path)
    return description.address


def peer_of(connection: Protocol) -> str:
    """The address of the peer of *connection*, for people."""
    peer = connection.transport.getPeer()  # type: ignore[union-attr]  # it is connected
    if isinstance(peer, (IPv4Address, IPv6Address)):
        return host_and_port(peer.host, peer.port)
    return os.fsdecode(peer.name) if isinstance(peer, UNIXAddress) and peer.name else "an unnamed socket"


def main(argv: Sequence[str]) -> int:
    """Run the suite; *argv* is FILE, FD and DIRECTORY."""
    file, control, directory = argv
    try:
        plan = Plan(Path(file), mint=True)

        make_suite = partial(RecordingSuite, int(control), directory)
        reactor = process.install_reactor(None)
        return process.run(reactor, plan, lambda _: None, make_suite=make_suite)
    except SuiteError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
