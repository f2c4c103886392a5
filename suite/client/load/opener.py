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
from suite.client.dial.waiting import within
from suite.client.load.datagrams import DatagramLane
from suite.client.load.streams import StreamLane
from suite.client.load.traffic import Lane, Traffic

#: How often a target is asked whether it answers datagrams at all.
HELLOS: Final = 3


class Opener:
    """Opens lanes to one target; the first one finds out where that is.

    :param dialer: connects to it.
    """

    def __init__(self, traffic: Traffic, dialer: Dialer) -> None:
        self._traffic = traffic
        self._dialer = dialer
        self._address: Address | None = None

    async def open(self, index: int) -> Lane:
        """Open lane *index*.

        :raises TargetError: it cannot be.
        """
        if self._dialer.target.transport == "udp":
            if self._address is None:
                self._address = await self._greeted()
            return DatagramLane(self._traffic, index, self._address)
        connected = await self._dialer.connect(None if self._address is None else [self._address])
        self._address = connected.address
        lane = StreamLane(self._traffic, index)
        await self._dialer.adopt(connected, lane)
        return lane

    async def _greeted(self) -> Address:
        """Where datagrams come back from: a name may have an address at which nobody listens."""
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
        hello.start(timeout / HELLOS).addErrback(refused)
        late = TargetError("lost", f"no datagram came back within {timeout:g} s")
        try:
            return await within(dialer.reactor, timeout, late, answer)
        finally:
            if hello.running:
                hello.stop()
            datagrams.close()
