"""Chapter 13: an echo server with as many endpoints as it has arguments; one that fails stops no other."""

import sys

from twisted.internet import endpoints, protocol, reactor


class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


def listen():
    for text, server in servers.items():
        listened = server.listen(protocol.Factory.forProtocol(Echo))
        listened.addCallbacks(listening, failed, callbackArgs=[text], errbackArgs=[text])


def listening(port, text):
    print(f"{text}: listening")


def failed(failure, text):
    print(f"{text}: {failure.getErrorMessage()}")


servers = {text: endpoints.serverFromString(reactor, text) for text in sys.argv[1:]}
reactor.callWhenRunning(listen)
reactor.run()
