import socket

with socket.create_connection(("127.0.0.1", 1234)) as client:
    client.sendall(b"hola mundo...")
    print("received:", client.recv(1024))
    print("received:", client.recv(1024))
