"""An echo server in four processes, which accept from one listening socket."""

import os
import socket
import subprocess
import sys
import threading

from twisted.internet import protocol, reactor

PROCESSES = 4


class Echo(protocol.Protocol):
    def connectionMade(self):
        print("process", os.getpid(), "has a client", flush=True)

    def dataReceived(self, data):
        self.transport.write(data)


class EchoFactory(protocol.Factory):
    protocol = Echo


def wait_for_the_end():
    os.read(0, 1)  # nothing comes through this pipe but its end, when the first process has gone
    reactor.callFromThread(reactor.stop)


def first():
    port = reactor.listenTCP(1234, EchoFactory())
    listener = port.fileno()
    return [
        subprocess.Popen(
            [sys.executable, __file__, str(listener)],
            pass_fds=[listener],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        for _ in range(PROCESSES - 1)
    ]


def another(listener):
    reactor.adoptStreamPort(listener, socket.AF_INET, EchoFactory())
    os.close(listener)  # adoptStreamPort has made a copy
    threading.Thread(target=wait_for_the_end, daemon=True).start()


if len(sys.argv) == 1:
    others = first()
else:
    another(int(sys.argv[1]))
reactor.run()
