import socket


def receive_exactly(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError(f"the server has closed after {len(data)} of {size} bytes")
        data += piece
    return data


with socket.create_connection(("127.0.0.1", 1234)) as client:
    for message in (b"x" * 3000, b"hola mundo..."):
        client.sendall(message)
        print(f"sent {len(message)} bytes, received {len(receive_exactly(client, len(message)))}")
