"""An echo server on a UNIX socket, for this machine alone."""

from twisted.internet import protocol, reactor


class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class EchoFactory(protocol.Factory):
    protocol = Echo


reactor.listenUNIX("echo.sock", EchoFactory(), mode=0o600, wantPID=True)
reactor.run()
