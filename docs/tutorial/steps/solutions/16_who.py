"""Chapter 16: a server on a UNIX socket that asks the kernel who its clients are (Linux)."""

import pwd
import socket
import struct

from twisted.internet import protocol, reactor


class Who(protocol.Protocol):
    def connectionMade(self):
        credentials = self.transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("3i", credentials)
        self.transport.write(f"you are {pwd.getpwuid(uid).pw_name}, process {pid}\r\n".encode())
        self.transport.loseConnection()


reactor.listenUNIX("echo.sock", protocol.Factory.forProtocol(Who), mode=0o600, wantPID=True)
reactor.run()
