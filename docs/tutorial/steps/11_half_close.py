"""An echo server whose clients may close their side first."""

from twisted.internet import protocol, reactor
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

    def readConnectionLost(self):
        self.transport.loseConnection()  # once all that we have written is sent

    def writeConnectionLost(self):
        pass  # only called if we close our side alone, with loseWriteConnection


class EchoFactory(protocol.Factory):
    protocol = Echo


reactor.listenTCP(1234, EchoFactory())
reactor.run()
