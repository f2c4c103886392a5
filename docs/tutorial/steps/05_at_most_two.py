from twisted.internet import protocol, reactor


class Echo(protocol.Protocol):
    def connectionMade(self):
        self.factory.open += 1
        self.transport.write(b"connections: %d" % self.factory.open)

    def dataReceived(self, data):
        self.transport.write(data)

    def connectionLost(self, reason):
        self.factory.open -= 1


class EchoFactory(protocol.Factory):
    protocol = Echo

    def __init__(self, most):
        self.most = most
        self.open = 0

    def buildProtocol(self, addr):
        if self.open == self.most:
            print("refused:", addr.host)
            return None
        return super().buildProtocol(addr)


reactor.listenTCP(1234, EchoFactory(most=2))
reactor.run()
