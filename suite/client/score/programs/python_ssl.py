"""A client with Python's ``ssl``, as its manual advises: arguments are HOST, PORT and the CA's file."""

from __future__ import annotations

import socket
import ssl
import sys

TIME_LIMIT = 5.0


def main() -> int:
    """Print the answer; return 0 when there is one, otherwise 1 after the error."""
    host, port, ca = sys.argv[1:]
    try:
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["http/1.1"])
        with (
            socket.create_connection((host, int(port)), TIME_LIMIT) as sock,
            context.wrap_socket(sock, server_hostname=host) as connection,
        ):
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            print(connection.recv(4096).decode(errors="replace"))  # what it is for
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
