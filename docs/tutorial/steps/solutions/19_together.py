"""Chapter 19: the same question on three connections at once."""

from twisted.internet import defer, endpoints, protocol, task
from twisted.protocols.basic import LineReceiver


class Questions(LineReceiver):
    def ask(self, line):
        self.answer = defer.Deferred()
        self.sendLine(line)
        return self.answer

    def lineReceived(self, line):
        self.answer.callback(line)


async def ask(reactor, question):
    server = endpoints.clientFromString(reactor, "tcp:127.0.0.1:1234")
    client = await server.connect(protocol.Factory.forProtocol(Questions))
    try:
        return await client.ask(question).addTimeout(5, reactor)
    finally:
        client.transport.loseConnection()


async def main(reactor):
    questions = b"uno", b"dos", b"tres"
    asked = [defer.Deferred.fromCoroutine(ask(reactor, question)) for question in questions]
    for answer in await defer.gatherResults(asked, consumeErrors=True):
        print(answer.decode())


task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor)))
