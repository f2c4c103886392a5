"""A TLS client that knows whom it is talking to. Its argument is the server's name."""

import sys
from pathlib import Path

from twisted.internet import protocol, reactor, ssl


class Hello(protocol.Protocol):
    def connectionMade(self):
        self.transport.write(b"hola mundo...")

    def dataReceived(self, data):
        print(data.decode())
        self.transport.loseConnection()

    def connectionLost(self, reason):
        print(reason.getErrorMessage())
        reactor.stop()


class HelloFactory(protocol.ClientFactory):
    protocol = Hello

    def clientConnectionFailed(self, connector, reason):
        print(reason.getErrorMessage())
        reactor.stop()


authority = ssl.Certificate.loadPEM(Path("authority.pem").read_bytes())
options = ssl.optionsForClientTLS(sys.argv[1], trustRoot=authority)
reactor.connectSSL("127.0.0.1", 4433, HelloFactory(), options)
reactor.run()
