import socket
import sys

host, port = sys.argv[1:]

with socket.create_connection((host, int(port))) as client:
    while line := input("> "):
        client.sendall(line.encode())
        answer = client.recv(1024)
        if not answer:
            print("the server has closed the connection")
            break
        print(answer.decode())
