"""A client that writes up to 100 MB and never reads: how much does the server take?"""

import socket

CHUNK = bytes(1_000_000)

with socket.create_connection(("127.0.0.1", 1234)) as client:
    client.settimeout(3)
    try:
        for _ in range(100):
            client.sendall(CHUNK)
    except TimeoutError:
        print("the server has stopped reading")
    else:
        print("the server has taken 100 MB")
