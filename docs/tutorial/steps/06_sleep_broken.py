import time

from twisted.internet import protocol, reactor


class SlowEcho(protocol.Protocol):
    def dataReceived(self, data):
        print("received:", data)
        time.sleep(1)
        self.answer(data)

    def answer(self, data):
        print("answered:", data)
        self.transport.write(data)


reactor.listenTCP(1234, protocol.Factory.forProtocol(SlowEcho))
reactor.run()
