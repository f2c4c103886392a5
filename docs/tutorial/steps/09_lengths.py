from twisted.internet import protocol, reactor
from twisted.protocols.basic import Int32StringReceiver


class Numbered(Int32StringReceiver):
    count = 0

    def stringReceived(self, string):
        self.count += 1
        self.sendString(b"%d: %s" % (self.count, string))


reactor.listenTCP(1234, protocol.Factory.forProtocol(Numbered))
reactor.run()
