"""An echo server over UDP."""

from twisted.internet import protocol, reactor


class Echo(protocol.DatagramProtocol):
    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)


reactor.listenUDP(1234, Echo())
reactor.run()
