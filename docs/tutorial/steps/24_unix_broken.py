"""The same without a lock: what a kill leaves behind stops the next start."""

from twisted.internet import protocol, reactor


class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class EchoFactory(protocol.Factory):
    protocol = Echo


reactor.listenUNIX("echo.sock", EchoFactory())
reactor.run()
