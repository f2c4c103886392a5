from twisted.internet import protocol, reactor


class Echo(protocol.Protocol):
    def connection_made(self):
        self.log_event("connected")

    def dataReceived(self, data):
        self.transport.write(data)

    def log_event(self, event):
        print(self.transport.getPeer().host, event)


reactor.listenTCP(1234, protocol.Factory.forProtocol(Echo))
reactor.run()
