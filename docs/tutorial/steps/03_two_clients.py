import socket

SERVER = ("127.0.0.1", 1234)

first = socket.create_connection(SERVER)
second = socket.create_connection(SERVER)

second.sendall(b"hola mundo...")
second.settimeout(5)
try:
    print("second client:", second.recv(1024).decode())
except TimeoutError:
    print("second client: no answer in 5 seconds")
    first.close()
    second.settimeout(None)
    print("second client, now that the first has gone:", second.recv(1024).decode())
