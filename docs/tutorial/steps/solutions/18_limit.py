"""Chapter 18: a line that is too long ends the connection, and a test shows it."""

from twisted.internet.testing import StringTransport
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import TestCase


class LineEcho(LineReceiver):
    MAX_LENGTH = 1000

    def lineReceived(self, line):
        self.sendLine(line)


class LongLineTests(TestCase):
    def setUp(self):
        self.transport = StringTransport()
        self.echo = LineEcho()
        self.echo.makeConnection(self.transport)

    def test_as_long_as_allowed(self):
        self.echo.dataReceived(b"a" * 1000 + b"\r\n")
        self.assertEqual(self.transport.value(), b"a" * 1000 + b"\r\n")
        self.assertFalse(self.transport.disconnecting)

    def test_too_long(self):
        self.echo.dataReceived(b"a" * 1001 + b"\r\n")
        self.assertEqual(self.transport.value(), b"")
        self.assertTrue(self.transport.disconnecting)

    def test_too_long_without_an_end(self):
        self.echo.dataReceived(b"a" * 1003)
        self.assertTrue(self.transport.disconnecting)
