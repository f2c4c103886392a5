import socket
import threading


def echo(connection):
    with connection:
        while data := connection.recv(1024):
            connection.sendall(data)


with socket.create_server(("", 1234)) as server:
    while True:
        connection, address = server.accept()
        threading.Thread(target=echo, args=[connection], daemon=True).start()
