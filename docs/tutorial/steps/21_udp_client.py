"""A UDP client: two datagrams go out, and two come back."""

import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(5)
    client.sendto(b"hola mundo...", ("127.0.0.1", 1234))
    client.sendto(b"... usando Twisted.", ("127.0.0.1", 1234))
    for _ in range(2):
        datagram, address = client.recvfrom(65535)
        print(datagram.decode())
