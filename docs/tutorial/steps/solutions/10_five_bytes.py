from twisted.internet import protocol, reactor

SIZE = 5


class FiveBytes(protocol.Protocol):
    def connectionMade(self):
        self.buffer = b""

    def dataReceived(self, data):
        self.buffer += data
        while len(self.buffer) >= SIZE:
            message, self.buffer = self.buffer[:SIZE], self.buffer[SIZE:]
            self.transport.write(b"<%s>" % message)


reactor.listenTCP(1234, protocol.Factory.forProtocol(FiveBytes))
reactor.run()
