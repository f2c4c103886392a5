import socket

PIECES = [b"hola mun", b"do...\n", b"uno\ndos\n"]

with socket.create_connection(("127.0.0.1", 1234)) as client:
    client.settimeout(5)
    for piece in PIECES:
        client.sendall(piece)
        try:
            answer = client.recv(1024)
        except TimeoutError:
            answer = "nothing"
        print(f"sent {piece}, received {answer}")
