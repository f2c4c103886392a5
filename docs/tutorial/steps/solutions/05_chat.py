from twisted.internet import protocol, reactor


class Chat(protocol.Protocol):
    def connectionMade(self):
        self.factory.people.add(self)
        self.factory.tell_others(self, b"(somebody comes)\n")

    def dataReceived(self, data):
        self.factory.tell_others(self, data)

    def connectionLost(self, reason):
        self.factory.people.remove(self)
        self.factory.tell_others(self, b"(somebody goes)\n")


class ChatFactory(protocol.Factory):
    protocol = Chat

    def __init__(self):
        self.people = set()

    def tell_others(self, speaker, data):
        for person in self.people - {speaker}:
            person.transport.write(data)


reactor.listenTCP(1234, ChatFactory())
reactor.run()
