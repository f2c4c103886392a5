"""The same tests, and a protocol that believes that lines come one at a time, and whole."""

from twisted.internet import protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase


class LineEcho(protocol.Protocol):
    def dataReceived(self, data):
        line = data.rstrip(b"\r\n")
        self.transport.write(line + b"\r\n")


class LineEchoTests(TestCase):
    def setUp(self):
        self.transport = StringTransport()
        self.echo = LineEcho()
        self.echo.makeConnection(self.transport)

    def test_a_line(self):
        self.echo.dataReceived(b"hola mundo...\r\n")
        self.assertEqual(self.transport.value(), b"hola mundo...\r\n")

    def test_byte_by_byte(self):
        for byte in b"hola\r\nmundo\r\n":
            self.echo.dataReceived(bytes([byte]))
        self.assertEqual(self.transport.value(), b"hola\r\nmundo\r\n")
