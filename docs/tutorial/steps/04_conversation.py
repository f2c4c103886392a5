from twisted.internet import protocol, reactor


class Echo(protocol.Protocol):
    def connectionMade(self):
        print("connected:", self.transport.getPeer())

    def dataReceived(self, data):
        print("received:", data)
        self.transport.write(data)

    def connectionLost(self, reason):
        print("lost:", reason.getErrorMessage())


class EchoFactory(protocol.Factory):
    def buildProtocol(self, addr):
        return Echo()


reactor.listenTCP(1234, EchoFactory())
reactor.run()
