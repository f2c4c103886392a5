"""An echo server over TLS."""

from pathlib import Path

from twisted.internet import protocol, reactor, ssl


class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class EchoFactory(protocol.Factory):
    protocol = Echo


certificate = ssl.PrivateCertificate.loadPEM(Path("server.pem").read_bytes())
reactor.listenSSL(4433, EchoFactory(), certificate.options())
reactor.run()
