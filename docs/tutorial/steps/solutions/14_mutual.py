"""Chapter 14: an echo server over TLS for clients with a certificate of our authority."""

from pathlib import Path

from twisted.internet import protocol, reactor, ssl


class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


certificate = ssl.PrivateCertificate.loadPEM(Path("server.pem").read_bytes())
authority = ssl.Certificate.loadPEM(Path("authority.pem").read_bytes())
reactor.listenSSL(4433, protocol.Factory.forProtocol(Echo), certificate.options(authority))
reactor.run()
