from twisted.internet import protocol, reactor


class Shout(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data.decode().upper())


class ShoutFactory(protocol.Factory):
    def buildProtocol(self, addr):
        return Shout()


reactor.listenTCP(1234, ShoutFactory())
reactor.run()
