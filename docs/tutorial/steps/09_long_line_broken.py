import socket

with socket.create_connection(("127.0.0.1", 1234)) as client:
    for message in (b"x" * 3000, b"hola mundo..."):
        client.sendall(message)
        print(f"sent {len(message)} bytes, received {len(client.recv(1024))}")
