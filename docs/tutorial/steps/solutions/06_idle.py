from twisted.internet import protocol, reactor

PATIENCE = 2  # seconds


class Echo(protocol.Protocol):
    def connectionMade(self):
        self.end = reactor.callLater(PATIENCE, self.transport.loseConnection)

    def dataReceived(self, data):
        self.end.reset(PATIENCE)
        self.transport.write(data)

    def connectionLost(self, reason):
        if self.end.active():
            self.end.cancel()


reactor.listenTCP(1234, protocol.Factory.forProtocol(Echo))
reactor.run()
