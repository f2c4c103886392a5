"""Chapter 17: an echo server that can be started as often as you like, on one port."""

import os
import socket

from twisted.internet import protocol, reactor


class Echo(protocol.Protocol):
    def connectionMade(self):
        print("process", os.getpid(), "has a client", flush=True)

    def dataReceived(self, data):
        self.transport.write(data)


with socket.socket() as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections do not matter
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", 1234))
    listener.listen(50)
    listener.setblocking(False)
    reactor.adoptStreamPort(listener.fileno(), socket.AF_INET, protocol.Factory.forProtocol(Echo))
reactor.run()
