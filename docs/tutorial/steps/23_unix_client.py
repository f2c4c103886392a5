"""A client of the UNIX socket: what chapter 7 has, with a path for an address."""

import socket

with socket.socket(socket.AF_UNIX) as client:
    client.connect("echo.sock")
    client.sendall(b"hola mundo...")
    print(client.recv(1024).decode())
