"""A client that asks two questions, one after the other, with callbacks."""

from twisted.internet import defer, endpoints, protocol, task
from twisted.protocols.basic import LineReceiver


class Questions(LineReceiver):
    def ask(self, line):
        self.answer = defer.Deferred()
        self.sendLine(line)
        return self.answer

    def lineReceived(self, line):
        self.answer.callback(line)


def main(reactor):
    server = endpoints.clientFromString(reactor, "tcp:127.0.0.1:1234")
    connected = server.connect(protocol.Factory.forProtocol(Questions))
    connected.addCallback(first)
    return connected


def first(client):
    answer = client.ask(b"hola mundo...")
    answer.addCallback(second, client)
    return answer


def second(line, client):
    print(line.decode())
    answer = client.ask(b"... usando Twisted.")
    answer.addCallback(last, client)
    return answer


def last(line, client):
    print(line.decode())
    client.transport.loseConnection()


task.react(main)
