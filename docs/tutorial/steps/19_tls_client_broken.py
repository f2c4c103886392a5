"""A TLS client that encrypts, and asks nobody for a name: whoever answers will do."""

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


options = ssl.CertificateOptions()
reactor.connectSSL("127.0.0.1", 4433, HelloFactory(), options)
reactor.run()
