"""A client that asks two questions, one after the other, with a coroutine."""

import sys

from twisted.internet import defer, endpoints, error, protocol, task
from twisted.protocols.basic import LineReceiver


class Questions(LineReceiver):
    def ask(self, line):
        self.answer = defer.Deferred()
        self.sendLine(line)
        return self.answer

    def lineReceived(self, line):
        self.answer.callback(line)


async def main(reactor):
    server = endpoints.clientFromString(reactor, "tcp:127.0.0.1:1234")
    try:
        client = await server.connect(protocol.Factory.forProtocol(Questions))
    except error.ConnectError as failed:
        sys.exit(str(failed))
    for question in b"hola mundo...", b"... usando Twisted.":
        answer = await client.ask(question).addTimeout(5, reactor)
        print(answer.decode())
    client.transport.loseConnection()


task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor)))
