"""A protocol, and its tests: python -m twisted.trial ./26_tests.py"""

from twisted.internet import task
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.trial.unittest import TestCase


class LineEcho(LineReceiver, TimeoutMixin):
    def connectionMade(self):
        self.setTimeout(60)

    def lineReceived(self, line):
        self.resetTimeout()
        self.sendLine(line)

    def connectionLost(self, reason):
        self.setTimeout(None)


class LineEchoTests(TestCase):
    def setUp(self):
        self.clock = task.Clock()
        self.transport = StringTransport()
        self.echo = LineEcho()
        self.echo.callLater = self.clock.callLater
        self.echo.makeConnection(self.transport)

    def test_a_line(self):
        self.echo.dataReceived(b"hola mundo...\r\n")
        self.assertEqual(self.transport.value(), b"hola mundo...\r\n")

    def test_byte_by_byte(self):
        for byte in b"hola\r\nmundo\r\n":
            self.echo.dataReceived(bytes([byte]))
        self.assertEqual(self.transport.value(), b"hola\r\nmundo\r\n")

    def test_silence(self):
        self.clock.advance(59)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)
