from twisted.internet import protocol, reactor


class Numbered(protocol.Protocol):
    count = 0

    def dataReceived(self, data):
        self.count += 1
        message = data.rstrip(b"\n")
        self.transport.write(b"%d: %s\n" % (self.count, message))


reactor.listenTCP(1234, protocol.Factory.forProtocol(Numbered))
reactor.run()
