from twisted.internet import protocol, reactor
from typing_extensions import override


class Echo(protocol.Protocol):
    @override
    def connectionMade(self):
        self.log_event("connected")

    @override
    def dataReceived(self, data):
        self.transport.write(data)

    def log_event(self, event):
        print(self.transport.getPeer().host, event)


reactor.listenTCP(1234, protocol.Factory.forProtocol(Echo))
reactor.run()
