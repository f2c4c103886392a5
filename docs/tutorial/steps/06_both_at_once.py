import socket

SERVER = ("127.0.0.1", 1234)

with socket.create_connection(SERVER) as first, socket.create_connection(SERVER) as second:
    first.sendall(b"uno")
    second.sendall(b"dos")
    print(first.recv(1024).decode())
    print(second.recv(1024).decode())
