import socket

with socket.create_connection(("127.0.0.1", 1234)) as client:
    while line := input("> "):
        client.sendall(line.encode())
        print(client.recv(1024).decode())
