"""An echo server that listens where its argument says: tcp:1234, unix:echo.sock, ssl:4433:…"""

import sys

from twisted.internet import endpoints, protocol, reactor


class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class EchoFactory(protocol.Factory):
    protocol = Echo


def listen():
    server.listen(EchoFactory()).addCallbacks(listening, failed)


def listening(port):
    print("listening on", port.getHost())


def failed(failure):
    print(failure.getErrorMessage())
    reactor.stop()


server = endpoints.serverFromString(reactor, sys.argv[1])
reactor.callWhenRunning(listen)
reactor.run()
