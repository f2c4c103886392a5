"""Chapter 11: a server that counts, and answers once its client has closed its side."""

from twisted.internet import protocol, reactor
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class Count(protocol.Protocol):
    received = 0

    def dataReceived(self, data):
        self.received += len(data)

    def readConnectionLost(self):
        self.transport.write(f"{self.received} bytes\r\n".encode())
        self.transport.loseConnection()

    def writeConnectionLost(self):
        pass


reactor.listenTCP(1234, protocol.Factory.forProtocol(Count))
reactor.run()
