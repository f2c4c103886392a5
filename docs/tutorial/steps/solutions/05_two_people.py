import socket

SERVER = ("127.0.0.1", 1234)

with socket.create_connection(SERVER) as ada:
    with socket.create_connection(SERVER) as blas:
        print("Ada reads:", ada.recv(1024))
        blas.sendall(b"hola Ada\n")
        print("Ada reads:", ada.recv(1024))
        ada.sendall(b"hola Blas\n")
        print("Blas reads:", blas.recv(1024))
    print("Ada reads:", ada.recv(1024))
