"""Send 50 MB from one thread, and read from another: how much comes back?"""

import socket
import threading

MESSAGE = bytes(50_000_000)


def send(client):
    client.sendall(MESSAGE)
    client.shutdown(socket.SHUT_WR)


with socket.create_connection(("127.0.0.1", 1234)) as client:
    sender = threading.Thread(target=send, args=[client])
    sender.start()
    received = 0
    while data := client.recv(65536):
        received += len(data)
    sender.join()

print("everything came back" if received == len(MESSAGE) else "the end is missing")
