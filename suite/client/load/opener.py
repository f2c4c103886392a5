"""Opening the connections of a load."""

from __future__ import annotations

import os
from typing import Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from suite.client.dial.addresses import Address
from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import TargetError
from suite.client.dial.waiting import with_timeout
from suite.client.load.datagrams import LoadDatagrams
from suite.client.load.streams import LoadStream
from suite.client.load.traffic import LoadConnection, Traffic

#: Datagrams sent, at equal intervals, to find an address that answers.
ATTEMPTS: Final = 3


class Opener:
    """Opens connections to one target; the first one determines the address for all.

    :param dialer: connects to the target.
    """

    def __init__(self, traffic: Traffic, dialer: Dialer) -> None:
        self._traffic = traffic
        self._dialer = dialer
        self._address: Address | None = None

    async def open(self, index: int) -> LoadConnection:
        """Open connection number *index*.

        :raises TargetError: the connection cannot be opened.
        """
        if self._dialer.target.transport == "udp":
            if self._address is None:
                self._address = await self._find_answering_address()
            return LoadDatagrams(self._traffic, index, self._address, self._dialer.options.source)
        dialed = await self._dialer.connect(None if self._address is None else [self._address])
        self._address = dialed.address
        connection = LoadStream(self._traffic, index)
        await self._dialer.adopt(dialed, connection)
        return connection

    async def _find_answering_address(self) -> Address:
        """The first address that answers datagrams: a name may have addresses at which nothing listens."""
        answer: Deferred[Address] = Deferred()

        def received(_data: bytes) -> None:
            if not answer.called:
                answer.callback(datagrams.address)

        def failed(error: TargetError) -> None:
            if not answer.called:
                answer.errback(error)

        def refused(failure: Failure) -> None:
            failure.trap(TargetError)
            failed(cast(TargetError, failure.value))

        dialer, timeout = self._dialer, self._dialer.options.timeout
        datagrams = await dialer.datagrams(received, failed)
        hello = LoopingCall(datagrams.send, os.urandom(self._traffic.size))
        hello.clock = dialer.reactor
        hello.start(timeout / ATTEMPTS).addErrback(refused)
        late = TargetError("lost", f"no datagram came back within {timeout:g} s")
        try:
            return await with_timeout(dialer.reactor, timeout, late, answer)
        finally:
            if hello.running:
                hello.stop()
            datagrams.close()
