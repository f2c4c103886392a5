from twisted.internet import protocol, reactor


class Capitals(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper())


class CapitalsFactory(protocol.Factory):
    def buildProtocol(self, addr):
        return Capitals()


reactor.listenTCP(1234, CapitalsFactory())
reactor.run()
