import socket

with socket.create_server(("", 1234)) as server:
    while True:
        connection, address = server.accept()
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)
