from twisted.internet import protocol, reactor
from twisted.protocols.basic import LineReceiver


class Numbered(LineReceiver):
    delimiter = b"\n"
    count = 0

    def lineReceived(self, line):
        self.count += 1
        self.sendLine(b"%d: %s" % (self.count, line))


reactor.listenTCP(1234, protocol.Factory.forProtocol(Numbered))
reactor.run()
