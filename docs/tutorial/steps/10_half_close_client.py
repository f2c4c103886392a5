"""Send 50 MB, say that this was all, and only then read: how much comes back?"""

import socket

MESSAGE = bytes(50_000_000)

with socket.create_connection(("127.0.0.1", 1234)) as client:
    client.sendall(MESSAGE)
    client.shutdown(socket.SHUT_WR)  # no more from us; we are still reading
    received = 0
    while data := client.recv(65536):
        received += len(data)

print("everything came back" if received == len(MESSAGE) else "the end is missing")
