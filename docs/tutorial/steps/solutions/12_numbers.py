"""Chapter 12: a server that counts without end, as fast as its client reads."""

from itertools import count

from twisted.internet import protocol, reactor
from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer


@implementer(IPullProducer)
class Numbers(protocol.Protocol):
    def connectionMade(self):
        self.numbers = count(1)
        self.transport.registerProducer(self, False)

    def resumeProducing(self):
        self.transport.write(f"{next(self.numbers)}\r\n".encode())

    def stopProducing(self):
        pass  # the connection is gone, and nobody asks for more


reactor.listenTCP(1234, protocol.Factory.forProtocol(Numbers))
reactor.run()
