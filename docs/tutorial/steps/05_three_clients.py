import socket

SERVER = ("127.0.0.1", 1234)

clients = [socket.create_connection(SERVER) for _ in range(3)]
for client in clients:
    print(client.recv(1024))
